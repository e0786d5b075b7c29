import CPente
import Pente
import PenteKernels

extension Scalar {
    static var dtype: pente_dtype { pente_dtype(MemoryLayout<Self>.size == 4 ? PENTE_FLOAT32 : PENTE_FLOAT64) }
}

extension UnsafePointer<pente_matrix>? {
    /// The caller's matrix as a view of `Element`, or what is wrong with it.
    func view<Element: Scalar>(_ name: StaticString, of _: Element.Type = Element.self) throws(PenteError)
        -> MatrixView<Element>
    {
        let matrix = try require(self, name).pointee
        let (rows, columns, rowStride) = (Int(matrix.rows), Int(matrix.columns), Int(matrix.row_stride))
        guard rows >= 1, columns >= 1 else {
            throw PenteError(.invalidArgument, "\(name) is \(rows, columns); both sizes must be at least 1")
        }
        guard rowStride >= columns else {
            throw PenteError(.invalidArgument, "\(name) has a row_stride of \(rowStride), below its \(columns) columns")
        }
        try requireDtype(matrix.dtype, Element.self, name)
        let (span, overflow) = (rows - 1).multipliedReportingOverflow(by: rowStride)
        let (count, overflow2) = span.addingReportingOverflow(columns)
        let (bytes, overflow3) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.size)
        let address = UInt(bitPattern: matrix.data)
        if overflow || overflow2 || overflow3 || address.addingReportingOverflow(UInt(bytes)).overflow {
            throw PenteError(
                .invalidArgument,
                "\(name) is \(rows, columns) with a row_stride of \(rowStride): more than memory can hold")
        }
        guard let data = matrix.data else { throw PenteError(.invalidArgument, "\(name) has data NULL") }
        if address % UInt(MemoryLayout<Element>.alignment) != 0 {
            throw PenteError(
                .invalidArgument, "\(name) has data that is not aligned to \(MemoryLayout<Element>.alignment) bytes")
        }
        return MatrixView(
            UnsafePointer(data.assumingMemoryBound(to: Element.self)), rows: rows, columns: columns,
            rowStride: rows == 1 ? columns : rowStride)
    }

    /// The same, if it is not NULL.
    func viewIfAny<Element: Scalar>(_ name: StaticString, of _: Element.Type = Element.self) throws(PenteError)
        -> MatrixView<Element>?
    {
        self == nil ? nil : try view(name)
    }

    func output<Element: Scalar>(_ name: StaticString, of _: Element.Type = Element.self) throws(PenteError) -> Output<
        Element
    > {
        Output(try view(name), name)
    }

    func outputIfAny<Element: Scalar>(_ name: StaticString, of _: Element.Type = Element.self) throws(PenteError)
        -> Output<Element>?
    {
        self == nil ? nil : try output(name)
    }

    /// The dtype that the matrix says it has, for functions that take either.
    func dtype(_ name: StaticString) throws(PenteError) -> pente_dtype {
        let dtype = try require(self, name).pointee.dtype
        try requireKnown(dtype, name)
        return dtype
    }
}

func requireKnown(_ dtype: pente_dtype, _ name: StaticString) throws(PenteError) {
    if dtype != Float.dtype && dtype != Double.dtype {
        throw PenteError(
            .invalidArgument, "\(name) has dtype \(dtype), which is neither PENTE_FLOAT32 nor PENTE_FLOAT64")
    }
}

private func requireDtype<Element: Scalar>(
    _ dtype: pente_dtype, _: Element.Type, _ name: StaticString
) throws(PenteError) {
    try requireKnown(dtype, name)
    if dtype != Element.dtype {
        let actual = dtype == Float.dtype ? Float.dtypeName : Double.dtypeName
        throw PenteError(.dtypeMismatch, "\(name) is \(actual), but \(Element.dtypeName) was expected")
    }
}

/// A matrix that a call writes, and that must not overlap what it reads.
struct Output<Element: Scalar> {
    let view: MutableMatrixView<Element>
    let name: StaticString

    init(_ view: MatrixView<Element>, _ name: StaticString) {
        self.view = MutableMatrixView(
            UnsafeMutablePointer(mutating: view.base), rows: view.rows, columns: view.columns,
            rowStride: view.rowStride)
        self.name = name
    }

    func requireApart(from other: MatrixView<Element>?, _ otherName: StaticString) throws(PenteError) {
        if let other, view.readOnly.overlaps(other) {
            throw PenteError(.invalidArgument, "\(name) overlaps \(otherName)")
        }
    }

    func requireApart(from other: Output?) throws(PenteError) {
        if let other { try requireApart(from: other.view.readOnly, other.name) }
    }

    func requireApart(from layer: Layer<Element>) throws(PenteError) {
        try view.readOnly.requireApart(from: layer, name)
    }
}

extension MatrixView where Scalar: Pente.Scalar {
    private var start: UInt { UInt(bitPattern: base) }
    private var end: UInt { start + UInt(((rows - 1) * rowStride + columns) * MemoryLayout<Scalar>.size) }

    /// For an output, and for the input of a call that writes the layer.
    func requireApart(from layer: Layer<Scalar>, _ name: StaticString) throws(PenteError) {
        for parameter in layer.parameters where overlaps(parameter.view) || overlaps(parameter.gradientView) {
            throw PenteError(.invalidArgument, "\(name) overlaps the layer's \(parameter.name)")
        }
    }

    /// Whether an element of one is an element of the other. Two blocks of columns of one table may interleave; other
    /// layouts that do are taken to overlap.
    func overlaps(_ other: MatrixView) -> Bool {
        if end <= other.start || other.end <= start { return false }
        let stride = rows == 1 ? other.rowStride : rowStride
        guard other.rows == 1 || other.rowStride == stride, columns <= stride, other.columns <= stride else {
            return true
        }
        let strideBytes = stride * MemoryLayout<Scalar>.size
        let distance = Int(bitPattern: other.start &- start) % strideBytes
        let offset = distance < 0 ? distance + strideBytes : distance
        return offset < columns * MemoryLayout<Scalar>.size
            || offset + other.columns * MemoryLayout<Scalar>.size > strideBytes
    }

    /// The view as C sees it.
    var matrix: pente_matrix {
        pente_matrix(
            data: UnsafeMutableRawPointer(mutating: base), rows: Int64(rows), columns: Int64(columns),
            row_stride: Int64(rowStride), dtype: Scalar.dtype)
    }
}

import CPente
import PenteKernels

extension Scalar {
    static var dtype: pente_dtype { pente_dtype(MemoryLayout<Self>.size == 4 ? PENTE_FLOAT32 : PENTE_FLOAT64) }
}

extension UnsafePointer<pente_matrix>? {
    /// The caller's matrix as a view of `Element`, or what is wrong with it.
    @_optimize(speed)
    func view<Element: Scalar>(_ name: StaticString, of _: Element.Type = Element.self) throws(PenteError)
        -> MatrixView<Element>
    {
        let matrix = try require(self, name)
        // Field by field: a copy of the struct would go by way of the stack.
        let (rows, columns) = (Int(matrix.pointee.rows), Int(matrix.pointee.columns))
        let rowStride = Int(matrix.pointee.row_stride)
        let (span, overflow) = (rows &- 1).multipliedReportingOverflow(by: rowStride)
        let (count, overflow2) = span.addingReportingOverflow(columns)
        let (bytes, overflow3) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.size)
        let address = UInt(bitPattern: matrix.pointee.data)
        let overflow4 = address.addingReportingOverflow(UInt(bitPattern: bytes)).overflow
        let fitsMemory = !(overflow || overflow2 || overflow3 || overflow4)
        guard rows >= 1, columns >= 1, rowStride >= columns, matrix.pointee.dtype == Element.dtype, fitsMemory,
            address % UInt(MemoryLayout<Element>.alignment) == 0, let data = matrix.pointee.data
        else { throw refusal(of: matrix.pointee, fitsMemory, Element.dtype, name) }
        let view = MatrixView(
            UnsafePointer(data.assumingMemoryBound(to: Element.self)), rows: rows, columns: columns,
            rowStride: rows == 1 ? columns : rowStride)
        #if PENTE_CHECKED
            try view.requireAccess(name)
        #endif
        return view
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
        let view: MatrixView<Element> = try view(name)
        #if PENTE_CHECKED
            try view.requireAccess(name, writes: true)
        #endif
        return Output(view, name)
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

/// What is wrong with a matrix that is no view of such elements.
@inline(never)
private func refusal(
    of matrix: pente_matrix, _ fitsMemory: Bool, _ dtype: pente_dtype, _ name: StaticString
) -> PenteError {
    let (rows, columns, rowStride) = (Int(matrix.rows), Int(matrix.columns), Int(matrix.row_stride))
    if rows < 1 || columns < 1 {
        return PenteError(.invalidArgument, "\(name) is \(rows, columns); both sizes must be at least 1")
    }
    if rowStride < columns {
        return PenteError(.invalidArgument, "\(name) has a row_stride of \(rowStride), below its \(columns) columns")
    }
    let isFloat32 = dtype == Float.dtype
    if matrix.dtype != dtype {
        do throws(PenteError) { try requireKnown(matrix.dtype, name) } catch { return error }
        let (expected, other) =
            isFloat32 ? (Float.dtypeName, Double.dtypeName) : (Double.dtypeName, Float.dtypeName)
        return PenteError(.dtypeMismatch, "\(name) is \(other), but \(expected) was expected")
    }
    if !fitsMemory {
        return PenteError(
            .invalidArgument,
            "\(name) is \(rows, columns) with a row_stride of \(rowStride): more than memory can hold")
    }
    if matrix.data == nil { return PenteError(.invalidArgument, "\(name) has data NULL") }
    return PenteError(
        .invalidArgument, "\(name) has data that is not aligned to \(isFloat32 ? 4 : 8) bytes")
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

    @inline(__always)
    func requireApart(from other: MatrixView<Element>?, _ otherName: StaticString) throws(PenteError) {
        if let other, view.readOnly.overlaps(other) { throw overlapping(otherName) }
    }

    @inline(never)
    private func overlapping(_ otherName: StaticString) -> PenteError {
        PenteError(.invalidArgument, "\(name) overlaps \(otherName)")
    }

    /// The same, where it may take its time.
    func requireDistinct(from other: MatrixView<Element>?, _ otherName: StaticString) throws(PenteError) {
        if let other, view.readOnly.meets(other) { throw overlapping(otherName) }
    }
}

/// Addresses from a start to an end.
struct AddressRange {
    private var start = UInt.max
    private var end: UInt = 0

    mutating func add(_ other: AddressRange) { self = union(other) }

    mutating func add<Element: Scalar>(_ view: MatrixView<Element>) {
        add(AddressRange(start: view.start, end: view.end))
    }

    @inline(__always)
    func union(_ other: AddressRange) -> AddressRange {
        AddressRange(start: min(start, other.start), end: max(end, other.end))
    }

    @inline(__always)
    func isApart<Element: Scalar>(from view: MatrixView<Element>) -> Bool { view.end <= start || end <= view.start }
}

extension MatrixView where Scalar: Pente.Scalar {
    @inline(__always)
    fileprivate var start: UInt { UInt(bitPattern: base) }
    @inline(__always)
    fileprivate var end: UInt {
        start &+ UInt(bitPattern: ((rows &- 1) &* rowStride &+ columns) &* MemoryLayout<Scalar>.size)
    }

    /// For an output, and for the input of a call that writes the layer.
    @inline(never)
    func requireApart(from layer: Layer<Scalar>, _ name: StaticString) throws(PenteError) {
        for parameter in layer.parameters where meets(parameter.view) || meets(parameter.gradientView) {
            throw PenteError(.invalidArgument, "\(name) overlaps the layer's \(parameter.name)")
        }
    }

    /// Whether an element of one is an element of the other.
    @inline(__always)
    func overlaps(_ other: MatrixView) -> Bool {
        if end <= other.start || other.end <= start { return false }
        return sharesElements(with: other)
    }

    /// The same, called and not inlined: what asks has no element's size in it, and so is there once for both types.
    @inline(never)
    func meets(_ other: MatrixView) -> Bool { overlaps(other) }

    /// The same, if their memory does overlap. Two blocks of columns of one table may interleave; other layouts that do
    /// are taken to overlap.
    @inline(never)
    private func sharesElements(with other: MatrixView) -> Bool {
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

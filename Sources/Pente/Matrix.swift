import PenteKernels

/// A matrix, a row an example: a value, which shares its memory with its copies and its blocks of columns until one
/// of them is written. Its memory is an array's: where there is none, Swift ends the process.
public struct Matrix<Element: Scalar>: Sendable, Equatable {
    /// At least 1.
    public let rows: Int
    /// At least 1.
    public let columns: Int
    private var storage: [Element]
    private let offset: Int
    private let rowStride: Int

    private init(rows: Int, columns: Int, storage: [Element], offset: Int, rowStride: Int) {
        self.rows = rows
        self.columns = columns
        self.storage = storage
        self.offset = offset
        self.rowStride = rowStride
    }

    /// `elements` in row-major order, rows × columns of them.
    ///
    /// Throws `.invalidArgument` for a size below 1, and `.shapeMismatch` for another number of elements.
    public init(rows: Int, columns: Int, elements: [Element]) throws(PenteError) {
        try requireSizes(rows, columns, "the matrix")
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        guard !overflow, elements.count == count else {
            throw PenteError(
                .shapeMismatch, "elements has \(elements.count) numbers, but a \(rows, columns) matrix was asked for")
        }
        self.init(rows: rows, columns: columns, storage: elements, offset: 0, rowStride: columns)
    }

    /// A copy, whose rows lie one behind another.
    init(copying view: MatrixView<Element>) {
        let elements = [Element](unsafeUninitializedCapacity: view.rows * view.columns) { buffer, count in
            MutableMatrixView(buffer.baseAddress!, rows: view.rows, columns: view.columns).copy(view)
            count = buffer.count
        }
        self.init(rows: view.rows, columns: view.columns, storage: elements, offset: 0, rowStride: view.columns)
    }

    /// A matrix that repeats one number.
    ///
    /// Throws `.invalidArgument` for a size below 1, and `.outOfMemory` for more elements than can be counted.
    public init(rows: Int, columns: Int, repeating element: Element = 0) throws(PenteError) {
        try requireSizes(rows, columns, "the matrix")
        let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
        if overflow { throw .outOfMemory }
        self.init(
            rows: rows, columns: columns, storage: [Element](repeating: element, count: count), offset: 0,
            rowStride: columns)
    }

    /// The element in `row` and `column`, from 0, which must be within the matrix: as an array's, they are a
    /// precondition.
    public subscript(row: Int, column: Int) -> Element {
        get { storage[index(row, column)] }
        set { storage[index(row, column)] = newValue }
    }

    private func index(_ row: Int, _ column: Int) -> Int {
        precondition(row >= 0 && row < rows && column >= 0 && column < columns, "the element is outside the matrix")
        return offset + row * rowStride + column
    }

    /// All elements in row-major order.
    public var elements: [Element] {
        if rowStride == columns { return Array(storage[offset..<offset + rows * columns]) }
        return (0..<rows).flatMap { storage[(offset + $0 * rowStride)...].prefix(columns) }
    }

    /// A block of columns, without a copy: rows × range.count. Throws `.invalidArgument` for a range that is empty or
    /// goes beyond the matrix.
    public func columns(_ range: Range<Int>) throws(PenteError) -> Matrix {
        guard range.lowerBound >= 0, range.upperBound <= columns, !range.isEmpty else {
            throw PenteError(
                .invalidArgument,
                "range is \(range.lowerBound)..<\(range.upperBound), but the matrix has columns 0..<\(columns)")
        }
        return Matrix(
            rows: rows, columns: range.count, storage: storage, offset: offset + range.lowerBound,
            rowStride: rowStride)
    }

    /// Equal in shape and in every element.
    public static func == (a: Matrix, b: Matrix) -> Bool {
        a.rows == b.rows && a.columns == b.columns && a.elements == b.elements
    }

    package func withView<Result>(
        _ body: (MatrixView<Element>) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        try storage.withUnsafeBufferPointer { (buffer) throws(PenteError) -> Result in
            try body(MatrixView(buffer.baseAddress! + offset, rows: rows, columns: columns, rowStride: rowStride))
        }
    }

    package mutating func withMutableView<Result>(
        _ body: (MutableMatrixView<Element>) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        let (rows, columns, offset, rowStride) = (rows, columns, offset, rowStride)
        return try storage.withUnsafeMutableBufferPointer { (buffer) throws(PenteError) -> Result in
            try body(
                MutableMatrixView(buffer.baseAddress! + offset, rows: rows, columns: columns, rowStride: rowStride))
        }
    }

    /// A new matrix that `body` fills.
    package static func filled(
        rows: Int, columns: Int, by body: (MutableMatrixView<Element>) throws(PenteError) -> Void
    ) throws(PenteError) -> Matrix {
        var matrix = try Matrix(rows: rows, columns: columns)
        try matrix.withMutableView(body)
        return matrix
    }
}

package func requireSizes(_ rows: Int, _ columns: Int, _ name: StaticString) throws(PenteError) {
    if rows < 1 || columns < 1 {
        throw PenteError(.invalidArgument, "\(name) is \(rows, columns); both sizes must be at least 1")
    }
}

extension Optional {
    /// Runs `body` with a view of the matrix, if there is one, and else with nil.
    package func withView<Element, Result>(
        _ body: (MatrixView<Element>?) throws(PenteError) -> Result
    ) throws(PenteError) -> Result where Wrapped == Matrix<Element> {
        guard let self else { return try body(nil) }
        return try self.withView { (view) throws(PenteError) -> Result in try body(view) }
    }
}

/// A matrix in memory that somebody else owns, to be read: element (i, j) is `base[i * rowStride + j]`.
public struct MatrixView<Scalar: KernelScalar>: BitwiseCopyable {
    /// Element (0, 0).
    public var base: UnsafePointer<Scalar>
    /// How many rows it has.
    public var rows: Int
    /// How many elements a row has.
    public var columns: Int
    /// From a row to the next one, in elements: at least `columns`.
    public var rowStride: Int

    /// The memory outlives the view.
    @inlinable @inline(__always)
    public init(_ base: UnsafePointer<Scalar>, rows: Int, columns: Int, rowStride: Int) {
        assert(rows >= 0 && columns >= 0 && (rowStride >= columns || rows <= 1), "no shape of a matrix")
        self.base = base
        self.rows = rows
        self.columns = columns
        self.rowStride = rowStride
    }

    /// Rows that lie one behind another.
    @inlinable @inline(__always)
    public init(_ base: UnsafePointer<Scalar>, rows: Int, columns: Int) {
        self.init(base, rows: rows, columns: columns, rowStride: columns)
    }

    /// `count` rows from row `first` on.
    @inlinable @inline(__always)
    public func rows(_ first: Int, _ count: Int) -> MatrixView {
        assert(first >= 0 && count >= 0 && count <= rows - first, "rows outside of the matrix")
        return MatrixView(base + first &* rowStride, rows: count, columns: columns, rowStride: rowStride)
    }

    /// Whether its rows lie one behind another.
    @inlinable @inline(__always)
    public var isContiguous: Bool { rowStride == columns }
}

/// A matrix in memory that somebody else owns, to be written.
public struct MutableMatrixView<Scalar: KernelScalar>: BitwiseCopyable {
    /// Element (0, 0).
    public var base: UnsafeMutablePointer<Scalar>
    /// How many rows it has.
    public var rows: Int
    /// How many elements a row has.
    public var columns: Int
    /// From a row to the next one, in elements: at least `columns`.
    public var rowStride: Int

    /// The memory outlives the view.
    @inlinable @inline(__always)
    public init(_ base: UnsafeMutablePointer<Scalar>, rows: Int, columns: Int, rowStride: Int) {
        assert(rows >= 0 && columns >= 0 && (rowStride >= columns || rows <= 1), "no shape of a matrix")
        self.base = base
        self.rows = rows
        self.columns = columns
        self.rowStride = rowStride
    }

    /// Rows that lie one behind another.
    @inlinable @inline(__always)
    public init(_ base: UnsafeMutablePointer<Scalar>, rows: Int, columns: Int) {
        self.init(base, rows: rows, columns: columns, rowStride: columns)
    }

    /// `count` rows from row `first` on.
    @inlinable @inline(__always)
    public func rows(_ first: Int, _ count: Int) -> MutableMatrixView {
        assert(first >= 0 && count >= 0 && count <= rows - first, "rows outside of the matrix")
        return MutableMatrixView(base + first &* rowStride, rows: count, columns: columns, rowStride: rowStride)
    }

    /// `count` columns from column `first` on.
    @inlinable @inline(__always)
    public func columns(_ first: Int, _ count: Int) -> MutableMatrixView {
        assert(first >= 0 && count >= 0 && count <= columns - first, "columns outside of the matrix")
        return MutableMatrixView(base + first, rows: rows, columns: count, rowStride: rowStride)
    }

    /// Copies the elements of a matrix of the same shape.
    @inlinable
    public func copy(_ source: MatrixView<Scalar>) {
        assert(source.rows == rows && source.columns == columns, "a copy of another shape")
        for i in 0..<rows {
            UnsafeMutableRawPointer(rows(i, 1).base).copyMemory(
                from: source.rows(i, 1).base, byteCount: columns &* MemoryLayout<Scalar>.size)
        }
    }

    /// The same memory, to be read.
    @inlinable @inline(__always)
    public var readOnly: MatrixView<Scalar> {
        MatrixView(base, rows: rows, columns: columns, rowStride: rowStride)
    }
}

extension MatrixView {
    @inline(__always)
    func gather(_ e: Int, _ count: Int, _ columns: Int, into elements: UnsafeMutablePointer<Scalar>) {
        for lane in 0..<count {
            let (row, column) = (e &+ lane).quotientAndRemainder(dividingBy: columns)
            assert(row < rows && (self.columns == 1 || column < self.columns), "an element outside of the matrix")
            elements[lane] = base[row &* rowStride &+ (self.columns == 1 ? 0 : column)]
        }
    }
}

extension MutableMatrixView {
    @inline(__always)
    func scatter(_ elements: UnsafePointer<Scalar>, _ e: Int, _ count: Int) {
        for lane in 0..<count {
            let (row, column) = (e &+ lane).quotientAndRemainder(dividingBy: columns)
            assert(row < rows, "an element outside of the matrix")
            base[row &* rowStride &+ column] = elements[lane]
        }
    }
}

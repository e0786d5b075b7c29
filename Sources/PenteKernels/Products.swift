/// A tile of outputs whose sums stay in registers: `rows` × `columns` of them.
///
/// The size of a tile is a matter of speed alone. Each output has a sum of its own, added up in an order that its
/// shape fixes, so that every tile gives the same bits.
public struct Tile<let rows: Int, let columns: Int> {
    // Read and written a row at a time: so the optimizer keeps them in registers, in a large function too.
    @usableFromInline typealias Sums<Element> = InlineArray<rows, InlineArray<columns, Element>>

    /// y[r, c] = Σⱼ x[r, j] w[c, j] + b[c]. Lane l of a sum holds the terms with j ≡ l (mod lanes).
    @_alwaysEmitIntoClient @_transparent
    static func dot<T: KernelScalar>(
        _ x: UnsafePointer<T>, _ xStride: Int, _ w: UnsafePointer<T>, _ wStride: Int, count: Int,
        bias: UnsafePointer<T>?, into y: UnsafeMutablePointer<T>, _ yStride: Int
    ) {
        var sums = Sums<T.Vector>(repeating: InlineArray(repeating: .zero))
        var j = 0
        while j < count {
            let left = count &- j
            var ws = InlineArray<columns, T.Vector>(repeating: .zero)
            for c in 0..<columns { ws[c] = T.load(w + (c &* wStride &+ j), upTo: left) }
            for r in 0..<rows {
                let xs = T.load(x + (r &* xStride &+ j), upTo: left)
                var row = sums[r]
                for c in 0..<columns { row[c] = T._fma(xs, ws[c], row[c]) }
                sums[r] = row
            }
            j &+= T.lanes
        }
        for c in 0..<columns {
            var b: T = 0
            if let bias { b = bias[c] }
            for r in 0..<rows { y[r &* yStride &+ c] = T._sum(sums[r][c]) + b }
        }
    }

    /// y[r, ·] = Σₛ a[r, s] b[s, ·] for `columns` vectors, or for the first `width` elements of one vector; the terms
    /// come in the order of s. a[r, s] is at `a + r * aRow + s * aStep`, so that a transpose needs no copy.
    @_alwaysEmitIntoClient @_transparent
    static func multiply<T: KernelScalar>(
        _ a: UnsafePointer<T>, aRow: Int, aStep: Int, _ b: UnsafePointer<T>, bStride: Int, depth: Int,
        into y: UnsafeMutablePointer<T>, _ yStride: Int, width: Int
    ) {
        var sums = Sums<T.Vector>(repeating: InlineArray(repeating: .zero))
        var a = a
        var b = b
        for _ in 0..<depth {
            var bs = InlineArray<columns, T.Vector>(repeating: .zero)
            for c in 0..<columns { bs[c] = T.load(b + c &* T.lanes, upTo: width) }
            for r in 0..<rows {
                let factor = T.Vector(repeating: a[r &* aRow])
                var row = sums[r]
                for c in 0..<columns { row[c] = T._fma(factor, bs[c], row[c]) }
                sums[r] = row
            }
            a += aStep
            b += bStride
        }
        for r in 0..<rows {
            for c in 0..<columns { T.store(sums[r][c], y + (r &* yStride &+ c &* T.lanes), upTo: width) }
        }
    }
}

/// Y = X Wᵀ + b, for a weight that is stored outputs × inputs.
public struct Forward<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var x: MatrixView<T>
    @usableFromInline var weight: MatrixView<T>
    @usableFromInline var bias: UnsafePointer<T>?
    @usableFromInline var y: MutableMatrixView<T>

    @inlinable
    public init(x: MatrixView<T>, weight: MatrixView<T>, bias: UnsafePointer<T>?, y: MutableMatrixView<T>) {
        self.x = x
        self.weight = weight
        self.bias = bias
        self.y = y
    }

    @_alwaysEmitIntoClient @_transparent
    func run<let rows: Int, let columns: Int>(_ tile: Tile<rows, columns>.Type) {
        // As many rows of the weight at a time as stay in the second-level cache while X goes by.
        let block = max(columns, (1 << 18) / (weight.columns &* MemoryLayout<T>.size) / columns &* columns)
        var first = 0
        while first < weight.rows {
            let end = min(first &+ block, weight.rows)
            var i = 0
            while i &+ rows <= x.rows {
                row(i, first, end, tile, Tile<rows, 1>.self)
                i &+= rows
            }
            while rows > 1 && i < x.rows {
                row(i, first, end, Tile<1, columns>.self, Tile<1, 1>.self)
                i &+= 1
            }
            first = end
        }
    }

    /// The outputs `first..<end` of a tile's rows from `i` on.
    @_alwaysEmitIntoClient @_transparent
    func row<let rows: Int, let columns: Int>(
        _ i: Int, _ first: Int, _ end: Int, _ tile: Tile<rows, columns>.Type, _ narrow: Tile<rows, 1>.Type
    ) {
        let xs = x.base + i &* x.rowStride
        let ys = y.base + i &* y.rowStride
        var k = first
        while k &+ columns <= end {
            tile.dot(
                xs, x.rowStride, weight.base + k &* weight.rowStride, weight.rowStride, count: x.columns,
                bias: bias(from: k), into: ys + k, y.rowStride)
            k &+= columns
        }
        while columns > 1 && k < end {
            narrow.dot(
                xs, x.rowStride, weight.base + k &* weight.rowStride, weight.rowStride, count: x.columns,
                bias: bias(from: k), into: ys + k, y.rowStride)
            k &+= 1
        }
    }

    @_alwaysEmitIntoClient @_transparent
    func bias(from k: Int) -> UnsafePointer<T>? {
        if let bias { bias + k } else { nil }
    }
}

/// Y = A B, where A's element (r, s) is at `a + r * aRow + s * aStep`.
public struct Product<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var a: UnsafePointer<T>
    @usableFromInline var aRow: Int
    @usableFromInline var aStep: Int
    @usableFromInline var b: MatrixView<T>
    @usableFromInline var y: MutableMatrixView<T>

    /// ∂X = G W, for a weight that is stored outputs × inputs.
    @inlinable
    public init(gradInput y: MutableMatrixView<T>, gradOutput: MatrixView<T>, weight: MatrixView<T>) {
        self.a = gradOutput.base
        self.aRow = gradOutput.rowStride
        self.aStep = 1
        self.b = weight
        self.y = y
    }

    /// ∂W = Gᵀ X, outputs × inputs.
    @inlinable
    public init(gradWeight y: MutableMatrixView<T>, gradOutput: MatrixView<T>, x: MatrixView<T>) {
        self.a = gradOutput.base
        self.aRow = 1
        self.aStep = gradOutput.rowStride
        self.b = x
        self.y = y
    }

    @_alwaysEmitIntoClient @_transparent
    func run<let rows: Int, let columns: Int>(_ tile: Tile<rows, columns>.Type) {
        var j = 0
        while columns > 1 && j &+ columns &* T.lanes <= b.columns {
            panel(j, width: T.lanes, tile, Tile<1, columns>.self)
            j &+= columns &* T.lanes
        }
        while j < b.columns {
            panel(j, width: b.columns &- j, Tile<rows, 1>.self, Tile<1, 1>.self)
            j &+= T.lanes
        }
    }

    /// All rows of the tile's columns from `j` on: B's panel stays in the first-level cache while A goes by.
    @_alwaysEmitIntoClient @_transparent
    func panel<let rows: Int, let columns: Int>(
        _ j: Int, width: Int, _ tile: Tile<rows, columns>.Type, _ flat: Tile<1, columns>.Type
    ) {
        var r = 0
        while r &+ rows <= y.rows {
            tile.multiply(
                a + r &* aRow, aRow: aRow, aStep: aStep, b.base + j, bStride: b.rowStride, depth: b.rows,
                into: y.base + (r &* y.rowStride &+ j), y.rowStride, width: width)
            r &+= rows
        }
        while rows > 1 && r < y.rows {
            flat.multiply(
                a + r &* aRow, aRow: aRow, aStep: aStep, b.base + j, bStride: b.rowStride, depth: b.rows,
                into: y.base + (r &* y.rowStride &+ j), y.rowStride, width: width)
            r &+= 1
        }
    }
}

/// ∂b = 1ᵀ G: the sum of each column. Four sums a column, of every fourth row, so that no addition waits for the last.
public struct ColumnSums<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var gradOutput: MatrixView<T>
    @usableFromInline var sums: UnsafeMutablePointer<T>

    @inlinable
    public init(_ sums: UnsafeMutablePointer<T>, gradOutput: MatrixView<T>) {
        self.sums = sums
        self.gradOutput = gradOutput
    }

    @_alwaysEmitIntoClient @_transparent
    func run() {
        var k = 0
        while k < gradOutput.columns {
            let left = gradOutput.columns &- k
            var four = InlineArray<4, T.Vector>(repeating: .zero)
            var i = 0
            while i < gradOutput.rows {
                for r in 0..<4 {
                    let row = gradOutput.base + ((i &+ r) &* gradOutput.rowStride &+ k)
                    four[r] += T.load(row, upTo: i &+ r < gradOutput.rows ? left : 0)
                }
                i &+= 4
            }
            T.store((four[0] + four[1]) + (four[2] + four[3]), sums + k, upTo: left)
            k &+= T.lanes
        }
    }
}

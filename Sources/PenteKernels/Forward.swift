import PenteVectors

/// Y = X Wᵀ + b as dot products, for a weight that is stored outputs × inputs.
public struct Forward<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var x: MatrixView<T>
    @usableFromInline var weight: MatrixView<T>
    @usableFromInline var bias: UnsafePointer<T>?
    @usableFromInline var y: MutableMatrixView<T>

    /// The weight is outputs × inputs, and there is a bias for each output.
    @inlinable @inline(__always)
    public init(x: MatrixView<T>, weight: MatrixView<T>, bias: UnsafePointer<T>?, y: MutableMatrixView<T>) {
        assert(x.columns == weight.columns && y.columns == weight.rows && y.rows <= x.rows, "shapes of a product")
        self.x = x
        self.weight = weight
        self.bias = bias
        self.y = y
    }

    /// The columns of y.
    @inlinable
    public var outputs: Int { weight.rows }

    /// How many multiply-adds it takes.
    @inlinable
    public var work: Int { x.rows &* weight.rows &* weight.columns }

    /// The products for `count` of the outputs from `first` on.
    @inlinable
    public func outputs(_ first: Int, _ count: Int) -> Forward {
        Forward(
            x: x, weight: weight.rows(first, count), bias: bias.map { $0 + first }, y: y.columns(first, count))
    }

    /// By tiles for four of the weight's rows or more, for two, for one, and for a single row of x; a level of processor may
    /// have fewer.
    @_alwaysEmitIntoClient @_transparent
    func run<let r: Int, let c: Int, let r2: Int, let c2: Int, let r1: Int, let c1: Int, let r0: Int, let c0: Int>(
        _ block: Tile<r, c>.Type, _ pair: Tile<r2, c2>.Type, _ column: Tile<r1, c1>.Type, _ row: Tile<r0, c0>.Type,
        ahead: inout Ahead<T>
    ) {
        var k = 0
        while k < weight.rows {
            let width = weight.rows &- k
            if r > 1 && x.rows == 1 {
                dots(k, width, row, &ahead)
                k &+= c0
            } else if c > 1 && width == 1 {
                dots(k, width, column, &ahead)
                k &+= c1
            } else if c > 2 && width == 2 {
                dots(k, width, pair, &ahead)
                k &+= c2
            } else {
                dots(k, width, block, &ahead)
                k &+= c
            }
        }
    }

    /// All rows with the weight's from `k` on.
    @_alwaysEmitIntoClient @_transparent
    func dots<let rows: Int, let columns: Int>(
        _ k: Int, _ width: Int, _ tile: Tile<rows, columns>.Type, _ ahead: inout Ahead<T>
    ) {
        var bias = T.Vector.zero
        if let b = self.bias { bias = T._repeat(T._loadPartial(b + k, min(columns, width)), columns) }
        var i = 0
        while i < x.rows {
            tile.dot(
                x.base + i &* x.rowStride, x.rowStride, weight.base + k &* weight.rowStride, weight.rowStride,
                count: x.columns, ahead: &ahead, bias: bias, into: y.base + (i &* y.rowStride &+ k), y.rowStride,
                height: x.rows &- i, width: width)
            i &+= rows
        }
    }
}

/// What is read next, a cache line after the other: on its way already while something else is computed.
@usableFromInline
struct Ahead<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var line: UnsafePointer<T>
    @usableFromInline var step: Int

    /// Nothing.
    @_alwaysEmitIntoClient @_transparent
    init() {
        line = UnsafePointer(bitPattern: 64)!
        step = 0
    }

    /// From a row on, which may be beyond the last: nothing of it is read.
    @_alwaysEmitIntoClient @_transparent
    init(_ rows: MatrixView<T>, from first: Int) {
        line = rows.base + first &* rows.rowStride
        step = T.lanes &* max(1, rows.rowStride / rows.columns)
    }

    @_alwaysEmitIntoClient @_transparent
    mutating func prefetch(_ lines: Int) {
        if step == 0 { return }
        for _ in 0..<lines {
            pente_prefetch_far(line)
            line += step
        }
    }
}

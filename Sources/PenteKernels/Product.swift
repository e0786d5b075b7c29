import PenteVectors

/// Y = A B for matrices of any layout: A's element (r, s) is at `a + r * aRow + s * aStep`, and B's (s, c) at
/// `b + s * bStep + c * bColumn`, so that neither's transpose needs a copy.
///
/// The terms of an output are added in the order of s: in runs of `stepsPerRun`, run by run within a block of
/// `depthPerBlock`, then block by block.
///
/// A large product goes after Goto and van de Geijn ("Anatomy of High-Performance Matrix Multiplication", 2008), with the
/// factors' parts exchanged: a block of A is packed for the outer caches, then a block of B for half of the second-level
/// one. A tile's rows of A stay in the first-level cache while the panels of B, as wide as a tile, stream by.
public struct Product<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var a: UnsafePointer<T>
    @usableFromInline var aRow: Int
    @usableFromInline var aStep: Int
    @usableFromInline var b: UnsafePointer<T>
    @usableFromInline var bStep: Int
    @usableFromInline var bColumn: Int
    @usableFromInline var depth: Int
    @usableFromInline var y: MutableMatrixView<T>
    /// Added at the end, a number for each column.
    @usableFromInline var bias: UnsafePointer<T>?
    /// The sums of the blocks are added to these, as many as y has and without gaps, and not to y.
    public var wide: UnsafeMutablePointer<Double>?
    /// The sums are added to y as it is.
    @usableFromInline var adds = false
    /// Room for packed blocks; without it nothing is packed.
    public var scratch: UnsafeMutablePointer<T>?

    /// A product's sums are of so many terms at most, and added up in blocks where there are more.
    @inlinable public static var depthPerBlock: Int { 256 }
    @usableFromInline static var rowsPerBlock: Int { 1024 }
    @usableFromInline static var columnsPerBlock: Int { 512 }

    /// How many elements of scratch the products of a layer with so many inputs and outputs want.
    @inlinable
    public static func scratchCount(_ inputs: Int, _ outputs: Int) -> Int {
        let widest = max(inputs, outputs)
        return depthPerBlock * (widest > columnsPerBlock / 4 ? columnsPerBlock + rowsPerBlock : columnsPerBlock / 4)
    }

    /// The shape of the result.
    @inlinable
    public var outputs: (rows: Int, columns: Int) { (y.rows, y.columns) }

    /// How many multiply-adds it takes.
    @inlinable
    public var work: Int { y.rows &* y.columns &* depth }

    /// The product for `count` of y's rows from `first` on.
    @inlinable
    public func rows(_ first: Int, _ count: Int) -> Product {
        var part = self
        part.a += first &* aRow
        part.y = y.rows(first, count)
        if let wide { part.wide = wide + first &* y.columns }
        return part
    }

    /// Likewise for columns, without wide sums.
    @inlinable
    public func columns(_ first: Int, _ count: Int) -> Product {
        var part = self
        part.b += first &* bColumn
        part.y = y.columns(first, count)
        if let bias { part.bias = bias + first }
        return part
    }

    /// Y = X Wᵀ + b, for a weight that is stored outputs × inputs.
    @inlinable @inline(__always)
    public init(
        output y: MutableMatrixView<T>, x: MatrixView<T>, weight: MatrixView<T>, bias: UnsafePointer<T>?,
        scratch: UnsafeMutablePointer<T>
    ) {
        assert(x.columns == weight.columns && y.columns == weight.rows && y.rows <= x.rows, "shapes of a product")
        (a, aRow, aStep) = (x.base, x.rowStride, 1)
        (b, bStep, bColumn) = (weight.base, 1, weight.rowStride)
        (depth, self.y, self.bias, self.scratch) = (x.columns, y, bias, scratch)
    }

    /// ∂X = G W.
    @inlinable @inline(__always)
    public init(
        gradInput y: MutableMatrixView<T>, gradOutput: MatrixView<T>, weight: MatrixView<T>,
        scratch: UnsafeMutablePointer<T>?
    ) {
        assert(gradOutput.columns == weight.rows && y.columns == weight.columns, "shapes of a product")
        assert(y.rows <= gradOutput.rows, "shapes of a product")
        (a, aRow, aStep) = (gradOutput.base, gradOutput.rowStride, 1)
        (b, bStep, bColumn) = (weight.base, weight.rowStride, 1)
        (depth, self.y, self.scratch) = (weight.rows, y, scratch)
    }

    /// ∂W = Gᵀ X, outputs × inputs.
    @inlinable @inline(__always)
    public init(
        gradWeight y: MutableMatrixView<T>, wide: UnsafeMutablePointer<Double>?, gradOutput: MatrixView<T>,
        x: MatrixView<T>, scratch: UnsafeMutablePointer<T>?
    ) {
        assert(y.rows == gradOutput.columns && y.columns == x.columns, "shapes of a product")
        assert(gradOutput.rows <= x.rows, "shapes of a product")
        (a, aRow, aStep) = (gradOutput.base, 1, gradOutput.rowStride)
        (b, bStep, bColumn) = (x.base, x.rowStride, 1)
        (depth, self.y, self.wide, self.scratch) = (x.rows, y, wide, scratch)
    }

    @_alwaysEmitIntoClient @_transparent
    func run<let rows: Int, let columns: Int, let few: Int, let wider: Int>(
        _ tile: Tile<rows, columns>.Type, _ small: Tile<few, wider>.Type, ahead: inout Ahead<T>
    ) {
        var s = 0
        while s < depth {
            let steps = min(depth &- s, Self.depthPerBlock)
            var r = 0
            while r < y.rows {
                let count = min(y.rows &- r, Self.rowsPerBlock)
                block(r, count, s, steps, tile, small, &ahead)
                r &+= count
            }
            s &+= steps
        }
    }

    /// Adds `steps` terms from `s` on to `count` rows from `r` on.
    @_alwaysEmitIntoClient @_transparent
    func block<let rows: Int, let columns: Int, let few: Int, let wider: Int>(
        _ r: Int, _ count: Int, _ s: Int, _ steps: Int, _ tile: Tile<rows, columns>.Type,
        _ small: Tile<few, wider>.Type, _ ahead: inout Ahead<T>
    ) {
        var left = Factor(base: a + (r &* aRow &+ s &* aStep), line: aRow, step: aStep)
        if let scratch, y.columns > Self.columnsPerBlock / 4 {
            left = left.pack(lines: count, steps, into: scratch + Self.columnsPerBlock &* Self.depthPerBlock)
        }
        var j = 0
        while j < y.columns {
            let width = min(y.columns &- j, Self.columnsPerBlock)
            var right = Factor(base: b + (s &* bStep &+ j &* bColumn), line: bColumn, step: bStep)
            // What is transposed, or so far apart that each row is in a page of its own.
            if let scratch, bColumn != 1 || bStep >= 256 && y.rows >= T.lanes {
                right = right.pack(lines: width, steps, into: scratch)
            }
            let output = TileOutput(
                y: y.base + (r &* y.rowStride &+ j), rowStride: y.rowStride, adds: adds || s > 0,
                bias: s &+ steps < depth || bias == nil ? nil : bias! + j,
                wide: wide == nil ? nil : wide! + (r &* y.columns &+ j), wideStride: y.columns)
            var i = 0
            while i < count {
                let part = Factor(base: left.line(i), line: left.line, step: left.step)
                let to = output.advanced(rows: i)
                let rest = count &- i
                if rest >= rows {
                    strip(part, right, to, width, steps, tile, &ahead)
                    i &+= rows
                } else if rows > few && rest >= few {
                    strip(part, right, to, width, steps, small, &ahead)
                    i &+= few
                } else if wider > 2 && rest == 3 {
                    strip(part, right, to, width, steps, Tile<3, wider>.self, &ahead)
                    i &+= 3
                } else if rest >= 2 {
                    strip(part, right, to, width, steps, Tile<2, wider>.self, &ahead)
                    i &+= 2
                } else {
                    strip(part, right, to, width, steps, Tile<1, wider>.self, &ahead)
                    i &+= 1
                }
            }
            j &+= width
        }
    }

    /// A tile's rows of a block, from its first column to the last.
    @_alwaysEmitIntoClient @_transparent
    func strip<let rows: Int, let columns: Int>(
        _ left: Factor<T>, _ right: Factor<T>, _ output: TileOutput<T>, _ width: Int, _ steps: Int,
        _ tile: Tile<rows, columns>.Type, _ ahead: inout Ahead<T>
    ) {
        var sums = InlineArray<16, T.Vector>(repeating: .zero)
        var c = 0
        while c < width {
            let part = Factor(base: right.line(c), line: right.line, step: right.step, group: right.group)
            let isWhole = width &- c >= columns &* T.lanes
            let vectors = isWhole ? columns : 1
            let count = isWhole ? T.lanes : min(width &- c, T.lanes)
            if isWhole {
                output.prefetch(c, rows, columns)
                tile.multiply(left, part, steps: steps, width: T.lanes, ahead: &ahead, into: &sums)
                if rows > 4 {
                    output.take(sums, c, rows, columns, T.lanes)
                    c &+= columns &* T.lanes
                    continue
                }
            } else {
                Tile<rows, 1>.multiply(left, part, steps: steps, width: count, ahead: &ahead, into: &sums)
            }
            output.take(sums, c, rows, vectors, count)
            c &+= vectors &* T.lanes
        }
    }
}

extension Product {
    /// Adds y, without gaps, to the sums in float64, if there are any.
    @_alwaysEmitIntoClient @_transparent
    func widen() {
        guard let wide else { return }
        let count = y.rows &* y.columns
        var e = 0
        while e < count {
            T._add(T.load(y.base + e, upTo: count &- e), to: wide + e, count &- e)
            e &+= T.lanes
        }
    }
}

/// A block of a factor: lines (A's rows, B's columns) of steps (the terms of a sum).
@usableFromInline
struct Factor<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var base: UnsafePointer<T>
    /// From one line to the next within a group of a vector's lanes, from one step to the next, and from one group to
    /// the next.
    @usableFromInline var line: Int
    @usableFromInline var step: Int
    @usableFromInline var group: Int

    @_alwaysEmitIntoClient @_transparent
    init(base: UnsafePointer<T>, line: Int, step: Int, group: Int? = nil) {
        self.base = base
        self.line = line
        self.step = step
        self.group = group ?? line &* T.lanes
    }

    @_alwaysEmitIntoClient @_transparent
    func line(_ number: Int) -> UnsafePointer<T> {
        base + (number / T.lanes &* group &+ number % T.lanes &* line)
    }

    /// A copy whose lines lie side by side in groups of a vector's lanes, with zeros where the last group has none, and the
    /// steps one behind another.
    @_alwaysEmitIntoClient @_transparent
    func pack(lines: Int, _ steps: Int, into scratch: UnsafeMutablePointer<T>) -> Factor {
        if line == 1 {
            // Sixteen steps at a time: to few enough places that lie apart.
            var s = 0
            while s < steps {
                let end = min(s &+ 16, steps)
                var l = 0
                while l < lines {
                    for i in s..<end {
                        let from = base + (l &+ i &* step)
                        pente_prefetch_far(from + 8 &* T.lanes)
                        T.store(T.load(from, upTo: lines &- l), scratch + (l &* steps &+ i &* T.lanes))
                    }
                    l &+= T.lanes
                }
                s = end
            }
        } else {
            var l = 0
            while l < lines {
                var s = 0
                while s < steps {
                    T._transpose(
                        base + (l &* line &+ s), line, lines: lines &- l, count: steps &- s,
                        into: scratch + (l &* steps &+ s &* T.lanes))
                    s &+= T.lanes
                }
                l &+= T.lanes
            }
        }
        return Factor(base: UnsafePointer(scratch), line: 1, step: T.lanes, group: steps &* T.lanes)
    }
}

/// Where a tile's sums go.
@usableFromInline
struct TileOutput<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var y: UnsafeMutablePointer<T>
    @usableFromInline var rowStride: Int
    /// To what y has already.
    @usableFromInline var adds: Bool
    @usableFromInline var bias: UnsafePointer<T>?
    /// In place of y.
    @usableFromInline var wide: UnsafeMutablePointer<Double>?
    @usableFromInline var wideStride: Int

    @_alwaysEmitIntoClient @_transparent
    init(
        y: UnsafeMutablePointer<T>, rowStride: Int, adds: Bool, bias: UnsafePointer<T>?,
        wide: UnsafeMutablePointer<Double>?, wideStride: Int
    ) {
        self.y = y
        self.rowStride = rowStride
        self.adds = adds
        self.bias = bias
        self.wide = wide
        self.wideStride = wideStride
    }

    @_alwaysEmitIntoClient @_transparent
    func advanced(rows: Int) -> TileOutput {
        var output = self
        output.y += rows &* rowStride
        if let wide { output.wide = wide + rows &* wideStride }
        return output
    }

    /// The sums of `rows` rows, of `columns` vectors from column `first` on.
    @_alwaysEmitIntoClient @_transparent
    func take(_ sums: InlineArray<16, T.Vector>, _ first: Int, _ rows: Int, _ columns: Int, _ width: Int) {
        for r in 0..<rows {
            for c in 0..<columns {
                var sum = sums[r &* columns &+ c]
                let column = first &+ c &* T.lanes
                if let wide {
                    T._add(sum, to: wide + (r &* wideStride &+ column), width)
                } else {
                    let to = y + (r &* rowStride &+ column)
                    if adds { sum += T.load(to, upTo: width) }
                    if let bias { sum += T.load(bias + column, upTo: width) }
                    T.store(sum, to, upTo: width)
                }
            }
        }
    }

    /// What the sums will meet is on its way meanwhile.
    @_alwaysEmitIntoClient @_transparent
    func prefetch(_ first: Int, _ rows: Int, _ columns: Int) {
        for r in 0..<rows {
            for c in 0..<columns {
                if let wide {
                    let to = wide + (r &* wideStride &+ first &+ c &* T.lanes)
                    pente_prefetch(to)
                    pente_prefetch(to + T.lanes / 2)
                } else {
                    pente_prefetch(y + (r &* rowStride &+ first &+ c &* T.lanes))
                }
            }
        }
    }
}

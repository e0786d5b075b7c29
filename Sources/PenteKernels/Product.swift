import PenteVectors

/// Y = A B for matrices of any layout: A's element (r, s) is at `a + r * aRow + s * aStep`, and B's (s, c) at
/// `b + s * bStep + c * bColumn`, so that neither's transpose needs a copy.
///
/// The terms of an output are added in the order of s: in runs of `stepsPerRun`, run by run within a block of
/// `depthPerBlock`, then block by block.
///
/// A large product goes as Goto and van de Geijn have it ("Anatomy of High-Performance Matrix Multiplication", 2008):
/// a block of B is packed for the second- and third-level caches, then a block of A for the second; a panel of B, as
/// wide as a tile, stays in the first-level cache while the tiles of A's rows go by.
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
    @usableFromInline var wide: UnsafeMutablePointer<Double>?
    /// Room for packed blocks; without it nothing is packed.
    @usableFromInline var scratch: UnsafeMutablePointer<T>?

    @inlinable public static var depthPerBlock: Int { 256 }
    @usableFromInline static var rowsPerBlock: Int { 256 }
    @usableFromInline static var columnsPerBlock: Int { 1024 }

    /// How many elements of scratch the products of a layer with so many inputs and outputs want.
    @inlinable
    public static func scratchCount(_ inputs: Int, _ outputs: Int) -> Int {
        let widest = max(inputs, outputs)
        return depthPerBlock * (widest > columnsPerBlock / 8 ? columnsPerBlock + rowsPerBlock : columnsPerBlock / 8)
    }

    /// Y = X Wᵀ + b, for a weight that is stored outputs × inputs.
    @inlinable @inline(__always)
    public init(
        output y: MutableMatrixView<T>, x: MatrixView<T>, weight: MatrixView<T>, bias: UnsafePointer<T>?,
        scratch: UnsafeMutablePointer<T>
    ) {
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
        (a, aRow, aStep) = (gradOutput.base, 1, gradOutput.rowStride)
        (b, bStep, bColumn) = (x.base, x.rowStride, 1)
        (depth, self.y, self.wide, self.scratch) = (x.rows, y, wide, scratch)
    }

    @_alwaysEmitIntoClient @_transparent
    func run<let rows: Int, let columns: Int>(_ tile: Tile<rows, columns>.Type) {
        var j = 0
        while j < y.columns {
            let width = min(y.columns &- j, Self.columnsPerBlock)
            var s = 0
            while s < depth {
                let steps = min(depth &- s, Self.depthPerBlock)
                block(j, width, s, steps, tile)
                s &+= steps
            }
            j &+= width
        }
    }

    /// Adds `steps` terms from `s` on to `width` columns from `j` on.
    @_alwaysEmitIntoClient @_transparent
    func block<let rows: Int, let columns: Int>(
        _ j: Int, _ width: Int, _ s: Int, _ steps: Int, _ tile: Tile<rows, columns>.Type
    ) {
        var right = Factor(base: b + (s &* bStep &+ j &* bColumn), line: bColumn, step: bStep)
        // What is transposed, or so far apart that each row is in a page of its own.
        if let scratch, bColumn != 1 || bStep >= 256 && y.rows >= T.lanes {
            right = right.pack(lines: width, steps, into: scratch)
        }
        var r = 0
        while r < y.rows {
            let count = min(y.rows &- r, Self.rowsPerBlock)
            var left = Factor(base: a + (r &* aRow &+ s &* aStep), line: aRow, step: aStep)
            if let scratch, width > Self.columnsPerBlock / 8 {
                left = left.pack(lines: count, steps, into: scratch + Self.columnsPerBlock &* Self.depthPerBlock)
            }
            var c = 0
            while c < width {
                let part = Factor(base: right.line(c), line: right.line, step: right.step, group: right.group)
                let output = TileOutput(
                    y: y.base + (r &* y.rowStride &+ j &+ c), rowStride: y.rowStride, adds: s > 0,
                    bias: s &+ steps < depth || bias == nil ? nil : bias! + (j &+ c),
                    wide: wide == nil ? nil : wide! + (r &* y.columns &+ j &+ c), wideStride: y.columns)
                if width &- c >= columns &* T.lanes {
                    panel(
                        left, part, output, count, steps, width: T.lanes, tile, Tile<4, columns>.self,
                        Tile<2, columns>.self, Tile<1, columns>.self)
                    c &+= columns &* T.lanes
                } else {
                    panel(
                        left, part, output, count, steps, width: width &- c, Tile<rows, 1>.self, Tile<4, 1>.self,
                        Tile<2, 1>.self, Tile<1, 1>.self)
                    c &+= T.lanes
                }
            }
            r &+= count
        }
    }

    /// All rows of a panel's columns, by tiles that get smaller towards the end.
    @_alwaysEmitIntoClient @_transparent
    func panel<let rows: Int, let columns: Int>(
        _ left: Factor<T>, _ right: Factor<T>, _ output: TileOutput<T>, _ count: Int, _ steps: Int, width: Int,
        _ tile: Tile<rows, columns>.Type, _ four: Tile<4, columns>.Type, _ two: Tile<2, columns>.Type,
        _ one: Tile<1, columns>.Type
    ) {
        var sums = InlineArray<16, T.Vector>(repeating: .zero)
        var r = 0
        while r < count {
            let remaining = count &- r
            let a = Factor(base: left.line(r), line: left.line, step: left.step)
            let done: Int
            if remaining >= rows {
                done = rows
                output.prefetch(r, done, columns)
                tile.multiply(a, right, steps: steps, width: width, into: &sums)
            } else if rows > 4 && remaining >= 4 {
                done = 4
                four.multiply(a, right, steps: steps, width: width, into: &sums)
            } else if rows > 2 && remaining >= 2 {
                done = 2
                two.multiply(a, right, steps: steps, width: width, into: &sums)
            } else {
                done = 1
                one.multiply(a, right, steps: steps, width: width, into: &sums)
            }
            output.take(sums, r, done, columns, width)
            r &+= done
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
            for s in 0..<steps {
                let from = base + s &* step
                let to = scratch + s &* T.lanes
                var l = 0
                while l < lines {
                    T.store(T.load(from + l, upTo: lines &- l), to + l &* steps)
                    l &+= T.lanes
                }
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

    /// The sums of `rows` rows from `first` on, of `columns` vectors.
    @_alwaysEmitIntoClient @_transparent
    func take(_ sums: InlineArray<16, T.Vector>, _ first: Int, _ rows: Int, _ columns: Int, _ width: Int) {
        for r in 0..<rows {
            for c in 0..<columns {
                var sum = sums[r &* columns &+ c]
                if let wide {
                    T._add(sum, to: wide + ((first &+ r) &* wideStride &+ c &* T.lanes), width)
                } else {
                    let to = y + ((first &+ r) &* rowStride &+ c &* T.lanes)
                    if adds { sum += T.load(to, upTo: width) }
                    if let bias { sum += T.load(bias + c &* T.lanes, upTo: width) }
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
                    pente_prefetch(wide + ((first &+ r) &* wideStride &+ c &* T.lanes))
                } else {
                    pente_prefetch(y + ((first &+ r) &* rowStride &+ c &* T.lanes))
                }
            }
        }
    }
}

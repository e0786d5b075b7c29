/// A block of rows after the other goes forward, through the loss and backward, while it is in the cache: x is read from
/// memory once. Whatever is nil is left out.
public struct Pass<T: KernelScalar>: BitwiseCopyable {
    /// y is for one block of rows, and used again for each.
    public var forward: Forward<T>?
    /// Likewise the prediction and its gradient.
    public var error: UnsafePointer<SquaredError<T>>?
    /// The weight's gradient, or x's.
    public var product: Product<T>?
    /// The bias's gradient.
    public var columnSums: ColumnSums<T>?
    @usableFromInline var rows: Int
    @usableFromInline var rowsPerBlock: Int
    /// From a block's sums to the next one's; 0: they are added to the same.
    @usableFromInline var sumsStep: Int

    /// Of several blocks only if all are there and the sums are wide, or have a step.
    @inlinable @inline(__always)
    public init(
        forward: Forward<T>? = nil, error: UnsafePointer<SquaredError<T>>? = nil, product: Product<T>? = nil,
        columnSums: ColumnSums<T>? = nil, rows: Int = 1, rowsPerBlock: Int = 1, sumsStep: Int = 0
    ) {
        self.forward = forward
        self.error = error
        self.product = product
        self.columnSums = columnSums
        self.rows = rows
        self.rowsPerBlock = rowsPerBlock
        self.sumsStep = sumsStep
    }

    /// Performs it, with the tiles of a level of processor.
    @_alwaysEmitIntoClient @_transparent
    public func run<
        let r: Int, let c: Int, let r2: Int, let c2: Int, let r1: Int, let c1: Int, let r0: Int, let c0: Int,
        let s: Int, let d: Int, let s2: Int, let d2: Int
    >(
        _ dot: Tile<r, c>.Type, _ pair: Tile<r2, c2>.Type, _ column: Tile<r1, c1>.Type, _ row: Tile<r0, c0>.Type,
        _ outer: Tile<s, d>.Type, _ small: Tile<s2, d2>.Type
    ) {
        if r > 1 && isColumn { return runColumn() }
        let streams = isStreamed
        let rowsPerRun = streams ? stepsPerRun : rowsPerBlock
        var first = 0
        while first < rows {
            let count = min(rowsPerRun, rows &- first)
            var part = self
            if rows > rowsPerRun { part = self.part(first, count) }
            var ahead = Ahead<T>()
            if streams { ahead = Ahead(part.forward!.x, from: count) }
            if let forward = part.forward { forward.run(dot, pair, column, row, ahead: &ahead) }
            if let error = part.error {
                var error = error.pointee
                if rows > rowsPerRun { error = error.part(first, count, in: rowsPerBlock) }
                if error.isStep { error.runStep() } else { error.run(T.Vector.self) }
            }
            let isNew = first % rowsPerBlock == 0
            first &+= count
            if var product = part.product {
                if streams {
                    product.adds = !isNew
                    product.wide = nil
                }
                product.run(outer, small, ahead: &ahead)
            }
            if first == rows || first % rowsPerBlock == 0 {
                if streams { part.product?.widen() }
                if let sums = part.columnSums { sums.run() }
            }
        }
    }

    /// Whether x comes from memory. It is read a run of a gradient's terms after the other then: each stays in the caches
    /// until the gradient has it, while the next one is on its way.
    @_alwaysEmitIntoClient @_transparent
    var isStreamed: Bool {
        guard let forward, rows > stepsPerRun else { return false }
        return rows &* forward.x.rowStride &* MemoryLayout<T>.size > 1 << 21
    }

    /// The pass for `count` rows from `first` on, all of one block; the bias's sums are those of the block so far.
    @_alwaysEmitIntoClient @_transparent
    func part(_ first: Int, _ count: Int) -> Pass {
        var part = self
        let inBlock = first % rowsPerBlock
        if var forward = part.forward {
            forward.x = forward.x.rows(first, count)
            forward.y = forward.y.rows(inBlock, count)
            part.forward = forward
        }
        if var product = part.product {
            product.a += inBlock &* product.aStep
            product.b += first &* product.bStep
            product.depth = count
            product.y.base += first / rowsPerBlock &* sumsStep
            part.product = product
        }
        if var sums = part.columnSums {
            sums.gradOutput.rows = inBlock &+ count
            sums.advance(by: first / rowsPerBlock &* sumsStep)
            part.columnSums = sums
        }
        return part
    }
}

extension SquaredError {
    /// Whether it is a training step's: the loss and the prediction's gradient, without gaps or weights.
    @_alwaysEmitIntoClient @_transparent
    var isStep: Bool {
        total != nil && gradPrediction != nil && sampleWeight == nil && upstream == nil && gradTarget == nil
            && squares == nil && prediction.isContiguous && target.isContiguous
            && gradPrediction!.rowStride == prediction.columns
    }

    /// `run` without what is not there.
    @_alwaysEmitIntoClient @_transparent
    func runStep() {
        let count = prediction.rows &* prediction.columns
        let scale = T.Vector(repeating: scale)
        let (y, t, gradient) = (prediction.base, target.base, gradPrediction!.base)
        var total = total!
        var e = 0
        while e < count {
            let end = min(e &+ Self.rowsPerBlock &* prediction.columns, count)
            var sums = WideSums()
            while e &+ T.lanes <= end {
                let difference = T.load(y + e) - T.load(t + e)
                T._addSquares(difference, weight: nil, to: &sums)
                T.store(difference * scale, gradient + e)
                e &+= T.lanes
            }
            if e < end {
                let difference = T._loadPartial(y + e, end &- e) - T._loadPartial(t + e, end &- e)
                T._addSquares(difference, weight: nil, to: &sums)
                T._storePartial(difference * scale, gradient + e, end &- e)
                e = end
            }
            total.pointee.add(sums.total)
            total += totalStep
        }
    }

    /// `count` rows from `first` on, of a prediction and a gradient that are used again for each block.
    @_alwaysEmitIntoClient @_transparent
    func part(_ first: Int, _ count: Int, in rowsPerBlock: Int) -> SquaredError {
        var part = self
        let inBlock = first % rowsPerBlock
        part.prediction = prediction.rows(inBlock, count)
        part.target = target.rows(first, count)
        if let sampleWeight { part.sampleWeight = sampleWeight.rows(first, count) }
        part.gradPrediction = gradPrediction?.rows(inBlock, count)
        if let total { part.total = total + first / Self.rowsPerBlock &* totalStep }
        return part
    }
}

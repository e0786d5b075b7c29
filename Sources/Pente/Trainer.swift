import PenteKernels

/// A layer, a loss and an optimizer together, with the workspace for their steps. It belongs to one thread, or actor, at
/// a time, as they do.
public final class Trainer<Element: Scalar> {
    /// What is trained.
    public let layer: Layer<Element>
    /// What is made small.
    public let mse: MSE
    /// What changes the layer's parameters.
    public let sgd: SGD<Element>
    /// What each step clips the gradients to, as `SGD.clipGradients` does; 0: it does not.
    public private(set) var maxGradientNorm = 0.0

    private var memory = PassMemory<Element>()
    /// The loss's gradient with respect to the prediction, for a block of rows.
    private var gradPrediction = Buffer<Element>()
    /// Where the batch's sums have the gradient of each of the optimizer's parameters, once it is known; −1 for a parameter
    /// that the layer does not have. It is of so many groups.
    private var offsets = Buffer<Int>()
    private var offsetGroups = 0
    /// A step of a single block, ready for further ones of that shape: where x and y are is new then, and the weights.
    private let block: Buffer<BlockStep<Element>>
    private var prepared = (rows: 0, columns: 0, outputs: 0, isWeighted: false)
    private let rowsPerBlock: Int
    private let rowsPerSum: Int
    /// What `accumulate` has added up, once there has been something.
    var accumulated: AccumulatedSums?
    /// For what goes on several threads, once there has been something.
    var parallel: ParallelStep<Element>?

    /// `sgd` must hold all of the layer's parameters; a loss with the reduction `.none` is refused, since it is not one number.
    ///
    /// Both are `.invalidArgument`, as is a layer without parameters to train.
    public convenience init(layer: Layer<Element>, mse: MSE = MSE(), sgd: SGD<Element>) throws(PenteError) {
        try Self.require(layer, mse, sgd)
        self.init(layer, mse, sgd, try Buffer(count: 1))
    }

    package static func make(
        layer: Layer<Element>, mse: MSE, sgd: SGD<Element>
    ) throws(PenteError) -> Trainer {
        try require(layer, mse, sgd)
        return Trainer(layer, mse, sgd, try Buffer(count: 1))
    }

    private static func require(_ layer: Layer<Element>, _ mse: MSE, _ sgd: SGD<Element>) throws(PenteError) {
        try mse.requireReduced()
        if layer.trained.isEmpty { throw PenteError(.invalidArgument, "layer has no parameters to train") }
        try sgd.requireParameters(of: layer)
    }

    private init(
        _ layer: Layer<Element>, _ mse: MSE, _ sgd: SGD<Element>, _ block: consuming Buffer<BlockStep<Element>>
    ) {
        self.block = block
        self.layer = layer
        self.mse = mse
        self.sgd = sgd
        rowsPerBlock = layer.rowsPerBlock
        rowsPerSum = layer.rowsPerSum
    }

    /// Has each step from now on, `fit`'s too, clip the gradients before its update: to a norm that is finite and above
    /// 0; or not, with 0.
    public func setMaxGradientNorm(_ maxNorm: Double) throws(PenteError) {
        try requireNotNegative(maxNorm, "max_norm")
        maxGradientNorm = maxNorm
    }

    /// `sgd.zeroGradients`, the layer's `forward`, the loss, the layer's `backward`, `sgd.clipGradients` if there is a
    /// `maxGradientNorm`, and `sgd.step` in one call, to the same bits; returns the loss before the update.
    ///
    /// x is q × inputs, y q × outputs and `sampleWeight` q×1. Throws `.notFinite`, before anything changes, if the loss,
    /// or the norm of gradients that are to be clipped, is NaN or infinite, `.shapeMismatch` and `.invalidArgument` as
    /// `forward` and the loss do, what a layer of your own throws, and `.busy` if such a layer calls it.
    @discardableResult
    public func step(
        _ x: Matrix<Element>, _ y: Matrix<Element>, sampleWeight: Matrix<Element>? = nil
    ) throws(PenteError) -> Double {
        try withExamples(x, y, sampleWeight) { (examples) throws(PenteError) in try step(examples)! }
    }

    func withExamples<Result>(
        _ x: Matrix<Element>, _ y: Matrix<Element>, _ sampleWeight: Matrix<Element>?,
        _ body: (Examples<Element>) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        try x.withView { (x) throws(PenteError) in
            try y.withView { (y) throws(PenteError) in
                try sampleWeight.withView { (weight) throws(PenteError) in
                    try body(Examples(x: x, y: y, sampleWeight: weight))
                }
            }
        }
    }
}

/// Rows of x with what they should give.
package struct Examples<Element: Scalar> {
    package var x: MatrixView<Element>
    package var y: MatrixView<Element>
    package var sampleWeight: MatrixView<Element>?

    package init(x: MatrixView<Element>, y: MatrixView<Element>, sampleWeight: MatrixView<Element>?) {
        self.x = x
        self.y = y
        self.sampleWeight = sampleWeight
    }

    package var count: Int { x.rows }

    package func rows(_ first: Int, _ count: Int) -> Examples {
        Examples(x: x.rows(first, count), y: y.rows(first, count), sampleWeight: sampleWeight?.rows(first, count))
    }
}

/// A step of one block of rows, as a layer and the kernels take it.
private struct BlockStep<Element: Scalar>: BitwiseCopyable {
    var total: CompensatedSum
    var divisor: Double
    var error: SquaredError<Element>
    /// For a layer whose step is one pass: that, and what performs it.
    var pass: Pass<Element>
    var operation: KernelOperation<Element>?
}

extension Trainer {
    /// Throws unless the examples fit the layer.
    package func require(_ examples: Examples<Element>, _ x: StaticString = "x", _ y: StaticString = "y")
        throws(PenteError)
    {
        try layer.requireInput(examples.x, x)
        let outputs = layer.outputs(for: examples.x)
        guard examples.y.rows == examples.count, examples.y.columns == outputs else {
            throw PenteError(
                .shapeMismatch,
                "\(y) is \(examples.y), but \(x) is \(examples.x), for which the layer gives \(examples.count, outputs)"
            )
        }
    }

    /// A training step. A block of rows goes forward, through the loss and backward before the next one comes, so that x
    /// is read once. `shouldStop` hears of the work after each block; if it says so, nothing changes and the result is
    /// nil. `rows` is there for examples that are known to fit the layer: the sum of the rows, or of their weights.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    @_optimize(speed)
    package func step(
        _ examples: Examples<Element>, rows: Double? = nil, shouldStop: (_ work: Int) -> Bool = { _ in false }
    ) throws(PenteError) -> Double? {
        try sgd.begin()
        defer { sgd.end() }
        if examples.sampleWeight != nil || !isPrepared(for: examples) { try prepare(examples, rows: rows) }
        guard let total = try computeGradients(examples, shouldStop: shouldStop) else { return nil }
        let loss = total / block.base.pointee.divisor
        try update(loss)
        return loss
    }

    /// The sum of the squares of the examples that the trainer is prepared for; the gradients are in the memory's sums then.
    @inline(__always)
    private func computeGradients(
        _ examples: Examples<Element>, shouldStop: (_ work: Int) -> Bool
    ) throws(PenteError) -> Double? {
        if examples.count > rowsPerBlock {
            return try forEachBlock(examples, scale: block.base.pointee.error.scale, shouldStop: shouldStop)
        }
        let total = try runBlock(examples)
        return shouldStop(examples.count &* (layer.trainedCount &+ examples.y.columns)) ? nil : total
    }

    /// From the gradients in the memory's sums, unless the loss is not finite.
    @inline(__always)
    private func update(_ loss: Double) throws(PenteError) {
        guard Element(loss).isFinite else { throw notFinite(loss) }
        // Not before a user's code has run, which may set options and add groups.
        try prepareUpdate()
        let isClipped = maxGradientNorm > 0
        if isClipped { try clipGradients() }
        sgd.update(offsets: isClipped ? nil : offsets.base, sums: memory.sums.sums)
    }

    // MARK: Sums, of which Trainer+Sums.swift makes a step

    /// Adds the gradients of the sum of the squares, undivided, to `gradients`, and returns that sum. `rows` is that of their
    /// weights.
    @inline(never)
    func addGradients(
        _ examples: Examples<Element>, rows: Double, to gradients: UnsafeMutablePointer<Double>
    ) throws(PenteError) -> Double {
        try sgd.begin()
        defer {
            prepared.rows = 0
            sgd.end()
        }
        prepared.rows = 0
        try prepare(examples, rows: rows)
        block.base.pointee.error.scale = mse.scale(1)
        let total = try computeGradients(examples, shouldStop: { _ in false })!
        guard total.isFinite else { throw notFinite(total) }
        memory.sums.add(to: gradients)
        return total
    }

    /// A step from such gradients and sum, and their divisor.
    @inline(never)
    func step(
        gradients: UnsafePointer<Double>, total: Double, divisor: Double
    ) throws(PenteError) -> Double {
        try sgd.begin()
        defer { sgd.end() }
        prepared.rows = 0
        try memory.sums.set(gradients, count: layer.trainedCount, divisor: divisor)
        try update(total / divisor)
        return total / divisor
    }

    /// The batch's, which are the parameters' then.
    @inline(never)
    private func clipGradients() throws(PenteError) {
        try sgd.clip(to: maxGradientNorm, offsets: offsets.base, sums: memory.sums.narrowed())
    }

    @inline(__always)
    private func prepareUpdate() throws(PenteError) {
        try sgd.prepare()
        if offsetGroups != sgd.groupCount { try collectOffsets() }
    }

    /// The loss of the layer as it is; nil if `shouldStop` says so.
    package func evaluate(_ examples: Examples<Element>, shouldStop: (_ work: Int) -> Bool) throws(PenteError)
        -> Double?
    {
        try sgd.begin()
        defer { sgd.end() }
        let rows = try mse.totalWeight(examples.sampleWeight, rows: examples.count)
        let divisor = mse.divisor(rows: rows, columns: examples.y.columns)
        return try forEachBlock(examples, scale: nil, shouldStop: shouldStop).map { $0 / divisor }
    }

    @inline(__always)
    private func isPrepared(for examples: Examples<Element>) -> Bool {
        examples.x.rows == prepared.rows && examples.x.columns == prepared.columns && examples.y.rows == prepared.rows
            && examples.y.columns == prepared.outputs && (examples.sampleWeight != nil) == prepared.isWeighted
    }

    /// Makes `block` ready for a step of the examples, as far as it is not.
    @inline(never)
    private func prepare(_ examples: Examples<Element>, rows: Double?) throws(PenteError) {
        let isPrepared = isPrepared(for: examples)
        if rows == nil && !isPrepared { try require(examples) }
        var rows = rows
        if rows == nil { rows = try mse.totalWeight(examples.sampleWeight, rows: examples.count) }
        if isPrepared { return setWeight(examples.sampleWeight, rows: rows!) }
        prepared.rows = 0
        let isBlock = examples.count <= rowsPerBlock
        try memory.sums.start(count: layer.trainedCount, isWide: examples.count > rowsPerSum)
        if isBlock { try reserve(rows: examples.count, for: examples, gradient: true) }
        prepared.outputs = examples.y.columns
        setWeight(examples.sampleWeight, rows: rows!)
        if isBlock { prepareBlock(examples) }
    }

    private func setWeight(_ sampleWeight: MatrixView<Element>?, rows: Double) {
        let divisor = mse.divisor(rows: rows, columns: prepared.outputs)
        block.base.pointee.divisor = divisor
        block.base.pointee.error.scale = mse.scale(divisor)
        block.base.pointee.error.sampleWeight = sampleWeight
    }

    private func prepareBlock(_ examples: Examples<Element>) {
        let block = block.base
        // Parts of memory that stays where it is.
        let error = withUnsafeMutablePointer(to: &block.pointee.error) { $0 }
        let pass = withUnsafeMutablePointer(to: &block.pointee.pass) { $0 }
        let step = step(examples, block: examples.count, scale: error.pointee.scale)
        error.pointee = step.error
        block.pointee.operation = nil
        if layer.kind == .linear,
            let linearPass = unsafeDowncast(layer, to: Linear<Element>.self).stepPass(step, error: error)
        {
            pass.pointee = linearPass
            block.pointee.operation = Pass.operation(pass)
        }
        prepared = (examples.count, examples.x.columns, examples.y.columns, examples.sampleWeight != nil)
    }

    /// The sum of the squares of the examples that `block` is prepared for; the gradients are in the memory's sums then.
    @inline(__always)
    private func runBlock(_ examples: Examples<Element>) throws(PenteError) -> Double {
        let block = block.base
        block.pointee.total = CompensatedSum()
        if let operation = block.pointee.operation {
            block.pointee.pass.place(examples.x)
            block.pointee.error.target = examples.y
            Element._perform(operation)
        } else {
            try computeBlock(examples)
        }
        return block.pointee.total.value
    }

    /// By any layer, whose sums may be of fewer rows than its blocks.
    @inline(never)
    private func computeBlock(_ examples: Examples<Element>) throws(PenteError) {
        try memory.sums.start(count: layer.trainedCount, isWide: examples.count > rowsPerSum)
        try layer.computeStep(step(examples, block: examples.count, scale: block.base.pointee.error.scale))
    }

    /// A step of these examples, whose y is of so many rows, with a backward pass if there is a scale; it adds to the block's
    /// total.
    @inline(never)
    private func step(_ examples: Examples<Element>, block rows: Int, scale: Element?) -> StepPass<Element> {
        let y = MutableMatrixView(memory.output.base, rows: rows, columns: examples.y.columns)
        return StepPass(
            x: examples.x, target: examples.y, sampleWeight: examples.sampleWeight, y: y,
            gradient: scale == nil ? nil : gradPrediction.base, scale: scale ?? 0,
            total: withUnsafeMutablePointer(to: &block.base.pointee.total) { $0 }, workspace: memory.workspace,
            gradients: memory.sums.block)
    }

    /// Makes room for a block of so many rows. A layer of any number of columns has those of the examples.
    @inline(never)
    private func reserve(rows: Int, for examples: Examples<Element>, gradient: Bool) throws(PenteError) {
        let outputs = examples.y.columns
        prepared.rows = 0
        try memory.reserve(
            rows: rows, workspacePerRow: layer.workspacePerRow(columns: examples.x.columns),
            scratch: layer.scratchCount(rows: rows), outputs: outputs)
        if gradient { try gradPrediction.reserve(rows: rows, columns: outputs) }
    }

    /// Sends each block forward, and backward if there is a scale for the loss's gradient; returns the sum of the
    /// squares.
    @inline(never)
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    private func forEachBlock(
        _ examples: Examples<Element>, scale: Element?, shouldStop: (_ work: Int) -> Bool
    ) throws(PenteError) -> Double? {
        if Threads.count > 1 {
            let sums = memory.sums.block
            switch inParallel(
                examples, scale: scale, wide: scale == nil ? nil : sums.wide, corrections: sums.partial,
                shouldStop: shouldStop)
            {
            case .done(let total): return total
            case .stopped: return nil
            case .left: break
            }
        }
        let unit = min(layer.rowsPerStep, examples.count)
        let block = min(layer.rowsPerBlock, examples.count)
        let outputs = examples.y.columns
        try reserve(rows: block, for: examples, gradient: scale != nil)
        self.block.base.pointee.total = CompensatedSum()
        var first = 0
        while first < examples.count {
            let rows = examples.rows(first, min(unit, examples.count - first))
            try layer.computeStep(step(rows, block: min(block, rows.count), scale: scale))
            first += rows.count
            if shouldStop(rows.count &* (layer.trainedCount &+ outputs)) { return nil }
        }
        return self.block.base.pointee.total.value
    }

    @inline(never)
    private func collectOffsets() throws(PenteError) {
        let states = sgd.states
        let collected = try Buffer<Int>(count: states.count)
        for (i, state) in states.enumerated() {
            let index = layer.trained.firstIndex { $0.isSame(as: state.parameter) }
            collected.base[i] = index.map { layer.trained[..<$0].reduce(0) { $0 + $1.count } } ?? -1
        }
        offsets = collected
        offsetGroups = sgd.groupCount
    }

    @inline(never)
    private func notFinite(_ loss: Double) -> PenteError {
        sgd.notFinite("the loss is \(loss), which is not a finite \(Element.dtypeName)")
    }
}

import PenteKernels

/// A layer, a loss and an optimizer together, with the workspace for their steps. It belongs to one thread, or actor, at
/// a time, as they do.
public final class Trainer<Element: Scalar> {
    public let layer: Layer<Element>
    public let mse: MSE
    public let sgd: SGD<Element>

    private var memory = PassMemory<Element>()
    /// The loss's gradient with respect to the prediction, for a block of rows.
    private var gradPrediction = Buffer<Element>()
    /// Where the batch's sums have the gradient of each of the optimizer's parameters, once it is known; −1 for a parameter
    /// that the layer does not have. It is of so many groups.
    private var offsets = Buffer<Int>()
    private var offsetGroups = 0
    /// The shape of a single block that there is memory for.
    private var prepared = (rows: 0, columns: 0)
    private let rowsPerBlock: Int
    private let rowsPerSum: Int
    /// For what goes on several threads, once there has been something.
    var parallel: ParallelStep<Element>?

    /// `sgd` must hold all of the layer's parameters; a loss with the reduction `.none` is refused, since it is not one number.
    public convenience init(layer: Layer<Element>, mse: MSE = MSE(), sgd: SGD<Element>) throws(PenteError) {
        try Self.require(layer, mse, sgd)
        self.init(layer, mse, sgd)
    }

    package static func make(
        layer: Layer<Element>, mse: MSE, sgd: SGD<Element>
    ) throws(PenteError) -> Trainer {
        try require(layer, mse, sgd)
        return Trainer(layer, mse, sgd)
    }

    private static func require(_ layer: Layer<Element>, _ mse: MSE, _ sgd: SGD<Element>) throws(PenteError) {
        try mse.requireReduced()
        if layer.trained.isEmpty { throw PenteError(.invalidArgument, "layer has no parameters to train") }
        try sgd.requireParameters(of: layer)
    }

    private init(_ layer: Layer<Element>, _ mse: MSE, _ sgd: SGD<Element>) {
        self.layer = layer
        self.mse = mse
        self.sgd = sgd
        rowsPerBlock = layer.rowsPerBlock
        rowsPerSum = layer.rowsPerSum
    }

    /// `sgd.zeroGradients`, the layer's `forward`, the loss, the layer's `backward` and `sgd.step` in one call, to the
    /// same bits; returns the loss before the update.
    ///
    /// `sampleWeight` is q×1. Throws `.notFinite`, before anything changes, if the loss is NaN or infinite.
    @discardableResult
    public func step(
        _ x: Matrix<Element>, _ y: Matrix<Element>, sampleWeight: Matrix<Element>? = nil
    ) throws(PenteError) -> Double {
        try withExamples(x, y, sampleWeight) { (examples) throws(PenteError) in
            try step(examples, shouldStop: { _ in false })!
        }
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

    /// A training step. A block of rows goes forward, through the loss and backward before the next one comes, so
    /// that x is read once. `shouldStop` hears of the work after each block; if it says so, nothing changes and the
    /// result is nil.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package func step(_ examples: Examples<Element>, shouldStop: (_ work: Int) -> Bool) throws(PenteError) -> Double? {
        try require(examples)
        let rows = try mse.totalWeight(examples.sampleWeight, rows: examples.count)
        return try step(examples, rows: rows, shouldStop: shouldStop)
    }

    /// The same for examples that fit the layer, and whose rows, or weights, sum to `rows`.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    @_optimize(speed)
    package func step(
        _ examples: Examples<Element>, rows: Double, shouldStop: (_ work: Int) -> Bool
    ) throws(PenteError) -> Double? {
        let divisor = mse.divisor(rows: rows, columns: examples.y.columns)
        if offsetGroups != sgd.groupCount { try collectOffsets() }
        try memory.sums.start(count: layer.trainedCount, isWide: examples.count > rowsPerSum)
        try sgd.prepare()
        let scale: Element = mse.scale(divisor)
        let total =
            examples.count <= rowsPerBlock
            ? try stepBlock(examples, scale, shouldStop)
            : try forEachBlock(examples, scale: scale, shouldStop: shouldStop)
        guard let total else { return nil }
        let loss = total / divisor
        guard Element(loss).isFinite else { throw notFinite(loss) }
        sgd.update(offsets: offsets.base, sums: memory.sums.sums)
        return loss
    }

    /// The loss of the layer as it is; nil if `shouldStop` says so.
    package func evaluate(_ examples: Examples<Element>, shouldStop: (_ work: Int) -> Bool) throws(PenteError)
        -> Double?
    {
        let rows = try mse.totalWeight(examples.sampleWeight, rows: examples.count)
        let divisor = mse.divisor(rows: rows, columns: examples.y.columns)
        return try forEachBlock(examples, scale: nil, shouldStop: shouldStop).map { $0 / divisor }
    }

    /// `forEachBlock` for a single one.
    @inline(__always)
    private func stepBlock(
        _ examples: Examples<Element>, _ scale: Element, _ shouldStop: (_ work: Int) -> Bool
    ) throws(PenteError) -> Double? {
        let outputs = examples.y.columns
        if examples.count > prepared.rows || examples.x.columns != prepared.columns {
            try reserve(rows: examples.count, for: examples, gradient: true)
            prepared = (examples.count, examples.x.columns)
        }
        var total = 0.0
        try withUnsafeMutablePointer(to: &total) { (total) throws(PenteError) in
            try layer.computeStep(
                StepPass(
                    x: examples.x, target: examples.y, sampleWeight: examples.sampleWeight,
                    y: MutableMatrixView(memory.output.base, rows: examples.count, columns: outputs),
                    gradient: gradPrediction.base, scale: scale, total: total, workspace: memory.workspace,
                    gradients: memory.sums.block))
        }
        return shouldStop(examples.count &* (layer.trainedCount &+ outputs)) ? nil : total
    }

    /// Makes room for a block of so many rows. A layer of any number of columns has those of the examples.
    @inline(never)
    private func reserve(rows: Int, for examples: Examples<Element>, gradient: Bool) throws(PenteError) {
        let outputs = examples.y.columns
        try memory.reserve(
            rows: rows, workspacePerRow: layer.workspacePerRow(columns: examples.x.columns),
            scratch: layer.scratchCount(rows: rows), outputs: outputs)
        if gradient { try gradPrediction.reserve(rows: rows, columns: outputs) }
    }

    /// Sends each block forward, and backward if there is a scale for the loss's gradient; returns the sum of the
    /// squares.
    @inline(__always)
    private func forEachBlock(
        _ examples: Examples<Element>, scale: Element?, shouldStop: (_ work: Int) -> Bool
    ) throws(PenteError) -> Double? {
        if Threads.count > 1 {
            let gradients = scale == nil ? nil : memory.sums.block
            switch inParallel(examples, scale: scale, wide: gradients?.wide, shouldStop: shouldStop) {
            case .done(let total): return total
            case .stopped: return nil
            case .left: break
            }
        }
        let unit = min(layer.rowsPerStep, examples.count)
        let block = min(layer.rowsPerBlock, examples.count)
        let outputs = examples.y.columns
        try reserve(rows: block, for: examples, gradient: scale != nil)
        var total = 0.0
        var first = 0
        while first < examples.count {
            let rows = examples.rows(first, min(unit, examples.count - first))
            let y = MutableMatrixView(memory.output.base, rows: min(block, rows.count), columns: outputs)
            try withUnsafeMutablePointer(to: &total) { (total) throws(PenteError) in
                try layer.computeStep(
                    StepPass(
                        x: rows.x, target: rows.y, sampleWeight: rows.sampleWeight, y: y,
                        gradient: scale == nil ? nil : gradPrediction.base, scale: scale ?? 0, total: total,
                        workspace: memory.workspace, gradients: memory.sums.block))
            }
            first += rows.count
            if shouldStop(rows.count &* (layer.trainedCount &+ outputs)) { return nil }
        }
        return total
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

    private func notFinite(_ loss: Double) -> PenteError {
        PenteError(
            .notFinite,
            "the loss is \(loss), which is not a finite \(Element.dtypeName); usual causes are features that are not scaled, a large lr (it is \(sgd.groups[0].options.lr)), or NaN in the data"
        )
    }
}

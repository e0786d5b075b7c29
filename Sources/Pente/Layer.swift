import PenteKernels

/// The kinds of layer; the raw values are those of C's `pente_layer_kind`.
package enum LayerKind: Int32 {
    case linear = 1
    case activation, scaler, chain, custom
}

/// A known function h with an explicit derivative: `forward`, `backward` and parameters, which it holds with their
/// gradients.
///
/// The chain rule is all there is to it: given the gradient of any loss L with respect to y = h(x), a layer computes
/// those with respect to x and to its parameters, ∂(L∘h)/∂xᵢ = Σⱼ (∇L)ⱼ ∂hⱼ/∂xᵢ (docs/gradients.md, section 2). For a
/// function of your own, see ``CustomLayer``. A layer is a reference and not `Sendable`: it belongs to one thread, or
/// actor, at a time.
open class Layer<Element: Scalar> {
    /// The columns of x; 0: any number, and y has as many.
    public final let inputs: Int
    /// The columns of y, or 0.
    public final let outputs: Int
    /// By name, and with their gradients.
    public final let parameters: [Parameter<Element>]
    /// Those that an optimizer changes.
    package final let trained: [Parameter<Element>]
    /// How many numbers these are.
    package final let trainedCount: Int

    // What a kind of layer sets when it is made. A getter to override would be a word, and its relocation, in the table of
    // each kind for each type.
    package internal(set) final var kind = LayerKind.custom
    /// Whether backward reads y.
    package internal(set) final var readsOutput = false
    /// Whether a pass may fail in the middle, since it runs code of the user's.
    package internal(set) final var mayFail = false
    /// Whether its passes of a block are themselves shared out among threads.
    package internal(set) final var sharesOutputs = false
    /// How deep chains nest in it, itself among them.
    package internal(set) final var depth = 0
    /// The names that its parameters have in it and in the chains of which it is made.
    final var nameCount = 0
    /// The numbers for each row that forward leaves for backward, or that backward works in, and how many more for each
    /// column of x.
    final var workspacePerRow = (fixed: 0, forEachColumn: 0)
    /// How many rows a pass takes at once: a matter of the shape alone, since the bits depend on it. A power of two and a
    /// multiple of the loss's block. `Int.max`: the batch as a whole.
    package internal(set) final var rowsPerBlock = SquaredError<Element>.rowsPerBlock
    /// Gradients are summed in blocks of so many rows; `Int.max` where there are none.
    package internal(set) final var rowsPerSum = Int.max
    /// How many rows of a training step the trainer hands over at once: a multiple of `rowsPerBlock`.
    package internal(set) final var rowsPerStep = SquaredError<Element>.rowsPerBlock

    package init(_ inputs: Int, _ outputs: Int, _ parameters: [Parameter<Element>]) {
        self.inputs = inputs
        self.outputs = outputs
        self.parameters = parameters
        trained = parameters.filter { $0.isTrained }
        trainedCount = trained.reduce(0) { $0 + $1.count }
    }

    /// The parameter of that name, or nil.
    public final func parameter(named name: String) -> Parameter<Element>? {
        parameters.first { $0.name.hasSameBytes(as: name) }
    }

    package final func has(_ parameter: Parameter<Element>) -> Bool {
        parameters.contains { $0.isSame(as: parameter) }
    }

    /// Sets every gradient to 0.
    public final func zeroGradients() {
        for parameter in parameters { parameter.zeroGradients() }
    }

    /// Gives a linear layer, or all linear layers of a chain in their order, new initial parameters from one generator:
    /// what torch.manual_seed(seed) and building the same nn.Sequential gives. Other layers stay as they are. As in
    /// PyTorch, the low 32 bits of the seed count.
    public final func resetParameters(seed: UInt64) {
        var generator = MersenneTwister(seed: seed)
        resetParameters(from: &generator)
    }

    package func resetParameters(from generator: inout MersenneTwister) {}

    // MARK: What a kind of layer defines.

    /// As an error names it: "Linear(64, 10)".
    package var summary: Message { fatalError("a layer has a summary") }

    /// Writes how it is built, as `Architecture` reads it.
    package func describe(to json: inout JSONWriter) { fatalError("a layer describes itself") }

    /// A chain's layers.
    package final var children: [Layer<Element>] {
        kind == .chain ? unsafeDowncast(self, to: Chain<Element>.self).layers : []
    }

    /// The numbers of a row's workspace if x has so many columns.
    package final func workspacePerRow(columns: Int) -> Int {
        workspacePerRow.fixed &+ workspacePerRow.forEachColumn &* columns
    }

    /// The numbers that a pass of so many rows works in, and leaves to nobody.
    package func scratchCount(rows: Int) -> Int { 0 }

    /// The numbers that the gradients of a step's block of so many rows take in a log.
    package func logCount(rows: Int) -> Int { 0 }

    /// Shapes are right when this is called, here and below.
    package func computeForward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>
    ) throws(PenteError) {
        fatalError("a layer defines its forward pass")
    }

    /// Writes the gradients of at most `rowsPerBlock` rows, and ends their block.
    package func computeBackward(_ pass: BackwardPass<Element>) throws(PenteError) {
        fatalError("a layer defines its backward pass")
    }

    /// A training step's rows forward, through the loss and, if there is a place for its gradient, backward.
    package func computeStep(_ step: StepPass<Element>) throws(PenteError) {
        try computeForward(step.x, into: step.y, workspace: step.workspace)
        Element._perform(step.error)
        guard let gradOutput = step.gradOutput else { return }
        try computeBackward(
            BackwardPass(
                gradOutput: gradOutput.readOnly, x: step.x, y: step.y.readOnly, workspace: step.workspace,
                gradients: step.gradients, gradInput: nil))
    }
}

/// Memory to work in.
package struct Workspace<Element: Scalar> {
    /// What forward leaves for backward, row by row.
    package var rows: UnsafeMutablePointer<Element>
    /// `scratchCount` numbers.
    package var scratch: UnsafeMutablePointer<Element>

    /// For a layer that works in none.
    static var none: Workspace { Workspace(rows: Buffer().base, scratch: Buffer().base) }

    package func advanced(by count: Int) -> Workspace { Workspace(rows: rows + count, scratch: scratch) }
}

/// A training step's rows.
package struct StepPass<Element: Scalar> {
    package var x: MatrixView<Element>
    package var target: MatrixView<Element>
    package var sampleWeight: MatrixView<Element>?
    /// As many rows as x has, or `rowsPerBlock`.
    package var y: MutableMatrixView<Element>
    /// For y's gradient, as many numbers as y has; nil: there is no backward pass.
    package var gradient: UnsafeMutablePointer<Element>?
    package var scale: Element
    /// The squares are added to it.
    package var total: UnsafeMutablePointer<CompensatedSum>
    /// From the total of 64 rows to the next one's.
    package var totalStep = 0
    package var workspace: Workspace<Element>
    package var gradients: GradientBlock<Element>

    @inline(__always)
    package var gradOutput: MutableMatrixView<Element>? {
        if let gradient { MutableMatrixView(gradient, rows: y.rows, columns: y.columns) } else { nil }
    }

    package var error: SquaredError<Element> {
        var error = SquaredError(prediction: y.readOnly, target: target, sampleWeight: sampleWeight)
        error.total = total
        error.totalStep = totalStep
        error.scale = scale
        error.gradPrediction = gradOutput
        return error
    }
}

/// What a backward pass reads and writes.
package struct BackwardPass<Element: Scalar> {
    package var gradOutput: MatrixView<Element>
    package var x: MatrixView<Element>
    /// There if the layer `readsOutput`.
    package var y: MatrixView<Element>?
    /// As the forward pass left it.
    package var workspace: Workspace<Element>
    package var gradients: GradientBlock<Element>
    /// nil: not wanted.
    package var gradInput: MutableMatrixView<Element>?

    package func rows(_ first: Int, _ count: Int, workspacePerRow: Int) -> BackwardPass {
        BackwardPass(
            gradOutput: gradOutput.rows(first, count), x: x.rows(first, count), y: y?.rows(first, count),
            workspace: workspace.advanced(by: first &* workspacePerRow), gradients: gradients,
            gradInput: gradInput?.rows(first, count))
    }
}

// MARK: Passes over views: what Swift, C and the trainer share.

extension Layer {
    package final func outputs(for x: MatrixView<Element>) -> Int { outputs == 0 ? x.columns : outputs }

    /// Inference: y = layer(x).
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package final func forward(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>) throws(PenteError) {
        try require(x, y)
        if x.rows > 8 && Threads.count > 1 && forwardInParallel(x, into: y) { return }
        let perRow = workspacePerRow(columns: x.columns)
        let scratchCount = scratchCount(rows: x.rows)
        if perRow | scratchCount == 0 && !mayFail { return try computeForward(x, into: y, workspace: .none) }
        let block = perRow == 0 ? x.rows : min(rowsPerBlock, x.rows)
        let rows = try Buffer<Element>(rows: block, columns: perRow, isZeroed: false)
        let scratch = try Buffer<Element>(rows: 1, columns: scratchCount, isZeroed: false)
        let workspace = Workspace(rows: rows.base, scratch: scratch.base)
        guard mayFail else { return try forwardInBlocks(x, into: y, workspace: workspace, of: block, advance: 0) }
        let staged = try Buffer<Element>(rows: y.rows, columns: y.columns, isZeroed: false)
        let output = MutableMatrixView(staged.base, rows: y.rows, columns: y.columns)
        try forwardInBlocks(x, into: output, workspace: workspace, of: block, advance: 0)
        y.copy(output.readOnly)
    }

    /// y = layer(x), of which `memory` keeps what a backward pass needs.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package final func forward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, memory: inout PassMemory<Element>
    ) throws(PenteError) {
        try require(x, y)
        let perRow = workspacePerRow(columns: x.columns)
        let isStaged = readsOutput || mayFail
        try memory.reserve(
            rows: x.rows, workspacePerRow: perRow, scratch: scratchCount(rows: x.rows),
            outputs: isStaged ? y.columns : 0)
        let output = isStaged ? MutableMatrixView(memory.output.base, rows: y.rows, columns: y.columns) : y
        memory.holdsPass = false
        try forwardInBlocks(x, into: output, workspace: memory.workspace)
        memory.holdsPass = true
        if isStaged { y.copy(output.readOnly) }
    }

    /// Adds the gradients of the batch to the parameters'.
    package final func backward(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, gradInput: MutableMatrixView<Element>?,
        memory: inout PassMemory<Element>
    ) throws(PenteError) {
        try computeGradients(gradOutput, x: x, gradInput: gradInput, memory: &memory)
        memory.sums.add(to: trained)
    }

    /// Leaves the parameters' gradients of the batch in the memory's sums, and writes x's.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package final func computeGradients(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, gradInput: MutableMatrixView<Element>?,
        memory: inout PassMemory<Element>
    ) throws(PenteError) {
        let outputs = outputs(for: x)
        guard gradOutput.rows == x.rows, gradOutput.columns == outputs else {
            throw PenteError(.shapeMismatch, "grad_output is \(gradOutput), but forward gave \(x.rows, outputs)")
        }
        if let gradInput, gradInput.rows != x.rows || gradInput.columns != x.columns {
            throw PenteError(.shapeMismatch, "grad_input is \(gradInput), but x was \(x)")
        }
        var gradOutput = gradOutput
        if mayFail && !gradOutput.isContiguous {
            try memory.gradOutput.reserve(rows: x.rows, columns: outputs)
            let copy = MutableMatrixView(memory.gradOutput.base, rows: x.rows, columns: outputs)
            copy.copy(gradOutput)
            gradOutput = copy.readOnly
        }
        try memory.sums.start(count: trainedCount, isWide: x.rows > rowsPerSum)
        var pass = BackwardPass(
            gradOutput: gradOutput, x: x,
            y: readsOutput ? MatrixView(memory.output.base, rows: x.rows, columns: outputs) : nil,
            workspace: memory.workspace, gradients: memory.sums.block, gradInput: gradInput)
        guard mayFail, let gradInput else { return try backwardInBlocks(pass) }
        try memory.gradInput.reserve(rows: x.rows, columns: x.columns)
        let staged = MutableMatrixView(memory.gradInput.base, rows: x.rows, columns: x.columns)
        pass.gradInput = staged
        try backwardInBlocks(pass)
        gradInput.copy(staged.readOnly)
    }

    /// Any number of rows, with a workspace for all of them.
    package final func forwardInBlocks(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>
    ) throws(PenteError) {
        let perRow = workspacePerRow(columns: x.columns)
        try forwardInBlocks(
            x, into: y, workspace: workspace, of: perRow == 0 ? x.rows : min(rowsPerBlock, x.rows), advance: perRow)
    }

    final func forwardInBlocks(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>,
        of block: Int, advance: Int
    ) throws(PenteError) {
        if block == x.rows { return try computeForward(x, into: y, workspace: workspace) }
        var first = 0
        while first < x.rows {
            let count = min(block, x.rows - first)
            try computeForward(
                x.rows(first, count), into: y.rows(first, count), workspace: workspace.advanced(by: first &* advance))
            first += count
        }
    }

    /// Any number of rows, which went forward in blocks.
    package final func backwardInBlocks(_ pass: BackwardPass<Element>) throws(PenteError) {
        let rows = pass.x.rows
        let perRow = workspacePerRow(columns: pass.x.columns)
        let block = rowsPerBlock
        if rows <= block || perRow == 0 && trainedCount == 0 { return try computeBackward(pass) }
        var first = 0
        while first < rows {
            let count = min(block, rows - first)
            try computeBackward(pass.rows(first, count, workspacePerRow: perRow))
            first += count
        }
    }

    @inline(__always)
    private final func require(_ x: MatrixView<Element>, _ y: MutableMatrixView<Element>) throws(PenteError) {
        if inputs == x.columns || inputs == 0, y.rows == x.rows, y.columns == outputs(for: x) { return }
        try refuse(x, y)
    }

    @inline(never)
    private final func refuse(_ x: MatrixView<Element>, _ y: MutableMatrixView<Element>) throws(PenteError) {
        try requireInput(x)
        throw PenteError(
            .shapeMismatch, "y is \(y), but x is \(x), for which the layer gives \(x.rows, outputs(for: x))")
    }

    package final func requireInput(_ x: MatrixView<Element>, _ name: StaticString = "x") throws(PenteError) {
        if inputs != 0 && x.columns != inputs {
            throw PenteError(.shapeMismatch, "\(name) is \(x), but the layer takes \(inputs) columns")
        }
    }
}

// MARK: Passes over matrices.

extension Layer {
    private final func outputs(for x: Matrix<Element>) -> Int { outputs == 0 ? x.columns : outputs }

    /// Inference: y = layer(x), q × outputs for an x of q × inputs. Nothing is kept.
    ///
    /// Throws `.shapeMismatch` if x has another number of columns, and what a layer of your own throws.
    public final func forward(_ x: Matrix<Element>) throws(PenteError) -> Matrix<Element> {
        try Matrix.filled(rows: x.rows, columns: outputs(for: x)) { (y) throws(PenteError) in
            try x.withView { (x) throws(PenteError) in try forward(x, into: y) }
        }
    }

    /// Training: y = layer(x) likewise, but x, and what else the backward pass needs, stays in the context.
    ///
    /// Throws as `forward(_:)` does.
    public final func forward(_ x: Matrix<Element>, context: Context<Element>) throws(PenteError) -> Matrix<Element> {
        let y = try Matrix.filled(rows: x.rows, columns: outputs(for: x)) { (y) throws(PenteError) in
            try x.withView { (x) throws(PenteError) in try forward(x, into: y, memory: &context.memory) }
        }
        context.x = x
        context.layer = self
        return y
    }

    /// The gradients of any loss that comes after, given `gradOutput`, its gradient with respect to this layer's
    /// output, q × outputs. Adds to the parameters' gradients and returns the one with respect to x, q × inputs.
    ///
    /// Throws `.invalidState` if no `forward` of this layer with this context came before: each backward pass takes
    /// one; `.shapeMismatch` if `gradOutput` has not the shape of what that forward gave; and what a layer of your own
    /// throws. No gradient has changed then.
    @discardableResult
    public final func backward(
        _ gradOutput: Matrix<Element>, context: Context<Element>
    ) throws(PenteError) -> Matrix<Element> {
        guard let x = context.x, context.layer === self, context.memory.holdsPass else { throw .noForward }
        let gradInput = try Matrix.filled(rows: x.rows, columns: x.columns) { (gradInput) throws(PenteError) in
            try x.withView { (x) throws(PenteError) in
                try gradOutput.withView { (gradOutput) throws(PenteError) in
                    try backward(gradOutput, x: x, gradInput: gradInput, memory: &context.memory)
                }
            }
        }
        context.x = nil
        return gradInput
    }
}

extension PenteError {
    package static var noForward: PenteError {
        PenteError(.invalidState, "context holds no forward pass; each backward needs one before it")
    }
}

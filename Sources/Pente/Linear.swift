import PenteKernels
import PenteSystem

/// Y = X W + b, with the gradients ∂X = G Wᵀ, ∂W = Xᵀ G and ∂b = 1ᵀ G.
///
/// X is q × inputs, and G, the upstream gradient, q × outputs. "weight" is outputs × inputs, the transpose of W, as in
/// PyTorch; "bias" is 1 × outputs. The gradients are derived in docs/gradients.md, section 3.
public final class Linear<Element: Scalar>: Layer<Element> {
    /// The initial parameters are torch.nn.Linear's for the seed, bit for bit: U(−1/√inputs, 1/√inputs).
    ///
    /// As in PyTorch, the low 32 bits of the seed count. Throws `.invalidArgument` for a size below 1, and
    /// `.outOfMemory`.
    public convenience init(inputs: Int, outputs: Int, bias: Bool = true, seed: UInt64 = 0) throws(PenteError) {
        let parameters = try Self.makeParameters(inputs: inputs, outputs: outputs, bias: bias)
        self.init(inputs, outputs, parameters)
        resetParameters(seed: seed)
    }

    /// With parameters of 0.
    package static func make(inputs: Int, outputs: Int, bias: Bool) throws(PenteError) -> Linear {
        let parameters = try makeParameters(inputs: inputs, outputs: outputs, bias: bias)
        return Linear(inputs, outputs, parameters)
    }

    private override init(_ inputs: Int, _ outputs: Int, _ parameters: [Parameter<Element>]) {
        isNarrow = outputs < 16 || outputs == 16 && inputs >= 128
        weights = parameters[0].view
        biases = parameters.count > 1 ? UnsafePointer(parameters[1].values) : nil
        // Powers of two: each layer's blocks then end where a chain's do.
        let unit = SquaredError<Element>.rowsPerBlock
        let fitting = isNarrow ? (1 << 18) / MemoryLayout<Element>.size / inputs : Int.max
        sumRows = (fitting >= 4 * unit ? 4 : fitting >= 2 * unit ? 2 : 1) * unit
        super.init(inputs, outputs, parameters)
        kind = .linear
        sharesOutputs = !isNarrow
        rowsPerSum = sumRows
        rowsPerBlock = isNarrow ? sumRows : 512
        // A narrow layer's blocks go through a step in one call, for about a millisecond.
        let stepBlocks = isNarrow ? max(1, min(64, (1 << 24) / (rowsPerBlock * trainedCount))) : 1
        rowsPerStep = rowsPerBlock * stepBlocks
    }

    private static func makeParameters(
        inputs: Int, outputs: Int, bias: Bool
    ) throws(PenteError) -> [Parameter<Element>] {
        guard inputs >= 1 else { throw PenteError(.invalidArgument, "in_features is \(inputs); it must be at least 1") }
        guard outputs >= 1 else {
            throw PenteError(.invalidArgument, "out_features is \(outputs); it must be at least 1")
        }
        let weight = try Parameter<Element>.make(name: "weight", rows: outputs, columns: inputs)
        guard bias else { return [weight] }
        return [weight, try Parameter<Element>.make(name: "bias", rows: 1, columns: outputs, rank: 1)]
    }

    package override func resetParameters(from generator: inout MersenneTwister) {
        parameters[0].fillUniform(bound: Self.weightBound(inputs: inputs), from: &generator)
        if biases != nil { parameters[1].fillUniform(bound: 1 / pente_square_root(Double(inputs)), from: &generator) }
    }

    /// 1/√inputs with PyTorch's roundings: kaiming_uniform_ for a leaky ReLU of slope √5.
    private static func weightBound(inputs: Int) -> Double {
        let slope = 5.0.squareRoot()
        let gain = (2 / (1 + slope * slope)).squareRoot()
        return 3.0.squareRoot() * (gain / pente_square_root(Double(inputs)))
    }

    private let weights: MatrixView<Element>
    private let biases: UnsafePointer<Element>?
    /// No more outputs than a vector of float32 has lanes: y is computed as dot products, rows of X with rows of the weight,
    /// which sixteen outputs want long. With more a vector is of outputs, and the weight is transposed for eight rows of X
    /// or more.
    private let isNarrow: Bool
    /// `rowsPerSum`: as many rows of X as fit half of a second-level cache of 512 KB, and few enough that float32 adds them
    /// up well.
    private let sumRows: Int
    /// For passes on several threads, once there has been one: whoever has taken the pool uses it.
    private var parallel: ParallelPass<Element>?

    /// Wᵀ, outputs × inputs, a copy.
    public var weight: Matrix<Element> { parameters[0].value }
    /// b, 1 × outputs, a copy; nil for a layer without bias.
    public var bias: Matrix<Element>? { biases == nil ? nil : parameters[1].value }

    package override func scratchCount(rows: Int) -> Int {
        isNarrow || rows < 8 ? 0 : Product<Element>.scratchCount(inputs, outputs)
    }

    package override func logCount(rows: Int) -> Int {
        let bias = biases == nil ? 0 : GradientLog<Element>.countWide(outputs)
        return ((rows - 1) / sumRows + 1) * (GradientLog<Element>.count(outputs * inputs) + bias)
    }

    package override var summary: Message { "Linear(\(inputs), \(outputs))" }

    package override func describe(to json: inout JSONWriter) {
        json.raw("{\"type\":\"linear\",\"in_features\":\(inputs),\"out_features\":\(outputs),\"bias\":")
        json.raw(biases == nil ? "false}" : "true}")
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    @_optimize(speed)
    package override func computeForward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>
    ) throws(PenteError) {
        // The same for each row, however many go at once: blocks are multiples of eight.
        let transposed = isNarrow ? 0 : x.rows & ~7
        if transposed > 0 {
            let product = Product(
                output: y.rows(0, transposed), x: x.rows(0, transposed), weight: weights, bias: biases,
                scratch: workspace.scratch)
            perform(Pass(product: product))
        }
        let rest = x.rows &- transposed
        if rest > 0 {
            let forward = Forward(
                x: x.rows(transposed, rest), weight: weights, bias: biases, y: y.rows(transposed, rest))
            perform(Pass(forward: forward))
        }
    }

    /// ∂W = Xᵀ G, stored transposed; ∂b = 1ᵀ G; ∂X = G Wᵀ.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    @_optimize(speed)
    package override func computeBackward(_ pass: BackwardPass<Element>) throws(PenteError) {
        let scratch = isNarrow || pass.x.rows < 8 ? nil : pass.workspace.scratch
        if pass.gradients.log == nil {
            perform(
                Pass(
                    product: gradWeight(pass.gradients, pass.gradOutput, pass.x, scratch: scratch),
                    columnSums: gradBias(pass.gradients, pass.gradOutput)))
        } else {
            logGradients(pass, scratch: scratch)
        }
        guard let gradInput = pass.gradInput else { return }
        let product = Product(
            gradInput: gradInput, gradOutput: pass.gradOutput, weight: weights, scratch: scratch)
        perform(Pass(product: product))
    }

    /// On several threads, if that is worth it.
    @inline(never)
    private func perform(_ pass: Pass<Element>) {
        if Threads.count > 1 && !isNarrow && performInParallel(pass) { return }
        Element._perform(pass)
    }

    @inline(never)
    private func performInParallel(_ pass: Pass<Element>) -> Bool {
        let work = pass.product?.work ?? pass.forward!.work
        if !ParallelPass.isLarge(pass, work) { return false }
        let bytes = Product<Element>.scratchCount(inputs, outputs) * MemoryLayout<Element>.stride
        let threads = Pool.take(threads: Threads.count, work: work, bytes: bytes)
        if threads == 1 { return false }
        let parallel = self.parallel ?? ParallelPass(pass)
        self.parallel = parallel
        parallel.run(pass, threads: threads)
        return true
    }

    /// All of a training step with a backward pass as one pass of the kernels, if it is no more than that; `error` is the
    /// step's.
    @inline(never)
    func stepPass(_ step: StepPass<Element>, error: UnsafePointer<SquaredError<Element>>) -> Pass<Element>? {
        guard isNarrow, step.gradients.log == nil, let gradOutput = step.gradOutput?.readOnly else { return nil }
        return Pass(
            forward: Forward(x: step.x, weight: weights, bias: biases, y: step.y), error: error,
            product: gradWeight(step.gradients, gradOutput, step.x, scratch: nil),
            columnSums: gradBias(step.gradients, gradOutput), rows: step.x.rows, rowsPerBlock: sumRows)
    }

    /// All in one call, block by block, while X is in the cache.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    @_optimize(speed)
    package override func computeStep(_ step: StepPass<Element>) throws(PenteError) {
        guard isNarrow else { return try super.computeStep(step) }
        withUnsafePointer(to: step.error) { error in
            if let pass = stepPass(step, error: error) { return Element._perform(pass) }
            let forward = Forward(x: step.x, weight: weights, bias: biases, y: step.y)
            if let gradOutput = step.gradOutput?.readOnly { return logStep(step, forward, error, gradOutput) }
            Element._perform(Pass(forward: forward, error: error, rows: step.x.rows, rowsPerBlock: sumRows))
        }
    }

    /// The same sums, but those of each block to a place of their own.
    @inline(never)
    private func logStep(
        _ step: StepPass<Element>, _ forward: Forward<Element>, _ error: UnsafePointer<SquaredError<Element>>,
        _ gradOutput: MatrixView<Element>
    ) {
        let (log, offset, rows) = (step.gradients.log!, step.gradients.offset, step.x.rows)
        var places: (weight: UnsafeMutablePointer<Element>, bias: ColumnPlace<Element>?)?
        for _ in 0...(rows - 1) / sumRows {
            let weight = log.pointee.append(outputs * inputs, at: offset)
            let bias = biases == nil ? nil : log.pointee.appendWide(outputs, at: offset + outputs * inputs)
            if places == nil { places = (weight, bias) }
        }
        let first = GradientBlock(partial: places!.weight, wide: nil)
        Element._perform(
            Pass(
                forward: forward, error: error, product: gradWeight(first, gradOutput, step.x, scratch: nil),
                columnSums: places!.bias.map { ColumnSums($0.sums, wide: $0.wide, gradOutput: gradOutput) },
                rows: rows, rowsPerBlock: sumRows, sumsStep: logCount(rows: 1)))
    }

    /// Likewise: the weight's are of fewer rows than the bias's.
    @inline(never)
    private func logGradients(_ pass: BackwardPass<Element>, scratch: UnsafeMutablePointer<Element>?) {
        let (log, offset) = (pass.gradients.log!, pass.gradients.offset)
        var first = 0
        while first < pass.x.rows {
            let rows = pass.rows(first, min(sumRows, pass.x.rows - first), workspacePerRow: 0)
            let gradients = GradientBlock(partial: log.pointee.append(outputs * inputs, at: offset), wide: nil)
            Element._perform(Pass(product: gradWeight(gradients, rows.gradOutput, rows.x, scratch: scratch)))
            first += sumRows
        }
        if biases == nil { return }
        let bias = log.pointee.appendWide(outputs, at: offset + outputs * inputs)
        Element._perform(Pass(columnSums: ColumnSums(bias.sums, wide: bias.wide, gradOutput: pass.gradOutput)))
    }

    @inline(__always)
    private func gradWeight(
        _ gradients: GradientBlock<Element>, _ gradOutput: MatrixView<Element>, _ x: MatrixView<Element>,
        scratch: UnsafeMutablePointer<Element>?
    ) -> Product<Element> {
        Product(
            gradWeight: MutableMatrixView(gradients.partial, rows: outputs, columns: inputs), wide: gradients.wide,
            gradOutput: gradOutput, x: x, scratch: scratch)
    }

    @inline(__always)
    private func gradBias(
        _ gradients: GradientBlock<Element>, _ gradOutput: MatrixView<Element>
    ) -> ColumnSums<Element>? {
        if biases == nil { return nil }
        let bias = gradients.advanced(by: outputs &* inputs)
        return ColumnSums(bias.partial, wide: bias.wide, gradOutput: gradOutput)
    }
}

import PenteKernels
import PenteSystem

/// Y = X W + b, with the gradients ∂X = G Wᵀ, ∂W = Xᵀ G and ∂b = 1ᵀ G.
///
/// "weight" is outputs × inputs, the transpose of W, as in PyTorch; "bias" is 1 × outputs.
public final class Linear<Element: Scalar>: Layer<Element> {
    /// The initial parameters are torch.nn.Linear's for the seed, bit for bit: U(−1/√inputs, 1/√inputs).
    ///
    /// As in PyTorch, the low 32 bits of the seed count.
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
        super.init(inputs, outputs, parameters)
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
        weightParameter.fillUniform(bound: Self.weightBound(inputs: inputs), from: &generator)
        biasParameter?.fillUniform(bound: 1 / pente_square_root(Double(inputs)), from: &generator)
    }

    /// 1/√inputs with PyTorch's roundings: kaiming_uniform_ for a leaky ReLU of slope √5.
    private static func weightBound(inputs: Int) -> Double {
        let slope = 5.0.squareRoot()
        let gain = (2 / (1 + slope * slope)).squareRoot()
        return 3.0.squareRoot() * (gain / pente_square_root(Double(inputs)))
    }

    private var weightParameter: Parameter<Element> { parameters[0] }
    private var biasParameter: Parameter<Element>? { parameters.count > 1 ? parameters[1] : nil }

    /// outputs × inputs, a copy.
    public var weight: Matrix<Element> { weightParameter.value }
    /// 1 × outputs, a copy; nil for a layer without bias.
    public var bias: Matrix<Element>? { biasParameter?.value }

    /// As many rows of X as fit half of a second-level cache of 512 KB, and few enough that float32 adds them up
    /// well; more for a wide product, where adding up the blocks' partial gradients would else cost too much.
    package override var rowsPerBlock: Int {
        if outputs > 16 { return 512 }
        let unit = SquaredError<Element>.rowsPerBlock
        let fitting = (1 << 18) / MemoryLayout<Element>.size / inputs
        // A power of two: each layer's blocks then end where a chain's do.
        return (fitting >= 4 * unit ? 4 : fitting >= 2 * unit ? 2 : 1) * unit
    }

    package override var kind: LayerKind { .linear }

    package override var summary: Message { "Linear(\(inputs), \(outputs))" }

    package override func describe(to json: inout JSONWriter) {
        json.raw("{\"type\":\"linear\",\"in_features\":\(inputs),\"out_features\":\(outputs),\"bias\":")
        json.raw(biasParameter == nil ? "false}" : "true}")
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeForward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: UnsafeMutablePointer<Element>
    ) throws(PenteError) {
        Element._perform(.forward(Forward(x: x, weight: weightParameter.view, bias: biasParameter?.values, y: y)))
    }

    /// ∂W = Xᵀ G, stored transposed; ∂b = 1ᵀ G; ∂X = G Wᵀ.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeBackward(_ pass: BackwardPass<Element>) throws(PenteError) {
        let gradOutput = pass.gradOutput
        let gradWeight = MutableMatrixView(pass.gradients.partial, rows: outputs, columns: inputs)
        Element._perform(.product(Product(gradWeight: gradWeight, gradOutput: gradOutput, x: pass.x)))
        if biasParameter != nil {
            let gradBias = pass.gradients.partial + weightParameter.count
            Element._perform(.columnSums(ColumnSums(gradBias, gradOutput: gradOutput)))
        }
        pass.gradients.end(trainedCount)
        if let gradInput = pass.gradInput {
            Element._perform(
                .product(Product(gradInput: gradInput, gradOutput: gradOutput, weight: weightParameter.view)))
        }
    }
}

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
        let parameters = try Self.makeParameters(inputs: inputs, outputs: outputs, bias: bias, seed: seed)
        self.init(inputs: inputs, outputs: outputs, parameters: parameters)
    }

    package static func make(inputs: Int, outputs: Int, bias: Bool, seed: UInt64) throws(PenteError) -> Linear {
        let parameters = try makeParameters(inputs: inputs, outputs: outputs, bias: bias, seed: seed)
        return Linear(inputs: inputs, outputs: outputs, parameters: parameters)
    }

    private override init(inputs: Int, outputs: Int, parameters: [Parameter<Element>]) {
        super.init(inputs: inputs, outputs: outputs, parameters: parameters)
    }

    private static func makeParameters(
        inputs: Int, outputs: Int, bias: Bool, seed: UInt64
    ) throws(PenteError) -> [Parameter<Element>] {
        guard inputs >= 1 else { throw PenteError(.invalidArgument, "in_features is \(inputs); it must be at least 1") }
        guard outputs >= 1 else {
            throw PenteError(.invalidArgument, "out_features is \(outputs); it must be at least 1")
        }
        let weight = try Parameter<Element>.make(name: "weight", rows: outputs, columns: inputs)
        let bias = bias ? try Parameter<Element>.make(name: "bias", rows: 1, columns: outputs) : nil
        var generator = MersenneTwister(seed: seed)
        weight.fillUniform(bound: weightBound(inputs: inputs), from: &generator)
        bias?.fillUniform(bound: 1 / Double(inputs).squareRoot(), from: &generator)
        return bias.map { [weight, $0] } ?? [weight]
    }

    /// 1/√inputs with PyTorch's roundings: kaiming_uniform_ for a leaky ReLU of slope √5.
    private static func weightBound(inputs: Int) -> Double {
        let slope = 5.0.squareRoot()
        let gain = (2 / (1 + slope * slope)).squareRoot()
        return 3.0.squareRoot() * (gain / Double(inputs).squareRoot())
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
        return min(max(fitting / unit, 1), 4) * unit
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeForward(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>) {
        Element._perform(.forward(Forward(x: x, weight: weightParameter.view, bias: biasParameter?.values.base, y: y)))
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeBackward(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, partials: borrowing GradientSums<Element>,
        gradInput: MutableMatrixView<Element>?
    ) {
        let gradWeight = MutableMatrixView(partials.partial(at: 0), rows: outputs, columns: inputs)
        Element._perform(.product(Product(gradWeight: gradWeight, gradOutput: gradOutput, x: x)))
        if biasParameter != nil {
            Element._perform(
                .columnSums(ColumnSums(partials.partial(at: weightParameter.count), gradOutput: gradOutput)))
        }
        if let gradInput {
            Element._perform(
                .product(Product(gradInput: gradInput, gradOutput: gradOutput, weight: weightParameter.view)))
        }
    }
}

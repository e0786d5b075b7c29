import PenteKernels

/// A function of one number, which an activation layer applies to each element.
public enum ActivationFunction: Sendable, Equatable {
    /// max(x, 0). Derivative: 0 where x ≤ 0, else 1.
    case relu
    /// x where x > 0, else ax. Derivative: 1 where x > 0, else a, the negative slope.
    case leakyReLU(negativeSlope: Double = 0.01)
    /// y = tanh x. Derivative: 1 − y².
    case tanh
    /// y = 1/(1 + e⁻ˣ). Derivative: y(1 − y).
    case sigmoid
    /// log(1 + eˣ). Derivative: 1/(1 + e⁻ˣ).
    case softplus

    /// In files.
    fileprivate var name: String {
        switch self {
        case .relu: "relu"
        case .leakyReLU: "leaky_relu"
        case .tanh: "tanh"
        case .sigmoid: "sigmoid"
        case .softplus: "softplus"
        }
    }

    package var negativeSlope: Double {
        if case .leakyReLU(let slope) = self { return slope }
        return 0
    }
}

/// y = f(x), element by element, for any number of columns; ∂x = f′(x)·G. It has no parameters.
///
/// The derivatives are worked out in docs/gradients.md, section 10.
public final class Activation<Element: Scalar>: Layer<Element> {
    /// f.
    public let function: ActivationFunction
    private let kernel: ActivationPass<Element>.Function

    /// Throws `.invalidArgument` for a negative slope that is not finite as an `Element`.
    public convenience init(_ function: ActivationFunction) throws(PenteError) {
        try Self.require(function)
        self.init(unchecked: function)
    }

    package static func make(_ function: ActivationFunction) throws(PenteError) -> Activation {
        try require(function)
        return Activation(unchecked: function)
    }

    private static func require(_ function: ActivationFunction) throws(PenteError) {
        if !Element(function.negativeSlope).isFinite {
            throw PenteError(
                .invalidArgument,
                "negative_slope is \(function.negativeSlope); it must be a finite \(Element.dtypeName)")
        }
    }

    private init(unchecked function: ActivationFunction) {
        self.function = function
        kernel =
            switch function {
            case .relu: .relu
            case .leakyReLU: .leakyReLU
            case .tanh: .tanh
            case .sigmoid: .sigmoid
            case .softplus: .softplus
            }
        super.init(0, 0, [])
        kind = .activation
        readsOutput = kernel.derivesFromOutput
    }

    package override var summary: Message {
        switch function {
        case .relu: "ReLU()"
        case .leakyReLU: "LeakyReLU()"
        case .tanh: "Tanh()"
        case .sigmoid: "Sigmoid()"
        case .softplus: "Softplus()"
        }
    }

    package override func describe(to json: inout JSONWriter) {
        json.raw("{\"type\":")
        json.string(function.name)
        if case .leakyReLU(let slope) = function { json.raw(",\"negative_slope\":\(slope)") }
        json.raw("}")
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeForward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>
    ) throws(PenteError) {
        perform(x, gradOutput: nil, into: y)
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeBackward(_ pass: BackwardPass<Element>) throws(PenteError) {
        guard let gradInput = pass.gradInput else { return }
        perform(kernel.derivesFromOutput ? pass.y! : pass.x, gradOutput: pass.gradOutput, into: gradInput)
    }

    private func perform(
        _ input: MatrixView<Element>, gradOutput: MatrixView<Element>?, into output: MutableMatrixView<Element>
    ) {
        Element._perform(
            ActivationPass(
                kernel, negativeSlope: Element(function.negativeSlope), input: input, gradOutput: gradOutput,
                output: output))
    }
}

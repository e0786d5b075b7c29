import Pente
import Testing

/// y = (x Wᵀ)/divisor + b, in plain loops: what a user may write, mistakes included.
final class PlainLinear<Element: Scalar>: CustomLayer<Element> {
    enum Mistake: CaseIterable {
        case missingTranspose, wrongSign, droppedDivisor, staleX, swappedIndices, firstRowAlone, lostBias, notANumber
    }

    let divisor: Element
    let mistake: Mistake?
    private var lastX: Matrix<Element>?

    init(_ weight: Matrix<Element>, _ bias: Matrix<Element>, divisor: Element = 1, mistake: Mistake? = nil) throws {
        self.divisor = divisor
        self.mistake = mistake
        try super.init(
            inputs: weight.columns, outputs: weight.rows,
            parameters: [Parameter(name: "weight", value: weight), Parameter(name: "bias", value: bias, rank: 1)])
    }

    override func computeForward(_ x: Matrix<Element>) throws(PenteError) -> Matrix<Element> {
        lastX = x
        let (weight, bias) = (parameters[0].value, parameters[1].value)
        return try matrix(x.rows, outputs) { i, k in
            sum(inputs) { j in x[i, j] * weight[k, j] } / divisor + bias[0, k]
        }
    }

    override func computeBackward(
        _ gradOutput: Matrix<Element>, x: Matrix<Element>, y: Matrix<Element>
    ) throws(PenteError) -> (gradInput: Matrix<Element>, gradients: [Matrix<Element>]) {
        let (weight, x) = (parameters[0].value, mistake == .staleX ? lastX! : x)
        let rows = mistake == .firstRowAlone ? 1 : x.rows
        let factor: Element =
            switch mistake {
            case .wrongSign: -1
            case .lostBias: 0
            case .notANumber: .nan
            default: 1
            }
        let weightDivisor = mistake == .droppedDivisor ? 1 : divisor
        let gradInput = try matrix(x.rows, inputs) { i, j in
            sum(outputs) { k in
                gradOutput[i, k] * (mistake == .missingTranspose ? weight[j, k] : weight[k, j])
            } / divisor
        }
        let gradWeight = try matrix(outputs, inputs) { k, j in
            let (k, j) = mistake == .swappedIndices ? (j, k) : (k, j)
            return sum(x.rows) { i in gradOutput[i, k] * x[i, j] } / weightDivisor
        }
        let gradBias = try matrix(1, outputs) { _, k in factor * sum(rows) { i in gradOutput[i, k] } }
        return (gradInput, [gradWeight, gradBias])
    }
}

private func sum<Element: Scalar>(_ count: Int, _ term: (Int) -> Element) -> Element {
    (0..<count).reduce(0) { $0 + term($1) }
}

private func matrix<Element: Scalar>(
    _ rows: Int, _ columns: Int, _ element: (Int, Int) -> Element
) throws(PenteError) -> Matrix<Element> {
    var result = try Matrix<Element>(rows: rows, columns: columns)
    for i in 0..<rows { for j in 0..<columns { result[i, j] = element(i, j) } }
    return result
}

/// y = ax for any number of columns, with a log of what came and a plan of when to fail.
final class Recorder<Element: Scalar>: CustomLayer<Element> {
    static var error: PenteError { PenteError(code: .init(rawValue: 1234), message: "the sensor is gone") }

    var forwards: [Matrix<Element>] = []
    var backwards: [(gradOutput: Matrix<Element>, x: Matrix<Element>, y: Matrix<Element>)] = []
    /// Fails when this many more calls have been made.
    var callsUntilFailure = Int.max
    var failsIn = Pass.either

    enum Pass { case forward, backward, either }

    init() throws {
        let scale = try Matrix<Element>(rows: 1, columns: 1, repeating: 2)
        try super.init(inputs: 0, outputs: 0, parameters: [Parameter(name: "a", value: scale, rank: 1)])
    }

    private func count(_ pass: Pass) throws(PenteError) {
        guard failsIn == pass || failsIn == .either else { return }
        if callsUntilFailure == 0 { throw Self.error }
        callsUntilFailure -= 1
    }

    override func computeForward(_ x: Matrix<Element>) throws(PenteError) -> Matrix<Element> {
        try count(.forward)
        forwards.append(x)
        let a = parameters[0].value[0, 0]
        return try Matrix(rows: x.rows, columns: x.columns, elements: x.elements.map { a * $0 })
    }

    override func computeBackward(
        _ gradOutput: Matrix<Element>, x: Matrix<Element>, y: Matrix<Element>
    ) throws(PenteError) -> (gradInput: Matrix<Element>, gradients: [Matrix<Element>]) {
        try count(.backward)
        backwards.append((gradOutput, x, y))
        let a = parameters[0].value[0, 0]
        let gradA = zip(gradOutput.elements, x.elements).reduce(0) { $0 + $1.0 * $1.1 }
        let gradInput = try Matrix(rows: x.rows, columns: x.columns, elements: gradOutput.elements.map { a * $0 })
        return (gradInput, [try Matrix(rows: 1, columns: 1, repeating: gradA)])
    }
}

@Suite struct CustomLayerTests {
    /// A layer of one's own trains as the library's does, but for rounding.
    @Test func trainsAsTheLibrarysLinear() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let linear = try Linear<Element>(inputs: 5, outputs: 3, seed: 1)
            let plain = try PlainLinear(linear.weight, linear.bias!)
            let options = SGDOptions(lr: 0.1, momentum: 0.9, weightDecay: 0.01, nesterov: true)
            let trainers = try [linear, plain].map { try Trainer(layer: $0, sgd: SGD([$0], options: options)) }
            let x: Matrix<Element> = try random(40, 5, seed: 1), y: Matrix<Element> = try random(40, 3, seed: 2)
            for _ in 0..<30 {
                let losses = try trainers.map { try $0.step(x, y) }
                #expect(abs(losses[0] - losses[1]) <= tolerance(Element.self) * losses[0])
            }
            let reports = try trainers.map { trainer in
                try trainer.fit(x, y, options: FitOptions(epochs: 5, batchSize: 7, seed: 3))
            }
            #expect(abs(reports[0].trainingLosses[4] / reports[1].trainingLosses[4] - 1) <= tolerance(Element.self))
            for (a, b) in zip(linear.parameters, plain.parameters) {
                #expect(a.value.relativeDifference(b.value) <= tolerance(Element.self))
                #expect(a.gradient.relativeDifference(b.gradient) <= 10 * tolerance(Element.self))
            }
            #expect(try linear.forward(x).relativeDifference(plain.forward(x)) <= tolerance(Element.self))
        }
    }

    @Test func whatItIsGiven() throws {
        let recorder = try Recorder<Float>(), context = Context<Float>()
        let wide: Matrix<Float> = try random(700, 9, seed: 1), gradOutput: Matrix<Float> = try random(700, 4, seed: 2)
        let x = try wide.columns(2..<6)
        let y = try recorder.forward(x, context: context)
        #expect(try recorder.forward(wide).columns == 9)  // an inference in between
        let gradInput = try recorder.backward(gradOutput.columns(0..<4), context: context)
        #expect(recorder.forwards == [x, wide])
        #expect(recorder.backwards.count == 1 && recorder.backwards[0] == (gradOutput, x, y))
        #expect(y.elements == x.elements.map { 2 * $0 } && gradInput.elements == gradOutput.elements.map { 2 * $0 })
        expectError(.invalidState) { try recorder.backward(gradOutput, context: context) }
        #expect(recorder.inputs == 0 && recorder.outputs == 0 && recorder.parameters[0].isTrained)
    }

    /// In a chain, in a trainer, behind a linear layer that takes its rows in blocks.
    @Test func seesTheBatchAsAWhole() throws {
        let recorder = try Recorder<Float>()
        let tanh = try Activation<Float>(.tanh)
        let chain = try Chain([Linear(inputs: 3, outputs: 2), recorder, Linear(inputs: 2, outputs: 20), tanh])
        let x: Matrix<Float> = try random(2000, 3, seed: 1), y: Matrix<Float> = try random(2000, 20, seed: 2)
        let context = Context<Float>()
        _ = try chain.forward(x)
        _ = try chain.forward(x, context: context)
        try chain.backward(y, context: context)
        let trainer = try Trainer(layer: chain, sgd: SGD([chain]))
        try trainer.step(x, y)
        #expect(recorder.forwards.map(\.rows) == [2000, 2000, 2000])
        #expect(recorder.backwards.map(\.x.rows) == [2000, 2000])
        recorder.forwards = []
        try trainer.fit(x, y, validation: (x, y), options: FitOptions(batchSize: 900))
        #expect(recorder.forwards.map(\.rows) == [900, 900, 200, 2000])
    }

    /// A million rows in float32: the linear layer before it still adds up its gradients in blocks.
    @Test func longSumsOfItsNeighboursLoseNoPrecision() throws {
        let rows = 1 << 20
        let recorder = try Recorder<Float>(), linear = try Linear<Float>(inputs: 1, outputs: 1)
        let chain = try Chain([linear, recorder]), context = Context<Float>()
        let tenth = Double(Float(0.1))
        _ = try chain.forward(Matrix(rows: rows, columns: 1, repeating: 0.1), context: context)
        try chain.backward(Matrix(rows: rows, columns: 1, repeating: 0.1), context: context)
        #expect(recorder.forwards[0].rows == rows)
        let gradOutput = Double(Float(0.1) * 2)
        #expect(abs(Double(linear.parameters[0].gradient[0, 0]) / (Double(rows) * tenth * gradOutput) - 1) < 5e-6)
        #expect(abs(Double(linear.parameters[1].gradient[0, 0]) / (Double(rows) * gradOutput) - 1) < 1e-6)
    }

    /// A layer that runs another one inside.
    private final class Residual: CustomLayer<Double> {
        let inner: Layer<Double>

        init(_ inner: Layer<Double>) throws {
            self.inner = inner
            try super.init(inputs: inner.inputs, outputs: inner.outputs)
        }

        override func computeForward(_ x: Matrix<Double>) throws(PenteError) -> Matrix<Double> {
            let y = try inner.forward(x)
            return try matrix(x.rows, x.columns) { x[$0, $1] + y[$0, $1] }
        }

        override func computeBackward(
            _ gradOutput: Matrix<Double>, x: Matrix<Double>, y: Matrix<Double>
        ) throws(PenteError) -> (gradInput: Matrix<Double>, gradients: [Matrix<Double>]) {
            let context = Context<Double>()
            _ = try inner.forward(x, context: context)
            let gradInput = try inner.backward(gradOutput, context: context)
            return (try matrix(x.rows, x.columns) { gradOutput[$0, $1] + gradInput[$0, $1] }, [])
        }
    }

    @Test func mayRunOtherLayers() throws {
        let inner = try Chain<Double>([Linear(inputs: 4, outputs: 4), Activation(.tanh)])
        let chain = try Chain([Linear(inputs: 3, outputs: 4, seed: 5), Residual(inner), Linear(inputs: 4, outputs: 1)])
        let x: Matrix<Double> = try random(5, 3, seed: 1)
        #expect(try checkGradients(layer: chain, mse: MSE(), x: x, target: random(5, 1, seed: 2)).passed)
    }

    @Test func refusals() throws {
        func layer(_ inputs: Int = 2, _ outputs: Int = 2, names: String...) throws -> CustomLayer<Float> {
            let parameters = try names.map { try Parameter<Float>(name: $0, value: Matrix(rows: 1, columns: 1)) }
            return try CustomLayer(inputs: inputs, outputs: outputs, parameters: parameters)
        }
        for (inputs, outputs) in [(0, 3), (3, 0), (-1, -1), (-1, 2)] {
            expectError(.invalidArgument, "in_features is \(inputs)", "out_features is \(outputs)") {
                _ = try layer(inputs, outputs)
            }
        }
        let long = String(repeating: "x", count: 63)
        for name in ["", "a.b", "a\n", "\u{7f}", long + "x", String(repeating: "é", count: 32)] {
            expectError(.invalidArgument, "parameters[1]", "\"\(name)\"") { _ = try layer(names: "fine", name) }
        }
        expectError(.invalidArgument, "parameters[2]", "a") { _ = try layer(names: "a", "b", "a") }
        #expect(try layer(names: long, "é", "with space").parameters[1].name == "é")
        expectError(.invalidArgument, "v", "rank 1", "2 rows") {
            _ = try Parameter<Float>(name: "v", value: Matrix(rows: 2, columns: 1), rank: 1)
        }
        expectError(.invalidArgument, "rank 3") {
            _ = try Parameter<Float>(name: "v", value: Matrix(rows: 1, columns: 1), rank: 3)
        }
    }
}

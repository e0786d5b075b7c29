import Pente
import Testing

/// What a layer of the user's throws comes out of the call that led to it, as it is; and that call has changed nothing.
@Suite struct CustomFailureTests {
    private struct Setup {
        let recorder: Recorder<Double>
        let chain: Chain<Double>
        let trainer: Trainer<Double>
        let x: Matrix<Double>
        let y: Matrix<Double>

        init() throws {
            recorder = try Recorder()
            let tanh = try Activation<Double>(.tanh)
            chain = try Chain([Linear(inputs: 3, outputs: 4), recorder, tanh, Linear(inputs: 4, outputs: 2)])
            chain.resetParameters(seed: 1)
            let sgd = try SGD([chain], options: SGDOptions(lr: 0.1, momentum: 0.9, dampening: 0.2))
            trainer = try Trainer(layer: chain, sgd: sgd)
            (x, y) = try (random(30, 3, seed: 1), random(30, 2, seed: 2))
        }
    }

    private func expectFailure(location: SourceLocation = #_sourceLocation, of body: () throws -> Void) {
        expectError(.init(rawValue: 1234), location: location) {
            do {
                try body()
            } catch let error as PenteError {
                #expect(error.message == "the sensor is gone", sourceLocation: location)
                throw error
            }
        }
    }

    @Test func ofForward() throws {
        let setup = try Setup(), context = Context<Double>(), gradOutput: Matrix<Double> = try random(30, 2, seed: 3)
        let y = try setup.chain.forward(setup.x, context: context)
        let before = setup.chain.state
        setup.recorder.callsUntilFailure = 0
        expectFailure { _ = try setup.chain.forward(setup.x) }
        expectFailure { _ = try setup.recorder.forward(setup.x) }
        expectFailure { _ = try setup.chain.forward(setup.x, context: context) }
        setup.recorder.callsUntilFailure = .max
        // The pass before it is lost.
        expectError(.invalidState) { try setup.chain.backward(gradOutput, context: context) }
        #expect(setup.chain.state == before)
        #expect(try setup.chain.forward(setup.x, context: context) == y)
        try setup.chain.backward(gradOutput, context: context)
        #expect(setup.chain.state != before)
    }

    @Test func ofBackward() throws {
        let setup = try Setup(), context = Context<Double>(), gradOutput: Matrix<Double> = try random(30, 2, seed: 3)
        let twin = try Setup(), twinContext = Context<Double>()
        _ = try setup.chain.forward(setup.x, context: context)
        _ = try twin.chain.forward(setup.x, context: twinContext)
        let before = setup.chain.state
        setup.recorder.callsUntilFailure = 0
        expectFailure { try setup.chain.backward(gradOutput, context: context) }
        #expect(setup.chain.state == before)
        setup.recorder.callsUntilFailure = .max
        // The pass is there still.
        let gradInput = try setup.chain.backward(gradOutput, context: context)
        #expect(try gradInput == twin.chain.backward(gradOutput, context: twinContext))
        #expect(setup.chain.state == twin.chain.state)
    }

    /// Parameters, gradients, momentum and the count of steps: later steps are those of a trainer that never failed.
    @Test(arguments: [Recorder<Double>.Pass.forward, .backward])
    func ofStep(_ pass: Recorder<Double>.Pass) throws {
        let setup = try Setup(), twin = try Setup()
        setup.recorder.failsIn = pass
        for _ in 0..<4 {
            #expect(try setup.trainer.step(setup.x, setup.y) == twin.trainer.step(setup.x, setup.y))
            setup.recorder.callsUntilFailure = 0
            expectFailure { try setup.trainer.step(setup.x, setup.y) }
            setup.recorder.callsUntilFailure = .max
            #expect(setup.chain.state == twin.chain.state)
        }
        #expect(setup.trainer.sgd.stepCount == 4)
    }

    /// At the first step, later in either epoch, at either validation.
    @Test(arguments: [0, 5, 10, 13, 21], [0, 1])
    func ofFit(_ calls: Int, _ stepsBefore: Int) throws {
        let setup = try Setup(), twin = try Setup()
        for _ in 0..<stepsBefore {
            try setup.trainer.step(setup.x, setup.y)
            try twin.trainer.step(setup.x, setup.y)
        }
        let before = setup.chain.state
        setup.recorder.callsUntilFailure = calls
        var epochs = 0
        expectFailure {
            // Five batches of two calls each, and one for the validation.
            let options = FitOptions(epochs: 2, batchSize: 6, patience: 1)
            try setup.trainer.fit(setup.x, setup.y, validation: (setup.x, setup.y), options: options) { _ in
                epochs += 1
                return false
            }
        }
        #expect(setup.chain.state == before && setup.trainer.sgd.stepCount == stepsBefore)
        #expect(epochs == calls / 11)
        setup.recorder.callsUntilFailure = .max
        #expect(try setup.trainer.step(setup.x, setup.y) == twin.trainer.step(setup.x, setup.y))
        #expect(setup.chain.state == twin.chain.state)
    }

    @Test func ofTheGradientCheck() throws {
        let setup = try Setup()
        let before = setup.chain.state
        for calls in [0, 1, 2, 3, 40, 200] {
            setup.recorder.callsUntilFailure = calls
            expectFailure { _ = try checkGradients(layer: setup.chain, mse: MSE(), x: setup.x, target: setup.y) }
            #expect(setup.chain.state == before)
        }
    }

    /// Any code may be the user's, Pente's own among them.
    @Test func codesPassThrough() throws {
        final class Picky: CustomLayer<Float> {
            override func computeForward(_ x: Matrix<Float>) throws(PenteError) -> Matrix<Float> {
                try Matrix(rows: x.rows, columns: x.columns, elements: [])
            }
        }
        expectError(.shapeMismatch, "elements has 0 numbers, but a 4×3 matrix") {
            _ = try Picky(inputs: 0, outputs: 0).forward(random(4, 3, seed: 1))
        }
    }

    /// Shapes that do not fit, one at a time.
    private final class Misshapen: CustomLayer<Float> {
        enum Part: CaseIterable { case y, yRows, gradInput, gradient, count }
        let part: Part

        init(_ part: Part) throws {
            self.part = part
            let value = try Matrix<Float>(rows: 2, columns: 3, repeating: 1)
            try super.init(inputs: 3, outputs: 2, parameters: [Parameter(name: "w", value: value)])
        }

        override func computeForward(_ x: Matrix<Float>) throws(PenteError) -> Matrix<Float> {
            try Matrix(rows: x.rows + (part == .yRows ? 1 : 0), columns: part == .y ? 3 : 2)
        }

        override func computeBackward(
            _ gradOutput: Matrix<Float>, x: Matrix<Float>, y: Matrix<Float>
        ) throws(PenteError) -> (gradInput: Matrix<Float>, gradients: [Matrix<Float>]) {
            let (rows, columns) = part == .gradient ? (3, 2) : (2, 3)
            let gradient = try Matrix<Float>(rows: rows, columns: columns, repeating: 1)
            let gradInput = try Matrix<Float>(rows: x.rows, columns: part == .gradInput ? 2 : 3)
            return (gradInput, part == .count ? [] : [gradient])
        }
    }

    @Test(
        arguments: [
            (.y, ["y", "4×3", "4×2"]), (.yRows, ["y", "5×2", "4×2"]), (.gradInput, ["gradInput", "4×2", "4×3"]),
            (.gradient, ["gradient of w", "3×2", "2×3"]), (.count, ["0 gradients", "1 parameters"]),
        ] as [(Misshapen.Part, [String])])
    private func ofShapes(_ part: Misshapen.Part, _ words: [String]) throws {
        let layer = try Misshapen(part), context = Context<Float>()
        let trainer = try Trainer(layer: layer, sgd: SGD([layer], options: SGDOptions(lr: 0.1, momentum: 0.9)))
        let x: Matrix<Float> = try random(4, 3, seed: 1), y: Matrix<Float> = try random(4, 2, seed: 2)
        let before = layer.state
        func expectRefusal(_ body: () throws -> Void) {
            expectError(.shapeMismatch, words[0]) {
                do {
                    try body()
                } catch let error as PenteError {
                    for word in words { #expect(error.message.contains(word), "\(error.message)") }
                    throw error
                }
            }
            #expect(layer.state == before)
        }
        if part == .y || part == .yRows {
            expectRefusal { _ = try layer.forward(x) }
        } else {
            _ = try layer.forward(x, context: context)
            expectRefusal { try layer.backward(y, context: context) }
        }
        expectRefusal { try trainer.step(x, y) }
        expectRefusal { try trainer.fit(x, y) }
        #expect(trainer.sgd.stepCount == 0)
    }
}

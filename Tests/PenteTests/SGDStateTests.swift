import Pente
import Testing

/// An optimizer's state, from one to another.
@Suite struct SGDStateTests {
    private struct Setup<Element: Scalar> {
        let chain: Chain<Element>
        let sgd: SGD<Element>
        let trainer: Trainer<Element>

        init(seed: UInt64, _ first: SGDOptions, _ second: SGDOptions) throws {
            let one = try Linear<Element>(inputs: 4, outputs: 5), two = try Linear<Element>(inputs: 5, outputs: 2)
            chain = try Chain([one, Activation(.tanh), two])
            chain.resetParameters(seed: seed)
            sgd = try SGD([one], options: first)
            try sgd.addGroup([two], options: second)
            trainer = try Trainer(layer: chain, sgd: sgd)
        }
    }

    @Test(arguments: [0, 3])
    func aRunGoesOnElsewhere(at: Int) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let whole = try Setup<Element>(
                seed: 1, SGDOptions(lr: 0.1), SGDOptions(lr: 0.05, momentum: 0.9, weightDecay: 0.01, nesterov: true))
            let resumed = try Setup<Element>(seed: 2, SGDOptions(), SGDOptions(momentum: 0.1))
            let x: Matrix<Element> = try random(30, 4, seed: 1), y: Matrix<Element> = try random(30, 2, seed: 2)
            try resumed.trainer.step(x, y)
            for _ in 0..<at { try whole.trainer.step(x, y) }
            for (parameter, other) in zip(resumed.sgd.parameters, whole.sgd.parameters) {
                try parameter.setValue(other.value)
            }
            try resumed.sgd.setState(whole.sgd.state)
            for _ in 0..<3 {
                #expect(resumed.sgd.state == whole.sgd.state)
                #expect(try resumed.trainer.step(x, y) == whole.trainer.step(x, y))
                #expect(resumed.chain.state == whole.chain.state)
            }
            #expect(whole.sgd.state.stepCount == at + 3)
            #expect(whole.sgd.state.momentumBuffers.map { $0?.rows } == [nil, nil, 2, 1])
        }
    }

    @Test func refusals() throws {
        let setup = try Setup<Float>(seed: 1, SGDOptions(momentum: 0.9), SGDOptions(momentum: 0.9))
        try setup.sgd.step()
        let before = setup.sgd.state
        func expectRefused(
            _ code: PenteError.Code, _ words: String, location: SourceLocation = #_sourceLocation,
            _ spoil: (inout SGDState<Float>) throws -> Void
        ) rethrows {
            var state = before
            state.options[0].lr = 0.7
            state.momentumBuffers[1] = nil
            state.stepCount = 9
            try spoil(&state)
            expectError(code, words, location: location) { try setup.sgd.setState(state) }
            #expect(setup.sgd.state == before, sourceLocation: location)
        }
        expectRefused(.invalidArgument, "group_count and parameter_count are 1 and 4") { $0.options.removeLast() }
        expectRefused(.invalidArgument, "are 2 and 3, but the optimizer has 2 and 4") {
            $0.momentumBuffers.removeLast()
        }
        expectRefused(.invalidArgument, "lr is -1") { $0.options[1].lr = -1 }
        expectRefused(.invalidArgument, "step_count is -1") { $0.stepCount = -1 }
        try expectRefused(.shapeMismatch, "momentum_buffers[3] is 2×1, but bias is 1×2") {
            $0.momentumBuffers[3] = try Matrix(rows: 2, columns: 1)
        }
    }
}

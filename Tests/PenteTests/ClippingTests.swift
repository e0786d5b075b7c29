import Pente
import Testing

/// Gradients clipped by their norm. What PyTorch makes of them is among the `TorchTests`.
@Suite struct ClippingTests {
    private struct Setup<Element: Scalar> {
        let layer: Chain<Element>
        let sgd: SGD<Element>
        let trainer: Trainer<Element>

        init() throws {
            layer = try Chain([Linear(inputs: 5, outputs: 20), Activation(.tanh), Linear(inputs: 20, outputs: 2)])
            layer.resetParameters(seed: 3)
            sgd = try SGD([layer], options: SGDOptions(lr: 0.1, momentum: 0.9))
            trainer = try Trainer(layer: layer, sgd: sgd)
        }
    }

    @Test(arguments: [1, 40, 3000], [0, 1e-4, 0.05, 1e9])
    func aStepIsTheCalls(rows: Int, maxNorm: Double) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let whole = try Setup<Element>(), byHand = try Setup<Element>()
            let mse = MSE(), context = Context<Element>()
            let x: Matrix<Element> = try random(rows, 5, seed: 1), y: Matrix<Element> = try random(rows, 2, seed: 2)
            try whole.trainer.setMaxGradientNorm(maxNorm)
            #expect(whole.trainer.maxGradientNorm == maxNorm)
            for _ in 0..<3 {
                let loss = try whole.trainer.step(x, y)
                byHand.sgd.zeroGradients()
                let prediction = try byHand.layer.forward(x, context: context)
                #expect(try mse.forward(prediction, y) == loss)
                try byHand.layer.backward(mse.backward(prediction, y).prediction, context: context)
                if maxNorm > 0 { try byHand.sgd.clipGradients(maxNorm: maxNorm) }
                try byHand.sgd.step()
                #expect(whole.layer.state == byHand.layer.state)
            }
        }
    }

    @Test func fitClips() throws {
        let clipped = try Setup<Float>(), free = try Setup<Float>()
        let x: Matrix<Float> = try random(50, 5, seed: 1), y: Matrix<Float> = try random(50, 2, seed: 2)
        try clipped.trainer.setMaxGradientNorm(1e-30)
        let before = clipped.layer.state.enumerated().filter { $0.offset % 2 == 0 }.map { $0.element }
        try clipped.trainer.fit(x, y, options: FitOptions(epochs: 2))
        try free.trainer.fit(x, y, options: FitOptions(epochs: 2))
        // Steps too small to be seen beside the parameters.
        #expect(clipped.layer.state.enumerated().filter { $0.offset % 2 == 0 }.map { $0.element } == before)
        #expect(clipped.layer.state != free.layer.state)
    }

    @Test func refusals() throws {
        let setup = try Setup<Double>()
        for (norm, text) in [(0, "0"), (-1, "-1"), (Double.nan, "nan"), (.infinity, "inf")] {
            expectError(.invalidArgument, "max_norm is \(text);") { try setup.sgd.clipGradients(maxNorm: norm) }
        }
        for (norm, text) in [(-1, "-1"), (Double.nan, "nan"), (.infinity, "inf")] {
            expectError(.invalidArgument, "max_norm is \(text);") { try setup.trainer.setMaxGradientNorm(norm) }
        }
        #expect(setup.trainer.maxGradientNorm == 0)
    }

    /// A loss that is finite, and a gradient that is not.
    @Test func aNormThatIsNotFiniteChangesNothing() throws {
        let layer = try Linear<Float>(inputs: 1, outputs: 1)
        try layer.parameters[0].setValue(Matrix(rows: 1, columns: 1, repeating: 1e-20))
        let sgd = try SGD([layer], options: SGDOptions(momentum: 0.9))
        let trainer = try Trainer(layer: layer, sgd: sgd)
        let x = try Matrix<Float>(rows: 1, columns: 1, repeating: 1e38)
        let y = try Matrix<Float>(rows: 1, columns: 1, repeating: -1e18)
        try trainer.setMaxGradientNorm(1)
        let before = (layer.state, sgd.state)
        expectError(.notFinite, "the gradients' norm is inf", "lr") { try trainer.step(x, y) }
        expectError(.notFinite, "the gradients' norm is inf", "lr") { try trainer.fit(x, y) }
        #expect(layer.state == before.0 && sgd.state == before.1)
        layer.parameters[1].gradients[0] = .nan
        expectError(.notFinite, "the gradients' norm is nan") { try sgd.clipGradients(maxNorm: 1) }
    }
}

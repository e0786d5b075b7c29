import Pente
import Testing

@Suite struct TrainerTests {
    static let shapes = [(1, 1, 1), (7, 3, 2), (32, 64, 8), (100, 17, 20), (1500, 5, 1), (3000, 300, 3)]

    private struct Setup<Element: Scalar> {
        let layer: Linear<Element>
        let sgd: SGD<Element>
        let trainer: Trainer<Element>

        init(_ n: Int, _ p: Int, lr: Double = 0.05, mse: MSE = MSE()) throws {
            layer = try Linear(inputs: n, outputs: p)
            sgd = try SGD([layer], options: SGDOptions(lr: lr, momentum: 0.9, weightDecay: 1e-3))
            trainer = try Trainer(layer: layer, mse: mse, sgd: sgd)
        }

        var state: [[Element]] { layer.parameters.flatMap { [$0.value.elements, $0.gradient.elements] } }
    }

    @Test(arguments: shapes)
    func aStepIsTheFourCalls(_ q: Int, _ n: Int, _ p: Int) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let mse = MSE(), context = Context<Element>()
            let one = try Setup<Element>(n, p), four = try Setup<Element>(n, p)
            let x: Matrix<Element> = try random(q, n, seed: 1), y: Matrix<Element> = try random(q, p, seed: 2)
            for _ in 0..<3 {
                let loss = try one.trainer.step(x, y)
                four.sgd.zeroGradients()
                let prediction = try four.layer.forward(x, context: context)
                #expect(try mse.forward(prediction, y) == loss)
                try four.layer.backward(mse.backward(prediction, y).prediction, context: context)
                try four.sgd.step()
                #expect(one.state == four.state)
            }
        }
    }

    @Test func fitIsStepsInPyTorchsOrder() throws {
        let x: Matrix<Float> = try random(50, 4, seed: 1), y: Matrix<Float> = try random(50, 2, seed: 2)
        let whole = try Setup<Float>(4, 2), byHand = try Setup<Float>(4, 2)
        let report = try whole.trainer.fit(x, y, options: FitOptions(epochs: 3, batchSize: 16, seed: 5))
        var generator = MersenneTwister(seed: 5)
        var order = [Int](repeating: 0, count: 50)
        for epoch in 0..<3 {
            order.withUnsafeMutableBufferPointer { generator.permute($0) }
            var total = 0.0
            for first in stride(from: 0, to: 50, by: 16) {
                let rows = order[first..<min(first + 16, 50)]
                func gather(_ matrix: Matrix<Float>) throws -> Matrix<Float> {
                    try Matrix(
                        rows: rows.count, columns: matrix.columns,
                        elements: rows.flatMap { i in (0..<matrix.columns).map { matrix[i, $0] } })
                }
                total += try byHand.trainer.step(gather(x), gather(y)) * Double(rows.count)
            }
            #expect(report.trainingLosses[epoch] == total / 50)
        }
        #expect(whole.state == byHand.state)
        #expect(report.epochs == 3 && report.stopReason == .epochs && report.bestEpoch == 0)
    }

    /// Indices of 32 bits and of 64, which only data beyond any test's memory need.
    @Test(arguments: [1, 2, 31, 625, 5000]) func anOrderIsTheSameInBothWidths(count: Int) throws {
        var one = MersenneTwister(seed: 3), two = MersenneTwister(seed: 3), three = MersenneTwister(seed: 3)
        let narrow = try RowOrder(count: count, isWide: false), wide = try RowOrder(count: count, isWide: true)
        var expected = [Int](repeating: 0, count: count)
        for _ in 0..<3 {
            narrow.shuffle(&one)
            wide.shuffle(&two)
            expected.withUnsafeMutableBufferPointer { three.permute($0) }
            #expect((0..<count).map { narrow[$0] } == expected)
            #expect((0..<count).map { wide[$0] } == expected)
        }
    }

    @Test func earlyStoppingGivesBackTheBest() throws {
        let setup = try Setup<Double>(4, 1)
        let x: Matrix<Double> = try random(40, 4, seed: 1), y: Matrix<Double> = try random(40, 1, seed: 2)
        let other: (Matrix<Double>, Matrix<Double>) = try (random(40, 4, seed: 3), random(40, 1, seed: 4))
        var states: [[Double]] = []
        let report = try setup.trainer.fit(
            x, y, validation: other, options: FitOptions(epochs: 500, batchSize: 8, patience: 5)
        ) { _ in
            states.append(setup.layer.weight.elements)
            return false
        }
        #expect(report.stopReason == .early && report.epochs == report.bestEpoch + 5)
        #expect(report.validationLosses.min() == report.validationLosses[report.bestEpoch - 1])
        #expect(setup.layer.weight.elements == states[report.bestEpoch - 1])
        let prediction = try setup.layer.forward(other.0)
        #expect(try MSE().forward(prediction, other.1) == report.validationLosses[report.bestEpoch - 1])
    }

    @Test func aCallbackStopsTheRun() throws {
        let setup = try Setup<Float>(2, 1)
        let x: Matrix<Float> = try random(10, 2, seed: 1), y: Matrix<Float> = try random(10, 1, seed: 2)
        let report = try setup.trainer.fit(x, y, options: FitOptions(epochs: 100)) { $0.epoch == 4 }
        #expect(report.epochs == 4 && report.stopReason == .callback && report.trainingLosses.count == 4)
    }

    /// A loss that is not finite changes nothing: not after a step, and not after the steps of a run before it.
    @Test func divergenceIsRefused() throws {
        let setup = try Setup<Float>(2, 1, lr: 1e6)
        let x = try Matrix<Float>(rows: 4, columns: 2, repeating: 1e3), y = try Matrix<Float>(rows: 4, columns: 1)
        let before = setup.state
        #expect(throws: PenteError.self) { try setup.trainer.fit(x, y, options: FitOptions(epochs: 100)) }
        #expect(setup.state == before)
        let infinite = try Matrix<Float>(rows: 4, columns: 2, repeating: .infinity)
        do {
            try setup.trainer.step(infinite, y)
            Issue.record("nothing was thrown")
        } catch {
            #expect(error.code == .notFinite && error.message.contains("lr"))
        }
        #expect(setup.state == before)
    }

    @Test(arguments: [Reduction.mean, .sum, .batchMean, .outputMean])
    func sampleWeightsRepeatRows(_ reduction: Reduction) throws {
        let x: Matrix<Double> = try random(6, 3, seed: 1), y: Matrix<Double> = try random(6, 2, seed: 2)
        let weights = try Matrix<Double>(rows: 6, columns: 1, elements: [1, 2, 0, 1, 3, 1])
        let repeated = [0, 1, 1, 3, 4, 4, 4, 5]
        func gather(_ matrix: Matrix<Double>) throws -> Matrix<Double> {
            try Matrix(
                rows: 8, columns: matrix.columns,
                elements: repeated.flatMap { i in (0..<matrix.columns).map { matrix[i, $0] } })
        }
        let weighted = try Setup<Double>(3, 2, mse: MSE(reduction: reduction))
        let plain = try Setup<Double>(3, 2, mse: MSE(reduction: reduction))
        for _ in 0..<5 {
            let loss = try weighted.trainer.step(x, y, sampleWeight: weights)
            #expect(try abs(plain.trainer.step(gather(x), gather(y)) - loss) < 1e-12)
        }
        #expect(weighted.layer.weight.relativeDifference(plain.layer.weight) < 1e-12)
    }

    @Test func gradientsPassTheCheck() throws {
        let layer = try Linear<Double>(inputs: 4, outputs: 3)
        let x: Matrix<Double> = try random(5, 4, seed: 1), target: Matrix<Double> = try random(5, 3, seed: 2)
        let before = layer.parameters.flatMap { $0.value.elements + $0.gradient.elements }
        for reduction in [Reduction.mean, .sum, .none, .batchMean, .outputMean] {
            let report = try checkGradients(layer: layer, mse: MSE(reduction: reduction), x: x, target: target)
            #expect(report.passed && report.checked == 20 + 12 + 3 + 15)
        }
        #expect(try checkGradients(layer: layer, mse: nil, x: x, target: nil).passed)
        #expect(try checkGradients(layer: nil, mse: MSE(), x: target, target: random(5, 3, seed: 3)).passed)
        #expect(layer.parameters.flatMap { $0.value.elements + $0.gradient.elements } == before)
    }

    /// With no tolerance at all rounding is an error, and its place is told.
    @Test func theCheckCanFail() throws {
        let layer = try Linear<Double>(inputs: 4, outputs: 3)
        let report = try checkGradients(
            layer: layer, mse: MSE(), x: random(5, 4, seed: 1), target: random(5, 3, seed: 2),
            options: GradientCheckOptions(atol: 0, rtol: 0))
        #expect(!report.passed && report.error > 0 && !report.worst.isEmpty)
        #expect(report.error == (report.analytic - report.numeric).magnitude)
    }
}

import Pente
import Testing

/// Steps whose batch lies in several places.
@Suite struct SumsTests {
    private struct Model<Element: Scalar> {
        let layer: Layer<Element>
        let trainer: Trainer<Element>

        init(_ mse: MSE = MSE(), maxNorm: Double = 0) throws {
            layer = try Chain<Element>([
                Scaler(features: 5), Linear(inputs: 5, outputs: 4), Activation(.tanh),
                PlainLinear(random(3, 4, seed: 5), random(1, 3, seed: 6)),
            ])
            try layer.randomize(seed: 11)
            let options = SGDOptions(lr: 0.05, momentum: 0.9, weightDecay: 0.01)
            trainer = try Trainer(layer: layer, mse: mse, sgd: SGD([layer], options: options))
            try trainer.setMaxGradientNorm(maxNorm)
        }
    }

    private func part<Element: Scalar>(_ matrix: Matrix<Element>, _ range: Range<Int>) throws -> Matrix<Element> {
        let columns = matrix.columns
        return try Matrix(
            rows: range.count, columns: columns,
            elements: Array(matrix.elements[range.lowerBound * columns..<range.upperBound * columns]))
    }

    /// Three trainers with uneven shards, one of rows of weight 0, follow one trainer with all rows.
    @Test(arguments: [Reduction.mean, .sum, .batchMean, .outputMean], [false, true])
    func followsTheWholeBatch(_ reduction: Reduction, isWeighted: Bool) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let scale: Double = reduction == .sum || reduction == .outputMean ? 400 : 1
            let x: Matrix<Element> = try random(400, 5, seed: 1), y: Matrix<Element> = try random(400, 3, seed: 2)
            var weight: Matrix<Element>?
            if isWeighted {
                weight = try Matrix(
                    rows: 400, columns: 1,
                    elements: (0..<400).map { $0 >= 390 ? 0 : Element($0 % 4) / Element(scale) })
            }
            let cuts = [0, 1, 130, 390, 400]
            let mse = MSE(reduction: reduction)
            let whole = try Model<Element>(mse, maxNorm: 0.3)
            let shards = try (1..<cuts.count).map { _ in try Model<Element>(mse, maxNorm: 0.3) }
            for _ in 0..<20 {
                let loss = try whole.trainer.step(x, y, sampleWeight: weight)
                var sums = [Double](repeating: 0, count: shards[0].trainer.sumCount)
                for (i, shard) in shards.enumerated() {
                    let rows = cuts[i]..<cuts[i + 1]
                    // Some in two turns.
                    let turns =
                        rows.count < 100
                        ? [rows] : [rows.prefix(70), rows.dropFirst(70)].map { $0.startIndex..<$0.endIndex }
                    for turn in turns {
                        try shard.trainer.accumulate(
                            part(x, turn), part(y, turn), sampleWeight: weight.map { try part($0, turn) })
                    }
                    for (i, number) in shard.trainer.sums.enumerated() { sums[i] += number }
                }
                for shard in shards {
                    try shard.trainer.setSums(sums)
                    let own = try shard.trainer.applySums()
                    #expect(abs(own - loss) <= tolerance(Element.self) * abs(loss))
                    #expect(shard.trainer.sums.allSatisfy { $0 == 0 })
                }
            }
            for shard in shards {
                for (own, all) in zip(shard.layer.parameters, whole.layer.parameters) {
                    #expect(own.value.relativeDifference(all.value) <= 10 * tolerance(Element.self))
                    #expect(own.gradient.relativeDifference(all.gradient) <= 100 * tolerance(Element.self))
                    #expect(own.value.isIdentical(shards[0].layer.parameter(named: own.name)!.value))
                }
            }
        }
    }

    /// A step after others' rows were accumulated has the bits of one without them.
    @Test func stepsAreAsBefore() throws {
        let x: Matrix<Double> = try random(40, 5, seed: 1), y: Matrix<Double> = try random(40, 3, seed: 2)
        let plain = try Model<Double>(), other = try Model<Double>()
        for _ in 0..<3 {
            try other.trainer.accumulate(x, y)
            try plain.trainer.step(x, y)
            try other.trainer.step(x, y)
        }
        #expect(plain.layer.state == other.layer.state)
        #expect(other.trainer.sums.dropLast().last == 120)
    }

    @Test func errors() throws {
        let x: Matrix<Double> = try random(4, 5, seed: 1), y: Matrix<Double> = try random(4, 3, seed: 2)
        let model = try Model<Double>()
        let trainer = model.trainer
        try trainer.accumulate(x, y, sampleWeight: Matrix(rows: 4, columns: 1))
        let before = model.layer.state
        expectError(.invalidState, "no rows") { try trainer.applySums() }
        try trainer.accumulate(x, y)
        let sums = trainer.sums
        var bad = x
        bad[2, 1] = .infinity
        bad[1, 1] = .nan
        expectError(.notFinite, "nan") { try trainer.accumulate(bad, y) }
        expectError(.shapeMismatch, "y is 4×5") { try trainer.accumulate(x, x) }
        expectError(.invalidArgument, "sample_weight[1] is -1") {
            try trainer.accumulate(x, y, sampleWeight: Matrix(rows: 4, columns: 1, elements: [1, -1, 0, 0]))
        }
        expectError(.invalidArgument, "count is 3") { try trainer.setSums([1, 2, 3]) }
        var wrong = sums
        wrong[1] = .nan
        expectError(.invalidArgument, "sums[1] is nan") { try trainer.setSums(wrong) }
        wrong = sums
        wrong[wrong.count - 2] = -1
        expectError(.invalidArgument, "not negative") { try trainer.setSums(wrong) }
        #expect(trainer.sums == sums && model.layer.state == before)

        var huge = sums
        huge[0] = 1e300
        try trainer.setMaxGradientNorm(1)
        try trainer.setSums(huge)
        expectError(.notFinite, "norm") { try trainer.applySums() }
        #expect(trainer.sums == huge && model.layer.state == before)
        try trainer.setSums([])
        #expect(trainer.sums.allSatisfy { $0 == 0 })
    }
}

import Pente
import Testing

/// What the documentation shows (Sources/Pente/Pente.docc): `make test-readme` compares its code with this file's.
@Suite struct TrainingLoopTests {
    /// Examples of what a linear layer gives.
    private let x: Matrix<Float>
    private let y: Matrix<Float>
    private let validation: (x: Matrix<Float>, y: Matrix<Float>)
    private let directory: TemporaryDirectory

    init() throws {
        let teacher = try Linear<Float>(inputs: 4, outputs: 2, seed: 9)
        x = try random(96, 4, seed: 1)
        y = try teacher.forward(x)
        let other: Matrix<Float> = try random(32, 4, seed: 2)
        validation = try (other, teacher.forward(other))
        directory = try TemporaryDirectory()
    }

    @Test func landingPage() throws {
        let x = try Matrix<Float>(rows: 4, columns: 1, elements: [0, 1, 2, 3])
        let y = try Matrix<Float>(rows: 4, columns: 1, elements: [1, 3, 5, 7])  // y = 2x + 1

        let layer = try Linear<Float>(inputs: 1, outputs: 1)
        let sgd = try SGD([layer], options: SGDOptions(lr: 0.1))
        let trainer = try Trainer(layer: layer, mse: MSE(), sgd: sgd)
        for _ in 1...200 { try trainer.step(x, y) }

        print(layer.weight[0, 0], layer.bias![0, 0])  // 2 and 1, but for what 200 steps leave
        #expect(abs(layer.weight[0, 0] - 2) < 1e-3 && abs(layer.bias![0, 0] - 1) < 1e-3)
    }

    /// The loop by hand, and in one call to the same bits.
    @Test func steps() throws {
        let losses = try stepsByHand()
        let layer = try Linear<Float>(inputs: 4, outputs: 2, seed: 0)
        let sgd = try SGD([layer], options: SGDOptions(lr: 0.1, momentum: 0.9))
        var lossesOfTrainer: [Double] = []

        let trainer = try Trainer(layer: layer, mse: MSE(), sgd: sgd)
        for _ in 1...100 {
            let loss = try trainer.step(x, y)
            lossesOfTrainer.append(loss)
        }

        #expect(lossesOfTrainer == losses)
        #expect(losses.count == 100 && losses[99] < losses[0] / 1000)
    }

    private func stepsByHand() throws -> [Double] {
        var losses: [Double] = []

        let layer = try Linear<Float>(inputs: 4, outputs: 2, seed: 0)
        let mse = MSE()
        let sgd = try SGD([layer], options: SGDOptions(lr: 0.1, momentum: 0.9))
        let context = Context<Float>()

        for _ in 1...100 {
            sgd.zeroGradients()
            let prediction = try layer.forward(x, context: context)
            let loss = try mse.forward(prediction, y)
            let gradient = try mse.backward(prediction, y).prediction
            try layer.backward(gradient, context: context)
            try sgd.step()
            losses.append(loss)
        }
        return losses
    }

    @Test func earlyStopping() throws {
        let layer = try Linear<Float>(inputs: 4, outputs: 2, seed: 0)
        let trainer = try Trainer(layer: layer, mse: MSE(), sgd: SGD([layer], options: SGDOptions(lr: 0.1)))
        var printed: [String] = []
        func print(_ line: String) { printed.append(line) }

        let options = FitOptions(epochs: 1000, batchSize: 16, shuffle: true, seed: 0, patience: 5, minDelta: 1e-6)
        let report = try trainer.fit(x, y, validation: validation, options: options) { epoch in
            print("epoch \(epoch.epoch)  loss \(epoch.trainingLoss)  validation \(epoch.validationLoss)")
            return epoch.validationLoss < 1e-9  // true stops the run
        }
        if report.stopReason == .early { print("no better since epoch \(report.bestEpoch)") }

        #expect(report.stopReason == .early && report.epochs == report.bestEpoch + 5)
        #expect(printed.count == report.epochs + 1 && printed.last == "no better since epoch \(report.bestEpoch)")
        #expect(try MSE().forward(layer.forward(validation.x), validation.y) < 1e-4)
    }

    @Test func resuming() throws {
        let path = directory.path()
        func makeChain() throws -> Chain<Float> {
            let chain = try Chain<Float>([
                Linear(inputs: 4, outputs: 8), Activation(.tanh), Linear(inputs: 8, outputs: 2),
            ])
            chain.resetParameters(seed: 0)  // one seed for all of its layers
            return chain
        }
        func begin() throws {
            let chain = try makeChain()
            let sgd = try SGD([chain], options: SGDOptions(lr: 0.1, momentum: 0.9))
            let trainer = try Trainer(layer: chain, sgd: sgd)
            try trainer.fit(x, y, options: FitOptions(epochs: 10, batchSize: 16, seed: 7))
            try chain.save(to: path, sgd: sgd)
        }
        func resume() throws -> Chain<Float> {
            let chain = try makeChain()  // what its parameters are is in the file,
            let sgd = try SGD([chain])  // as are the optimizer's options, momentum and step count
            try chain.loadParameters(from: path, sgd: sgd)
            let trainer = try Trainer(layer: chain, sgd: sgd)
            try trainer.fit(x, y, options: FitOptions(epochs: 10, batchSize: 16, seed: 7, firstEpoch: 10))
            return chain
        }
        try begin()
        let resumed = try resume()

        let whole = try makeChain()
        let sgd = try SGD([whole], options: SGDOptions(lr: 0.1, momentum: 0.9))
        try Trainer(layer: whole, sgd: sgd).fit(x, y, options: FitOptions(epochs: 20, batchSize: 16, seed: 7))
        #expect(resumed.parameters.map(\.value) == whole.parameters.map(\.value))

        let chain = try Layer<Float>.load(from: path)
        let prediction = try chain.forward(validation.x)
        #expect(prediction.rows == 32 && prediction.columns == 2)
    }

    @Test func error() throws {
        let layer = try Linear<Float>(inputs: 4, outputs: 2)
        var printed: [String] = []
        func print(_ error: PenteError) { printed.append("\(error)") }

        let narrow = try x.columns(0..<3)
        do {
            _ = try layer.forward(narrow)
        } catch {  // a PenteError: every call says so in its type
            print(error)
        }

        #expect(printed == ["x is 96×3, but the layer takes 4 columns"])
    }
}

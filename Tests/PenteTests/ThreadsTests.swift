import Pente
import Testing

/// The count is the process's: one test after the other. What runs beside them has the same bits with any count.
@Suite(.serialized) struct ThreadsTests {
    @Test func theCountIsOneUntilItIsSet() throws {
        for count in [0, -1, 257, Int.max] {
            expectError(.invalidArgument, "count is \(count)", "1 to 256") { try Threads.setCount(count) }
        }
        #expect(Threads.count == 1)
        try Threads.setCount(3)
        #expect(Threads.count == 3)
        try Threads.setCount(1)
    }

    @Test func theBitsAreThoseOfOneThread() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let x: Matrix<Element> = try random(6000, 40, seed: 1), y: Matrix<Element> = try random(6000, 3, seed: 2)
            func train(_ count: Int) throws -> (Matrix<Element>, [[Element]], FitReport) {
                try Threads.setCount(count)
                let chain = try Chain([Linear<Element>(inputs: 40, outputs: 30), Activation(.tanh)])
                let layer = try Chain([chain, Linear(inputs: 30, outputs: 3)])
                let sgd = try SGD([layer], options: SGDOptions(lr: 0.01, momentum: 0.9))
                let trainer = try Trainer(layer: layer, mse: MSE(), sgd: sgd)
                let options = FitOptions(epochs: 2, batchSize: 5900, patience: 1)
                let report = try trainer.fit(x, y, validation: (x, y), options: options)
                return (try layer.forward(x), layer.state, report)
            }
            let alone = try train(1)
            for count in [2, 5] {
                let several = try train(count)
                #expect(several.0.isIdentical(alone.0))
                #expect(several.1 == alone.1)
                #expect(several.2.trainingLosses == alone.2.trainingLosses)
                #expect(several.2.validationLosses == alone.2.validationLosses)
            }
            try Threads.setCount(1)
        }
    }

    /// By outputs, and the optimizer's step by parameters.
    @Test func aSingleBlockHasTheBitsOfOneThread() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let x: Matrix<Element> = try random(300, 400, seed: 1), y: Matrix<Element> = try random(300, 350, seed: 2)
            func train(_ count: Int) throws -> (Matrix<Element>, Matrix<Element>, [[Element]], Double) {
                try Threads.setCount(count)
                let hidden = try Linear<Element>(inputs: 400, outputs: 360)
                let chain = try Chain([hidden, Activation(.tanh), Linear(inputs: 360, outputs: 350)])
                let sgd = try SGD([chain], options: SGDOptions(lr: 0.01, momentum: 0.9))
                let trainer = try Trainer(layer: chain, mse: MSE(), sgd: sgd)
                try trainer.step(x, y)
                let loss = try trainer.step(x, y)
                let row = try hidden.forward(try random(3, 400, seed: 3))
                return (try hidden.forward(x), row, chain.state, loss)
            }
            let alone = try train(1)
            for count in [2, 5] {
                let several = try train(count)
                #expect(several.0.isIdentical(alone.0) && several.1.isIdentical(alone.1))
                #expect(several.2 == alone.2 && several.3 == alone.3)
            }
            try Threads.setCount(1)
        }
    }
}

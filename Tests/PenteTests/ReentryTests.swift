import Pente
import Testing

/// Hands x on, and calls a function of the test's before.
private final class Caller: CustomLayer<Double> {
    var inForward: () throws(PenteError) -> Void = {}
    var inBackward: () throws(PenteError) -> Void = {}

    init() throws { try super.init(inputs: 0, outputs: 0) }

    override func computeForward(_ x: Matrix<Double>) throws(PenteError) -> Matrix<Double> {
        try inForward()
        return x
    }

    override func computeBackward(
        _ gradOutput: Matrix<Double>, x: Matrix<Double>, y: Matrix<Double>
    ) throws(PenteError) -> (gradInput: Matrix<Double>, gradients: [Matrix<Double>]) {
        try inBackward()
        return (gradOutput, [])
    }
}

/// What a user's code does to an optimizer and a trainer in whose step it is called.
@Suite struct ReentryTests {
    private struct Setup {
        let caller = try! Caller()
        let chain: Chain<Double>
        let sgd: SGD<Double>
        let trainer: Trainer<Double>
        let other = try! Linear<Double>(inputs: 40, outputs: 30)
        let x: Matrix<Double> = try! random(30, 3, seed: 1)
        let y: Matrix<Double> = try! random(30, 2, seed: 2)

        init() throws {
            chain = try Chain([caller, Linear(inputs: 3, outputs: 2)])
            chain.resetParameters(seed: 1)
            sgd = try SGD([chain], options: SGDOptions(lr: 0.1, momentum: 0.9))
            trainer = try Trainer(layer: chain, sgd: sgd)
        }
    }

    @Test func stepsWithinAStepAreRefused() throws {
        let setup = try Setup(), twin = try Setup()
        let more: Matrix<Double> = try random(3000, 3, seed: 1), moreY: Matrix<Double> = try random(3000, 2, seed: 2)
        func check() throws(PenteError) {
            expectError(.busy, "in the middle of a trainer's step") { try setup.sgd.step() }
            expectError(.busy) { try setup.trainer.step(more, moreY) }
            expectError(.busy) { try setup.trainer.fit(more, moreY, validation: (more, moreY)) }
        }
        (setup.caller.inForward, setup.caller.inBackward) = (check, check)
        for _ in 0..<3 {
            #expect(try setup.trainer.step(setup.x, setup.y) == twin.trainer.step(setup.x, setup.y))
            #expect(setup.chain.state == twin.chain.state)
        }
        try setup.sgd.step()
        #expect(setup.sgd.stepCount == 4)
    }

    /// A step that failed, or was stopped, is over.
    @Test func aFailedStepIsOver() throws {
        let setup = try Setup()
        setup.caller.inForward = { () throws(PenteError) in
            throw PenteError(code: .init(rawValue: 1234), message: "the sensor is gone")
        }
        expectError(.init(rawValue: 1234)) { try setup.trainer.step(setup.x, setup.y) }
        expectError(.init(rawValue: 1234)) {
            try setup.trainer.fit(setup.x, setup.y, validation: (setup.x, setup.y))
        }
        setup.caller.inForward = {}
        try setup.trainer.step(setup.x, setup.y)
        try setup.sgd.step()
    }

    /// They have their first step at the end of this one, with a gradient of 0.
    @Test(arguments: [0, 0.5]) func aGroupMayJoinWithinAStep(maxNorm: Double) throws {
        let setup = try Setup(), twin = try Setup()
        try setup.trainer.setMaxGradientNorm(maxNorm)
        try twin.trainer.setMaxGradientNorm(maxNorm)
        let before = setup.other.weight
        setup.caller.inForward = { () throws(PenteError) in
            if setup.sgd.groupCount == 1 { try setup.sgd.addGroup([setup.other], options: SGDOptions(lr: 1)) }
        }
        for _ in 0..<3 {
            #expect(try setup.trainer.step(setup.x, setup.y) == twin.trainer.step(setup.x, setup.y))
            #expect(setup.chain.state == twin.chain.state)
        }
        #expect(setup.sgd.groupCount == 2 && setup.other.weight == before)
    }

    /// Options hold for the step under way: as if they had been set before it.
    @Test func optionsMayChangeWithinAStep() throws {
        let setup = try Setup(), twin = try Setup()
        for momentum in [0, 0.8, 0.8, 0, 0.7] {
            let options = SGDOptions(lr: 0.1, momentum: momentum)
            setup.caller.inForward = { () throws(PenteError) in try setup.sgd.setOptions(options) }
            try twin.sgd.setOptions(options)
            try setup.trainer.step(setup.x, setup.y)
            try twin.trainer.step(setup.x, setup.y)
            #expect(setup.chain.state == twin.chain.state)
        }
    }
}

extension ThreadsTests {
    /// Between blocks of rows a user's code runs, too.
    @Test(arguments: [1, 3]) func theOptimizerMayChangeWithinShouldStop(threads: Int) throws {
        let layer = try Linear<Double>(inputs: 30, outputs: 20), other = try Linear<Double>(inputs: 400, outputs: 300)
        let sgd = try SGD([layer], options: SGDOptions(lr: 1e-3, momentum: 0.5))
        let trainer = try Trainer(layer: layer, sgd: sgd), before = other.weight
        let x: Matrix<Double> = try random(4000, 30, seed: 1), y: Matrix<Double> = try random(4000, 20, seed: 2)
        var questions = 0
        try Threads.setCount(threads)
        try trainer.fit(x, y, options: FitOptions(epochs: 1_000_000, batchSize: 4000)) { _ in
            questions >= 3
        } shouldStop: {
            questions += 1
            do {
                if questions == 1 { try sgd.addGroup([other]) }
                try sgd.setOptions(SGDOptions(lr: 1e-3, momentum: questions == 2 ? 0 : 0.5))
            } catch {
                Issue.record("\(error)")
            }
            return false
        }
        try Threads.setCount(1)
        #expect(questions >= 3 && other.weight == before)
    }
}

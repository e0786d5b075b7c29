import Foundation
import Pente
import Testing

/// An optimizer in a file: a run that is resumed ends with the bits of one that was never interrupted.
@Suite struct ResumeTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func chain<Element: Scalar>(_ seed: UInt64, _: Element.Type = Element.self) throws -> Chain<Element> {
        let chain = try Chain<Element>(ChainTests.layers())
        chain.resetParameters(seed: seed)
        return chain
    }

    @Test func resumedFits() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let x: Matrix<Element> = try random(70, 5, seed: 1), y: Matrix<Element> = try random(70, 3, seed: 2)
            let sgdOptions = SGDOptions(lr: 0.1, momentum: 0.9, dampening: 0.2, weightDecay: 1e-3)
            func fit(_ chain: Chain<Element>, _ sgd: SGD<Element>, _ epochs: Int, after first: Int) throws -> FitReport
            {
                var options = FitOptions(epochs: epochs, batchSize: 16, seed: 7)
                options.firstEpoch = first
                var numbers: [Int] = []
                let report = try Trainer(layer: chain, sgd: sgd).fit(x, y, validation: (x, y), options: options) {
                    numbers.append($0.epoch)
                    #expect($0.epochs == first + epochs)
                    return false
                }
                #expect(numbers == Array(first + 1...first + epochs))
                return report
            }
            let whole: Chain<Element> = try chain(1)
            let wholeSGD = try SGD([whole], options: sgdOptions)
            let report = try fit(whole, wholeSGD, 7, after: 0)
            try whole.save(to: directory.path("whole"), sgd: wholeSGD)

            let first: Chain<Element> = try chain(1)
            let firstSGD = try SGD([first], options: sgdOptions)
            var losses = try fit(first, firstSGD, 3, after: 0).trainingLosses
            try first.save(to: directory.path(), sgd: firstSGD)
            var done = 3
            for epochs in [1, 3] {
                let next: Chain<Element> = try chain(2)
                let sgd = try SGD([next], options: SGDOptions(lr: 5, nesterov: false))
                try next.randomize(seed: 4)
                try next.loadParameters(from: directory.path(), sgd: sgd)
                #expect(try sgd.options() == sgdOptions && sgd.stepCount == done * 5)
                losses += try fit(next, sgd, epochs, after: done).trainingLosses
                done += epochs
                try next.save(to: directory.path(), sgd: sgd)
            }
            #expect(losses == report.trainingLosses)
            #expect(try directory.read() == directory.read("whole"))
        }
    }

    /// Groups with options of their own; some with momentum buffers, some without any yet.
    @Test func groups() throws {
        func make(_ seed: UInt64) throws -> (Chain<Float>, SGD<Float>) {
            let chain: Chain<Float> = try self.chain(seed)
            let sgd = try SGD([chain.layers[1]], options: SGDOptions(lr: 0.1, momentum: 0.9, nesterov: true))
            try sgd.addGroup([chain.layers[5], chain.layers[3]], options: SGDOptions(lr: 0.2, maximize: true))
            return (chain, sgd)
        }
        let x: Matrix<Float> = try random(20, 5, seed: 1), y: Matrix<Float> = try random(20, 3, seed: 2)
        let (chain, sgd) = try make(1)
        let trainer = try Trainer(layer: chain, sgd: sgd)
        for _ in 0..<3 { try trainer.step(x, y) }
        try chain.save(to: directory.path(), sgd: sgd)
        let buffers = try FileParts(directory.read()).object().keys.filter { $0.hasPrefix("sgd.") }
        #expect(Set(buffers) == ["sgd.1.weight.momentum_buffer", "sgd.1.bias.momentum_buffer"])

        let (resumed, resumedSGD) = try make(2)
        let resumedTrainer = try Trainer(layer: resumed, sgd: resumedSGD)
        for group in 0..<2 { try resumedSGD.setOptions(SGDOptions(momentum: 0.5), group: group) }
        try resumedTrainer.step(x, y)  // its momentum is to be forgotten
        try resumed.loadParameters(from: directory.path(), sgd: resumedSGD)
        for (chain, sgd, trainer) in [(chain, sgd, trainer), (resumed, resumedSGD, resumedTrainer)] {
            try trainer.step(x, y)
            var options = try sgd.options(group: 1)
            #expect(options == SGDOptions(lr: 0.2, maximize: true))
            options.momentum = 0.7  // begins now: its first step copies the gradient
            try sgd.setOptions(options, group: 1)
            for _ in 0..<3 { try trainer.step(x, y) }
            #expect(sgd.stepCount == 7 && chain === trainer.layer)
        }
        #expect(resumed.state == chain.state)
    }

    /// Without an optimizer, what the file holds of one is passed over.
    @Test func parametersAlone() throws {
        let saved: Chain<Double> = try chain(1), other: Chain<Double> = try chain(2)
        let sgd = try SGD([saved], options: SGDOptions(momentum: 0.9))
        try Trainer(layer: saved, sgd: sgd).step(random(4, 5, seed: 1), random(4, 3, seed: 2))
        try saved.save(to: directory.path(), sgd: sgd)
        try other.loadParameters(from: directory.path())
        #expect(other.parameters.map(\.value) == saved.parameters.map(\.value))
        let loaded = try Layer<Double>.load(from: directory.path())
        #expect(loaded.parameters.map(\.value) == saved.parameters.map(\.value))
    }

    /// Whatever does not fit is refused, and neither the layer nor the optimizer knows of it.
    @Test func mismatches() throws {
        let x: Matrix<Double> = try random(20, 5, seed: 1), y: Matrix<Double> = try random(20, 3, seed: 2)
        let options = SGDOptions(lr: 0.1, momentum: 0.9)
        let chain: Chain<Double> = try self.chain(1), twin: Chain<Double> = try self.chain(1)
        let trainer = try Trainer(layer: chain, sgd: SGD([chain], options: options))
        let twinTrainer = try Trainer(layer: twin, sgd: SGD([twin], options: options))
        let file = directory.path()
        func expectRefusal(
            _ code: PenteError.Code, _ words: String, location: SourceLocation = #_sourceLocation
        ) throws {
            try trainer.step(x, y)
            try twinTrainer.step(x, y)
            expectError(code, words, location: location) { try chain.loadParameters(from: file, sgd: trainer.sgd) }
            #expect(try trainer.sgd.options() == options && trainer.sgd.stepCount == twinTrainer.sgd.stepCount)
            try trainer.step(x, y)
            try twinTrainer.step(x, y)
            let isSame = chain.state == twin.state
            #expect(isSame, sourceLocation: location)
        }
        func edit(_ edits: (pattern: String, replacement: String)...) throws {
            try twin.save(to: file, sgd: twinTrainer.sgd)
            var parts = try FileParts(directory.read())
            for (pattern, replacement) in edits {
                #expect(parts.header.contains(pattern), "\(pattern) is not in \(parts.header)")
                parts.header = parts.header.replacingOccurrences(of: pattern, with: replacement)
            }
            try directory.write(parts.file())
        }
        try twin.save(to: file)
        try expectRefusal(.invalidFile, "holds no optimizer")
        let grouped = try SGD([twin.layers[1]])
        try grouped.addGroup([twin.layers[3], twin.layers[5]])
        try twin.save(to: file, sgd: grouped)
        try expectRefusal(.invalidFile, "other groups, or other parameters")
        let reordered = try SGD([twin.layers[5], twin.layers[1], twin.layers[3]])
        try twin.save(to: file, sgd: reordered)
        try expectRefusal(.invalidFile, "other groups, or other parameters")
        for (lr, words) in [
            ("-0.1", "lr is -0.1"), ("1e999", "lr is inf"), (#"\"0.1\""#, "a number"), ("01", "a comma"),
            ("0.1,", "a string"),
        ] {
            try edit((#"\"lr\":0.1"#, #"\"lr\":"# + lr))
            try expectRefusal(.invalidFile, words)
        }
        let nesterov = (#"\"nesterov\":false"#, #"\"nesterov\":true"#)
        try edit(nesterov, (#"\"dampening\":0"#, #"\"dampening\":1"#))
        try expectRefusal(.invalidFile, "dampening is 1")
        try edit(nesterov, ("true", "1"))
        try expectRefusal(.invalidFile, "true or false")
        try edit((#"\"step_count\":"#, #"\"step_count\":-"#))
        try expectRefusal(.invalidFile, "a whole number")
        try edit(("sgd.1.weight.momentum_buffer", "sgd.1.weight.momentum_buffet"))
        try expectRefusal(.invalidFile, "momentum_buffet")
        let deep = try Chain([twin])
        try deep.save(to: file, sgd: SGD([deep]))
        try expectRefusal(.invalidFile, "other groups, or other parameters")

        let linear = try Linear<Double>(inputs: 2, outputs: 1)
        let more = try SGD([chain.layers[1], chain.layers[3], chain.layers[5], linear])
        expectError(.invalidArgument, "sgd holds a parameter, weight") {
            try chain.loadParameters(from: file, sgd: more)
        }
        expectError(.invalidArgument, "sgd holds a parameter, weight") { try chain.save(to: file, sgd: more) }
        let fewer = try SGD([chain.layers[1]])
        expectError(.invalidArgument, "sgd does not hold", "3.0.weight") {
            try chain.loadParameters(from: file, sgd: fewer)
        }
        expectError(.invalidArgument, "sgd does not hold", "3.0.weight") { try chain.save(to: file, sgd: fewer) }
    }
}

import Foundation
import Pente
import Testing

/// The number of threads is the process's, so these tests are among those that take turns with it.
extension ThreadsTests {
    /// Each run of Tests/data/bits.txt, which says what a run is, gives the hashes that stand there, by a trainer and by
    /// hand. PENTE_BITS=few takes the small runs alone; PENTE_BITS=all each number of threads from 1 to 8.
    @Test func theBitsOfTheTable() throws {
        let mode = ProcessInfo.processInfo.environment["PENTE_BITS"]
        let threads = mode == "all" ? Array(1...8) : mode == "few" ? [1] : [1, 3]
        let table = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../data/bits.txt")
        let text = try String(contentsOf: table, encoding: .utf8)
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        var count = 0
        defer { try? Threads.setCount(1) }
        for (number, line) in lines.enumerated() where line.hasPrefix("float") {
            let run = Run(line.split(separator: " "))
            if mode == "few" && run.size > 30000 { continue }
            count += 1
            for threads in threads {
                try Threads.setCount(threads)
                for byHand in [false, true] {
                    let found = try run.isDouble ? run.hashes(Double.self, byHand) : run.hashes(Float.self, byHand)
                    #expect(
                        found == run.hashes,
                        """
                        bits.txt:\(number + 1): \(line)
                            from Swift, \(byHand ? "by hand" : "by trainer"), threads: \(threads): pass, steps and fit \
                        are \(found.joined(separator: " ")). If numbers are meant to change, add a line "- bits:" to \
                        CHANGELOG.md, and let `make bits` write the table.
                        """)
                }
            }
        }
        #expect(count >= 20)
    }
}

/// A line of the table.
private struct Run {
    let isDouble, isWeighted, isShuffled: Bool
    let layers: [Substring]
    let rows, batch: Int
    let scale, clip: Double
    let reduction: Reduction
    let options: SGDOptions
    let hashes: [String]

    init(_ words: [Substring]) {
        let numbers = words.map { Double($0) ?? 0 }
        isDouble = words[0] == "float64"
        layers = words[1].split(separator: ":")
        rows = Int(numbers[2])
        scale = numbers[3]
        let reductions: [Substring: Reduction] = [
            "mean": .mean, "sum": .sum, "none": .none, "batch_mean": .batchMean, "output_mean": .outputMean,
        ]
        reduction = reductions[words[4]]!
        isWeighted = numbers[5] == 1
        options = SGDOptions(
            lr: numbers[6], momentum: numbers[7], dampening: numbers[8], weightDecay: numbers[9],
            nesterov: numbers[10] == 1, maximize: numbers[11] == 1)
        clip = numbers[12]
        batch = Int(numbers[13])
        isShuffled = numbers[14] == 1
        hashes = words[15...].map(String.init)
    }

    /// How many multiply-adds the rows take.
    var size: Int {
        let widths = layers.compactMap(outputs)
        return rows * zip(widths, widths.dropFirst()).reduce(0) { $0 + $1.0 * $1.1 }
    }

    func hashes<Element: Scalar>(_: Element.Type, _ byHand: Bool) throws -> [String] {
        let work = try Work<Element>(self, byHand)
        let parts = try [work.pass()] + (reduction == .none ? [] : [work.steps(), work.fit()])
        return parts.map { String($0, radix: 16) }.map { String(repeating: "0", count: 8 - $0.count) + $0 }
            + Array(repeating: "-", count: 3 - parts.count)
    }
}

/// What a word says of a linear layer: "9", or without a bias "9w".
private func outputs(_ word: Substring) -> Int? { Int(word.prefix { $0 != "w" }) }

/// CRC-32, as zlib's.
private struct CRC {
    private var bits = UInt32.max
    var value: UInt32 { ~bits }

    private static let table = (0..<256).map { byte in
        (0..<8).reduce(UInt32(byte)) { bits, _ in bits >> 1 ^ (bits & 1 == 1 ? 0xedb8_8320 : 0) }
    }

    mutating func add<Element>(_ elements: [Element]) {
        elements.withUnsafeBytes { bytes in
            for byte in bytes { bits = bits >> 8 ^ Self.table[Int(UInt8(truncatingIfNeeded: bits) ^ byte)] }
        }
    }

    mutating func add<Element: Scalar>(_ layer: Layer<Element>) {
        for numbers in layer.state { add(numbers) }
    }
}

private enum Seed {
    static let x: UInt64 = 1, y: UInt64 = 2, shift: UInt64 = 3, shuffle: UInt64 = 7
}

private func numbers<Element: Scalar>(
    _ rows: Int, _ columns: Int, seed: UInt64, scale: Double = 1
) throws(PenteError) -> Matrix<Element> {
    let elements = (0..<rows * columns).map { k in
        var z = (seed << 32 | UInt64(k)) &* 0x9e37_79b9_7f4a_7c15
        z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
        z ^= z >> 31
        return Element((Double(z >> 11) * 0x1p-52 - 1) * scale)
    }
    return try Matrix(rows: rows, columns: columns, elements: elements)
}

/// y = (x + a)².
private final class Shift<Element: Scalar>: CustomLayer<Element> {
    init(width: Int) throws {
        let a: Matrix<Element> = try numbers(1, width, seed: Seed.shift)
        try super.init(inputs: width, outputs: width, parameters: [Parameter(name: "a", value: a, rank: 1)])
    }

    override func computeForward(_ x: Matrix<Element>) throws(PenteError) -> Matrix<Element> {
        let a = parameters[0].value.elements
        let shifted = x.elements.enumerated().map { $1 + a[$0 % inputs] }
        return try Matrix(rows: x.rows, columns: inputs, elements: shifted.map { $0 * $0 })
    }

    override func computeBackward(
        _ gradOutput: Matrix<Element>, x: Matrix<Element>, y: Matrix<Element>
    ) throws(PenteError) -> (gradInput: Matrix<Element>, gradients: [Matrix<Element>]) {
        let a = parameters[0].value.elements, upstream = gradOutput.elements
        let gradInput = x.elements.enumerated().map { 2 * ($1 + a[$0 % inputs]) * upstream[$0] }
        var gradA = [Element](repeating: 0, count: inputs)
        for (k, grad) in gradInput.enumerated() { gradA[k % inputs] += grad }
        return (
            try Matrix(rows: x.rows, columns: inputs, elements: gradInput),
            [try Matrix(rows: 1, columns: inputs, elements: gradA)]
        )
    }
}

private func layer<Element: Scalar>(_ words: [Substring], _ x: Matrix<Element>) throws -> Layer<Element> {
    let activations: [Substring: ActivationFunction] = [
        "relu": .relu, "leaky_relu": .leakyReLU(), "tanh": .tanh, "sigmoid": .sigmoid, "softplus": .softplus,
    ]
    var width = x.columns
    var layers: [Layer<Element>] = []
    for (place, word) in words.enumerated() {
        if let function = activations[word] {
            layers.append(try Activation(function))
        } else if word == "shift" {
            layers.append(try Shift(width: width))
        } else if let outputs = outputs(word) {
            let bias = !word.hasSuffix("w")
            layers.append(try Linear(inputs: width, outputs: outputs, bias: bias, seed: UInt64(place)))
            width = outputs
        } else {
            let scaler = try Scaler<Element>(features: width)
            try scaler.fit(x)
            layers.append(scaler)
        }
    }
    return layers.count == 1 ? layers[0] : try Chain(layers)
}

/// A run under way: without a trainer it goes by hand.
private struct Work<Element: Scalar> {
    let run: Run
    let x, y: Matrix<Element>
    let weight: Matrix<Element>?
    let layer: Layer<Element>
    let mse: MSE
    let sgd: SGD<Element>?
    private(set) var trainer: Trainer<Element>?
    let context = Context<Element>()

    init(_ run: Run, _ byHand: Bool) throws {
        self.run = run
        x = try numbers(run.rows, outputs(run.layers[0])!, seed: Seed.x, scale: run.scale)
        layer = try PenteTests.layer(Array(run.layers.dropFirst()), x)
        y = try numbers(run.rows, layer.forward(x).columns, seed: Seed.y)
        let weights = (0..<run.rows).map { Element($0 % 5) / 2 }
        weight = run.isWeighted ? try Matrix(rows: run.rows, columns: 1, elements: weights) : nil
        mse = MSE(reduction: run.reduction)
        sgd = run.reduction == .none ? nil : try SGD([layer], options: run.options)
        if let sgd, !byHand {
            trainer = try Trainer(layer: layer, mse: mse, sgd: sgd)
            try trainer?.setMaxGradientNorm(run.clip)
        }
    }

    func pass() throws -> UInt32 {
        var crc = CRC()
        let prediction = try layer.forward(x, context: context)
        let gradInput = try layer.backward(y, context: context)
        crc.add(layer)
        crc.add(prediction.elements)
        crc.add(gradInput.elements)
        crc.add(try mse.backward(prediction, y, sampleWeight: weight).prediction.elements)
        if run.reduction == .none {
            crc.add(try mse.elements(prediction, y, sampleWeight: weight).elements)
        } else {
            crc.add([try mse.forward(prediction, y, sampleWeight: weight)])
        }
        return crc.value
    }

    private func step(_ x: Matrix<Element>, _ y: Matrix<Element>, _ weight: Matrix<Element>?) throws -> Double {
        if let trainer { return try trainer.step(x, y, sampleWeight: weight) }
        let sgd = sgd!
        sgd.zeroGradients()
        let prediction = try layer.forward(x, context: context)
        let loss = try mse.forward(prediction, y, sampleWeight: weight)
        try layer.backward(mse.backward(prediction, y, sampleWeight: weight).prediction, context: context)
        if run.clip > 0 { _ = try sgd.clipGradients(maxNorm: run.clip) }
        try sgd.step()
        return loss
    }

    func steps() throws -> UInt32 {
        var crc = CRC()
        crc.add(try (0..<3).map { _ in try step(x, y, weight) })
        crc.add(layer)
        return crc.value
    }

    private func rows(_ order: ArraySlice<Int>, _ matrix: Matrix<Element>) throws -> Matrix<Element> {
        try Matrix(
            rows: order.count, columns: matrix.columns,
            elements: order.flatMap { i in (0..<matrix.columns).map { j in matrix[i, j] } })
    }

    /// An epoch of batches, and its loss.
    private func epoch(_ order: [Int]) throws -> Double {
        let isMean = run.reduction == .mean || run.reduction == .batchMean
        var total = 0.0, weights = 0.0
        for first in stride(from: 0, to: run.rows, by: run.batch) {
            let batch = order[first..<min(first + run.batch, run.rows)]
            let weight = try weight.map { try rows(batch, $0) }
            let count = weight.map { $0.elements.reduce(0) { $0 + Double($1) } } ?? Double(batch.count)
            if count == 0 { continue }
            let loss = try step(rows(batch, x), rows(batch, y), weight)
            total += isMean ? loss * count : loss
            weights += count
        }
        return isMean ? total / weights : total
    }

    func fit() throws -> UInt32 {
        let epochs = 2
        var losses: [Double] = [], validationLosses: [Double] = []
        if let trainer {
            let options = FitOptions(
                epochs: epochs, batchSize: run.batch, shuffle: run.isShuffled, seed: Seed.shuffle)
            let report = try trainer.fit(x, y, sampleWeight: weight, validation: (x, y), options: options)
            (losses, validationLosses) = (report.trainingLosses, report.validationLosses)
        } else {
            var generator = MersenneTwister(seed: Seed.shuffle)
            var order = Array(0..<run.rows)
            for _ in 0..<epochs {
                if run.isShuffled { order.withUnsafeMutableBufferPointer { generator.permute($0) } }
                losses.append(try epoch(order))
                validationLosses.append(try mse.forward(layer.forward(x), y))
            }
        }
        var crc = CRC()
        crc.add(losses + validationLosses)
        crc.add(layer)
        return crc.value
    }
}

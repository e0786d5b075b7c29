import Foundation
import Pente
import Testing

/// Rows from files and from sources of one's own: the bits of the same rows in memory.
@Suite struct DataSourceTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// As numpy.save writes it; `descr` is the dtype.
    private func write<Element: Scalar>(_ matrix: Matrix<Element>, _ name: String, _ descr: String? = nil) throws {
        let descr = descr ?? (Element.self == Float.self ? "<f4" : "<f8")
        var header = "{'descr': '\(descr)', 'fortran_order': False, 'shape': (\(matrix.rows), \(matrix.columns)), }"
        header += String(repeating: " ", count: 63 - (10 + header.utf8.count) % 64) + "\n"
        var file = Data([0x93]) + Data("NUMPY".utf8) + Data([1, 0])
        file += Data([UInt8(header.utf8.count & 0xff), UInt8(header.utf8.count >> 8)]) + Data(header.utf8)
        matrix.elements.withUnsafeBytes { file += Data($0) }
        try directory.write(file, name)
    }

    private func rows<Element: Scalar>(_ matrix: Matrix<Element>, _ range: Range<Int>) throws -> Matrix<Element> {
        try Matrix(
            rows: range.count, columns: matrix.columns,
            elements: Array(matrix.elements[range.lowerBound * matrix.columns..<range.upperBound * matrix.columns]))
    }

    /// What a fit makes of new parameters.
    private func train<Element: Scalar>(
        _ inputs: Int, _ outputs: Int, _: Element.Type = Element.self,
        _ fit: (Trainer<Element>) throws -> FitReport
    ) throws -> (Matrix<Element>, FitReport) {
        let layer = try Linear<Element>(inputs: inputs, outputs: outputs, seed: 3)
        let sgd = try SGD([layer], options: SGDOptions(lr: 0.05, momentum: 0.9))
        let report = try fit(Trainer(layer: layer, sgd: sgd))
        return (layer.weight, report)
    }

    private func numbers<Element: Scalar>(
        _ count: Int, _: Element.Type = Element.self
    ) throws -> (x: Matrix<Element>, y: Matrix<Element>, weight: Matrix<Element>) {
        let weights = try Matrix<Element>(rows: count, columns: 1, elements: (0..<count).map { Element($0 % 3) })
        return (try random(count, 5, seed: 1), try random(count, 2, seed: 2), weights)
    }

    @Test func files() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let (x, y, weight) = try numbers(301, Element.self)
            let cuts = [0, 1, 64, 200, 301]
            for i in 1..<cuts.count { try write(rows(x, cuts[i - 1]..<cuts[i]), "x\(i)") }
            try write(y, "y")
            try write(rows(weight, 0..<150), "weight1")
            try write(rows(weight, 150..<301), "weight2")
            for (shuffle, batch) in [(false, 32), (false, 1000), (true, 16)] {
                let options = FitOptions(epochs: 3, batchSize: batch, shuffle: shuffle, seed: 9)
                for weighted in [false, true] {
                    let source = try NPYSource<Element>(
                        x: (1..<cuts.count).map { directory.path("x\($0)") }, y: [directory.path("y")],
                        sampleWeight: weighted ? [directory.path("weight1"), directory.path("weight2")] : [])
                    #expect(source.rows == 301 && source.inputs == 5 && source.outputs == 2)
                    #expect(source.hasSampleWeight == weighted)
                    let memory = try train(5, 2, Element.self) {
                        try $0.fit(x, y, sampleWeight: weighted ? weight : nil, options: options)
                    }
                    let streamed = try train(5, 2, Element.self) { try $0.fit(source, options: options) }
                    #expect(memory.0.isIdentical(streamed.0))
                    #expect(memory.1.trainingLosses == streamed.1.trainingLosses && streamed.1.epochs == 3)
                }
            }
        }
    }

    /// Few rows at a time, of a known or an unknown number.
    @Test func sourcesOfOnesOwn() throws {
        let (x, y, _) = try numbers(203, Double.self)
        let memory = try train(5, 2) { try $0.fit(x, y, options: FitOptions(epochs: 2, seed: 4)) }
        for count in [nil, 203] {
            let source = try BatchSource<Double>(inputs: 5, outputs: 2, rows: count) {
                (first, count) throws(PenteError) in
                if first >= 203 { return nil }
                let end = min(first + min(count, 7), 203)
                func part(_ matrix: Matrix<Double>) throws(PenteError) -> Matrix<Double> {
                    let columns = matrix.columns
                    return try Matrix(
                        rows: end - first, columns: columns,
                        elements: Array(matrix.elements[first * columns..<end * columns]))
                }
                return Batch(x: try part(x), y: try part(y))
            }
            let streamed = try train(5, 2) { try $0.fit(source, options: FitOptions(epochs: 2, seed: 4)) }
            #expect(memory.0.isIdentical(streamed.0), "\(count ?? -1)")
        }
    }

    /// Every row once an epoch, and in the same order for the same seed.
    @Test func windows() throws {
        let count = 1000
        for known in [true, false] {
            let ids = try Matrix<Double>(rows: count, columns: 1, elements: (0..<count).map { Double($0) })
            let source = try BatchSource<Double>(inputs: 1, outputs: 1, rows: known ? count : nil) {
                (first, wanted) throws(PenteError) in
                if first == count { return nil }
                let part = ids.elements[first..<min(first + wanted, count)]
                let matrix = try Matrix(rows: part.count, columns: 1, elements: Array(part))
                return Batch(x: matrix, y: matrix)
            }
            func orders(seed: UInt64) throws -> [Double] {
                let recorder = try Recorder<Double>()
                let sgd = try SGD([recorder], options: SGDOptions(lr: 0))
                let options = FitOptions(epochs: 2, batchSize: 4, seed: seed, shuffleWindow: 256)
                try Trainer(layer: recorder, sgd: sgd).fit(source, options: options)
                return recorder.forwards.flatMap { $0.elements }
            }
            let order = try orders(seed: 1)
            #expect(order.count == 2 * count)
            for epoch in 0..<2 { #expect(order[epoch * count..<(epoch + 1) * count].sorted() == ids.elements) }
            #expect(Array(order[..<count]) != Array(order[count...]) && Array(order[..<count]) != ids.elements)
            #expect(try orders(seed: 1) == order)
            #expect(try orders(seed: 2) != order)
            let reach = order[..<256].max()!
            #expect(known ? reach > 900 : reach == 255)
        }
    }

    @Test func errors() throws {
        let (x, y, _) = try numbers(100, Float.self)
        try write(x, "x")
        try write(y, "y")
        let (xs, ys) = ([directory.path("x")], [directory.path("y")])
        let layer = try Linear<Float>(inputs: 5, outputs: 2)
        let trainer = try Trainer(layer: layer, sgd: SGD([layer]))
        let before = layer.state
        expectError(.dtypeMismatch, "x", "float32", "float64") { _ = try NPYSource<Double>(x: xs, y: ys) }
        expectError(.fileError, "missing") { _ = try NPYSource<Float>(x: [directory.path("missing")], y: ys) }
        expectError(.invalidArgument, "y is empty") { _ = try NPYSource<Float>(x: xs, y: []) }
        expectError(.shapeMismatch, "2 columns", "5") { try trainer.fit(NPYSource<Float>(x: ys, y: ys)) }
        try write(rows(y, 0..<99), "short")
        expectError(.shapeMismatch, "99", "100") { _ = try NPYSource<Float>(x: xs, y: [directory.path("short")]) }

        let source = try NPYSource<Float>(x: xs, y: ys)
        let whole = try directory.read("x")
        try directory.write(whole.dropLast(20 * 30 + 1), "x")
        expectError(.invalidFile, "x: ", "row 69") { try trainer.fit(source) }
        try directory.write(whole, "x")

        var bad = y
        bad[42, 1] = .nan
        try write(bad, "y")
        for shuffle in [false, true] {
            expectError(.notFinite, "y: row 42, column 1 is nan") {
                try trainer.fit(source, options: FitOptions(shuffle: shuffle))
            }
        }
        expectError(.notFinite, "row 42 of y, column 1 is nan") { try trainer.fit(x, bad) }

        let failing = try BatchSource<Float>(inputs: 5, outputs: 2) { (_, _) throws(PenteError) in
            throw PenteError(code: PenteError.Code(rawValue: 1234), message: "no more")
        }
        expectError(PenteError.Code(rawValue: 1234), "no more") { try trainer.fit(failing) }
        let empty = try BatchSource<Float>(inputs: 5, outputs: 2) { (_, _) throws(PenteError) in nil }
        expectError(.invalidState, "no rows") { try trainer.fit(empty) }
        expectError(.invalidArgument, "inputs is 0") {
            _ = try BatchSource<Float>(inputs: 0, outputs: 2) { (_, _) throws(PenteError) in nil }
        }
        #expect(layer.state == before)
    }

    // MARK: Checkpoints

    /// Stopped wherever it happens, and gone on with, from files and from memory.
    @Test func resumes() throws {
        // So many that there are some tenths of a second between the first step and the last.
        let x: Matrix<Double> = try random(999, 200, seed: 1), y: Matrix<Double> = try random(999, 60, seed: 2)
        try write(x, "x")
        try write(y, "y")
        let source = try NPYSource<Double>(x: [directory.path("x")], y: [directory.path("y")])
        var options = FitOptions(epochs: 300, batchSize: 16, seed: 5, patience: 200, shuffleWindow: 256)
        let validation = (x: try rows(x, 0..<10), y: try rows(y, 0..<10))
        for streams in [false, true] {
            func fit(_ trainer: Trainer<Double>, shouldStop: () -> Bool = { false }) throws -> FitReport {
                streams
                    ? try trainer.fit(source, validation: validation, options: options, shouldStop: shouldStop)
                    : try trainer.fit(x, y, validation: validation, options: options, shouldStop: shouldStop)
            }
            options.checkpoint = nil
            let whole = try train(200, 60) { try fit($0) }
            options.checkpoint = Checkpoint(path: directory.path("run\(streams)"), epochs: 7, resumes: true)
            var stops = 0
            while true {
                let part = try train(200, 60) { trainer in try fit(trainer) { true } }
                if part.1.stopReason != .request {
                    #expect(part.0.isIdentical(whole.0))
                    #expect(part.1.trainingLosses == whole.1.trainingLosses)
                    #expect(part.1.validationLosses == whole.1.validationLosses)
                    #expect(part.1.bestEpoch == whole.1.bestEpoch && part.1.stopReason == whole.1.stopReason)
                    break
                }
                stops += 1
            }
            #expect(stops > 2)
            options.batchSize = 2
            expectError(.invalidFile, "batch_size of 16", "2") { _ = try train(200, 60) { try fit($0) } }
            options.batchSize = 16
            let loaded = try Layer<Double>.load(from: directory.path("run\(streams)"))
            #expect(loaded.inputs == 200 && loaded.outputs == 60)
        }
    }
}

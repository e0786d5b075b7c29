import Foundation
import Pente
import Testing

@Suite struct FileTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// One of each kind, with parameters of its own.
    private func kinds<Element: Scalar>(_: Element.Type = Element.self) throws -> [Layer<Element>] {
        let layers: [Layer<Element>] = try [
            Linear(inputs: 3, outputs: 5), Linear(inputs: 1, outputs: 1, bias: false), Activation(.relu),
            Activation(.leakyReLU(negativeSlope: 0.1)), Activation(.leakyReLU(negativeSlope: -1.2345678901234567e-30)),
            Activation(.tanh), Activation(.sigmoid), Activation(.softplus), Scaler(features: 4),
            Chain(ChainTests.layers()), Chain([Chain([Chain([Scaler(features: 2)])])]),
        ]
        for (i, layer) in layers.enumerated() { try layer.randomize(seed: UInt64(i)) }
        return layers
    }

    /// Of the same kinds, with the same options.
    private func expectSame<Element: Scalar>(_ a: Layer<Element>, _ b: Layer<Element>) throws {
        #expect(type(of: a) == type(of: b) && a.inputs == b.inputs && a.outputs == b.outputs)
        #expect(a.parameters.map(\.name) == b.parameters.map(\.name))
        #expect(a.parameters.map(\.rank) == b.parameters.map(\.rank))
        #expect(a.parameters.map(\.isTrained) == b.parameters.map(\.isTrained))
        for (a, b) in zip(a.parameters, b.parameters) { #expect(a.value.isIdentical(b.value), "\(a.name)") }
        if let a = a as? Activation, let b = b as? Activation { #expect(a.function == b.function) }
        if let a = a as? Chain, let b = b as? Chain {
            #expect(a.layers.count == b.layers.count)
            for (a, b) in zip(a.layers, b.layers) { try expectSame(a, b) }
        }
    }

    @Test func everyKindComesBack() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            for layer in try kinds(Element.self) {
                try layer.save(to: directory.path())
                let saved = try directory.read()
                let loaded = try Layer<Element>.load(from: directory.path())
                try expectSame(layer, loaded)
                #expect(loaded.parameters.allSatisfy { $0.gradient.elements.allSatisfy { $0 == 0 } })
                let x: Matrix<Element> = try random(6, layer.inputs == 0 ? 3 : layer.inputs, seed: 1)
                #expect(try loaded.forward(x).isIdentical(layer.forward(x)))
                try loaded.save(to: directory.path("again"))
                #expect(try directory.read("again") == saved)

                let other = try Layer<Element>.load(from: directory.path("again"))
                try other.randomize(seed: 99)
                try other.loadParameters(from: directory.path())
                try expectSame(layer, other)
            }
        }
    }

    /// Numbers that text would not keep.
    @Test func numbersKeepTheirBits() throws {
        let layer = try Linear<Double>(inputs: 3, outputs: 2, bias: false)
        let special = [0.1, -0.0, .infinity, -.infinity, Double(nan: 5, signaling: false), .leastNonzeroMagnitude]
        try layer.parameters[0].setValue(Matrix(rows: 2, columns: 3, elements: special))
        try layer.save(to: directory.path())
        let loaded = try Layer<Double>.load(from: directory.path())
        #expect(loaded.parameters[0].value.elements.map(\.bitPattern) == special.map(\.bitPattern))
    }

    /// Read by Foundation: the names and shapes of torch.nn.Sequential.
    @Test func theFileIsSafetensors() throws {
        let chain = try Chain<Float>(ChainTests.layers())
        let sgd = try SGD([chain], options: SGDOptions(lr: 0.1, momentum: 0.9))
        let trainer = try Trainer(layer: chain, sgd: sgd)
        try trainer.step(random(5, 5, seed: 1), random(5, 3, seed: 2))
        try chain.save(to: directory.path(), sgd: sgd)
        let file = try directory.read()
        let parts = FileParts(file)
        #expect((file.count - parts.data.count) % 8 == 0)
        let trained = chain.parameters.filter(\.isTrained)
        let names = chain.parameters.map(\.name) + trained.map { "sgd.\($0.name).momentum_buffer" }
        #expect(try Set(parts.object().keys) == Set(names + ["__metadata__"]))
        #expect(try (parts.object()["__metadata__"] as! [String: String])["format"] == "pt")
        #expect(try parts.shape("1.weight") == [8, 5] && parts.shape("1.bias") == [8] && parts.shape("0.mean") == [5])
        for parameter in chain.parameters {
            #expect(try parts.numbers(parameter.name) == parameter.value.elements)
        }
        for parameter in trained {  // a first step's momentum is the gradient
            #expect(try parts.numbers("sgd.\(parameter.name).momentum_buffer") == parameter.gradient.elements)
        }
        let description = try parts.description()
        #expect(description["dtype"] as? String == "float32")
        #expect((description["layer"] as! [String: Any])["type"] as? String == "chain")
        #expect((description["sgd"] as! [String: Any])["step_count"] as? Int == 1)
    }

    /// What another program wrote: a weight and perhaps a bias is a linear layer, whatever the order and the metadata.
    @Test func filesOfOthers() throws {
        func numbers<Element: Scalar>(_ elements: [Element]) -> Data { elements.withUnsafeBytes { Data($0) } }
        let weight = #"{"weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#
        try directory.write(FileParts(header: weight, data: numbers([1, 2, 3, 4, 5, 6] as [Float])).file())
        let unbiased = try #require(try Layer<Float>.load(from: directory.path()) as? Linear<Float>)
        #expect(unbiased.weight.elements == [1, 2, 3, 4, 5, 6] && unbiased.weight.rows == 2 && unbiased.bias == nil)

        let both = #"""
            {"bi\u0061s" : {"data_offsets": [0,16], "shape" :[2], "dtype":"F64"}, "__metadata__":{"\n":"\ud83d\ude00é"},
            "weight":{"shape":[2,1],"dtype":"F64","data_offsets":[16,32]}}
            """#
        try directory.write(FileParts(header: both, data: numbers([1, 2, 3, 4] as [Double])).file())
        let linear = try #require(try Layer<Double>.load(from: directory.path()) as? Linear<Double>)
        #expect(linear.weight.elements == [3, 4] && linear.bias?.elements == [1, 2])

        let more = weight.replacingOccurrences(
            of: "}}", with: #"},"scale":{"dtype":"F32","shape":[],"data_offsets":[24,28]}}"#)
        try directory.write(FileParts(header: more, data: numbers([1, 2, 3, 4, 5, 6, 7] as [Float])).file())
        expectError(.invalidFile, "file.safetensors", "scale") { _ = try Layer<Float>.load(from: directory.path()) }
        let other = weight.replacingOccurrences(of: "weight", with: "kernel")
        try directory.write(FileParts(header: other, data: numbers([1, 2, 3, 4, 5, 6] as [Float])).file())
        expectError(.invalidFile, "does not say", "weight") { _ = try Layer<Float>.load(from: directory.path()) }
    }

    /// What `pente train` wrote of data/linnerud.csv, with a further entry in the metadata, and what `pente predict` said;
    /// bindings/python/tests/test_command.py compares Python and C with the same files.
    @Test func aModelOfTheCommand() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
        func numbers(_ path: String, columns: Int) throws -> [Double] {
            let lines = try String(contentsOf: root.appending(path: path), encoding: .utf8).split(separator: "\n")
            return lines.dropFirst().flatMap { $0.split(separator: ",").prefix(columns).map { Double($0)! } }
        }
        let layer = try Layer<Double>.load(from: root.appending(path: "Tests/data/linnerud.safetensors").path)
        let x = try Matrix(rows: 20, columns: 3, elements: numbers("data/linnerud.csv", columns: 3))
        #expect(try layer.forward(x).elements == numbers("Tests/data/linnerud.csv", columns: 3))
    }

    /// A file holds no code: what a custom layer's parameters are is in it, and what it does is not.
    @Test func customLayers() throws {
        func chain(_ seed: UInt64) throws -> Chain<Double> {
            let plain = try PlainLinear<Double>(random(3, 2, seed: seed), random(1, 3, seed: seed + 1))
            return try Chain([Linear(inputs: 4, outputs: 2, seed: seed), plain, Recorder<Double>()])
        }
        let chain1 = try chain(1), chain2 = try chain(2)
        try chain1.save(to: directory.path())
        #expect(try FileParts(directory.read()).shape("1.bias") == [3])
        expectError(.invalidFile, "1.custom", "load its parameters") {
            _ = try Layer<Double>.load(from: directory.path())
        }
        try chain2.loadParameters(from: directory.path())
        #expect(chain2.parameters.map(\.value) == chain1.parameters.map(\.value))
    }

    @Test func mismatches() throws {
        let layer = try Linear<Float>(inputs: 3, outputs: 2)
        let context = Context<Float>()
        _ = try layer.forward(random(4, 3, seed: 1), context: context)
        try layer.backward(random(4, 2, seed: 2), context: context)
        let before = layer.state
        func expectRefusal(
            _ code: PenteError.Code, _ word: String, of other: some SaveableLayer,
            location: SourceLocation = #_sourceLocation
        ) throws {
            try other.saveAnyType(to: directory.path())
            expectError(code, "file.safetensors", word, location: location) {
                try layer.loadParameters(from: directory.path())
            }
            #expect(layer.state == before, sourceLocation: location)
        }
        try expectRefusal(.shapeMismatch, "2×4", of: Linear<Float>(inputs: 4, outputs: 2))
        try expectRefusal(.shapeMismatch, "1×3", of: Linear<Float>(inputs: 3, outputs: 1))
        try expectRefusal(.dtypeMismatch, "weight is float64", of: Linear<Double>(inputs: 3, outputs: 2))
        try expectRefusal(.invalidFile, "no bias", of: Linear<Float>(inputs: 3, outputs: 2, bias: false))
        try expectRefusal(.invalidFile, "no weight", of: Chain([Linear<Float>(inputs: 3, outputs: 2)]))
        try expectRefusal(.invalidFile, "no weight", of: Activation<Float>(.relu))
        try Linear<Float>(inputs: 3, outputs: 2).save(to: directory.path())
        expectError(.invalidFile, "bias, which the layer has not") {
            try Linear<Float>(inputs: 3, outputs: 2, bias: false).loadParameters(from: directory.path())
        }
        expectError(.dtypeMismatch, "file.safetensors", "float64") {
            _ = try Layer<Double>.load(from: directory.path())
        }
    }

    /// What the system refuses comes with its number, and leaves nothing behind.
    @Test func systemErrors() throws {
        let layer = try Linear<Float>(inputs: 3, outputs: 2)
        let before = layer.state
        func expectFileError(_ number: Int32, _ word: String, _ body: () throws -> Void) {
            expectError(.fileError, word) {
                do {
                    try body()
                } catch let error as PenteError {
                    #expect(error.systemError == number)
                    throw error
                }
            }
        }
        let missing = directory.path("none"), inside = directory.path("none/file")
        expectFileError(ENOENT, missing) { _ = try Layer<Float>.load(from: missing) }
        expectFileError(ENOENT, missing) { try layer.loadParameters(from: missing) }
        expectFileError(ENOENT, inside) { try layer.save(to: inside) }
        expectFileError(EISDIR, directory.url.lastPathComponent) { _ = try Layer<Float>.load(from: directory.path("")) }
        expectFileError(ENOENT, "No such file") { try layer.save(to: "") }
        let cut = directory.path("file\0tail")  // the system would take it for "file"
        expectError(.invalidArgument, "path") { try layer.save(to: cut) }
        expectError(.invalidArgument, "path") { try layer.loadParameters(from: cut) }
        try FileManager.default.createDirectory(atPath: missing, withIntermediateDirectories: false)
        expectFileError(EISDIR, missing) { try layer.save(to: missing) }
        #expect(layer.state == before)
        #expect(try directory.names == ["none"])
    }

    /// An old file is replaced as a whole, or not at all, and nothing else is left in its directory.
    @Test func theOldFileStaysUntilTheNewOneIsThere() throws {
        let small = try Linear<Float>(inputs: 2, outputs: 1), large = try Linear<Float>(inputs: 50, outputs: 40)
        try large.save(to: directory.path())
        let old = try directory.read()
        expectError(.invalidArgument, "sgd") { try small.save(to: directory.path(), sgd: SGD([large])) }
        #expect(try directory.read() == old)
        try small.save(to: directory.path())
        #expect(try directory.read().count < old.count)
        #expect(try Layer<Float>.load(from: directory.path()).inputs == 2)
        #expect(try directory.names == ["file.safetensors"])
        for name in ["naïve 模型", String(repeating: "n", count: 255)] {
            try small.save(to: directory.path(name))
            #expect(try Layer<Float>.load(from: directory.path(name)).inputs == 2)
        }
        #expect(try directory.names.count == 3)
    }
}

private protocol SaveableLayer {
    func saveAnyType(to path: String) throws
}

extension Layer: SaveableLayer {
    func saveAnyType(to path: String) throws { try save(to: path) }
}

import Foundation
import Pente
import Testing

/// Damaged files, and files that say what they should not: each is refused, and the layer stays as it was.
@Suite struct BadFileTests {
    let directory: TemporaryDirectory
    let layer: Layer<Float>

    init() throws {
        directory = try TemporaryDirectory()
        layer = try Chain([Scaler(features: 2), Linear(inputs: 2, outputs: 3), Activation(.leakyReLU())])
    }

    /// A right file of the layer, whose header is the same without the padding.
    private func parts() throws -> FileParts {
        try layer.save(to: directory.path())
        var parts = try FileParts(directory.read())
        parts.header = parts.header.trimmingCharacters(in: .whitespaces)
        return parts
    }

    /// Both `load` and `loadParameters` refuse it; or `load` alone, which reads the description of the layer.
    private func expectRefusal(
        of file: Data, _ words: String, byLoadAlone: Bool = false, code: PenteError.Code = .invalidFile,
        location: SourceLocation = #_sourceLocation
    ) throws {
        let before = layer.state
        try directory.write(file)
        expectError(code, "file.safetensors: ", words, location: location) {
            _ = try Layer<Float>.load(from: directory.path())
        }
        if byLoadAlone {
            try layer.loadParameters(from: directory.path())
        } else {
            expectError(code, "file.safetensors: ", words, location: location) {
                try layer.loadParameters(from: directory.path())
            }
        }
        #expect(layer.state == before, sourceLocation: location)
    }

    @Test func lengths() throws {
        let parts = try parts()
        let file = parts.file(), length = UInt64(parts.header.utf8.count)
        try expectRefusal(of: Data(), "0 bytes")
        try expectRefusal(of: file.prefix(7), "7 bytes")
        try expectRefusal(of: parts.file(length: 0), "header is empty")
        for length in [UInt64(file.count) - 7, 100_000_001, 1 << 63, .max] {
            try expectRefusal(of: parts.file(length: length), "longer than the file")
        }
        try expectRefusal(of: parts.file(length: length - 1), "JSON")
        try expectRefusal(of: parts.file(length: length + 1), "JSON")
        try expectRefusal(of: file.dropLast(), "bytes of data")
        try expectRefusal(of: file + Data([0]), "bytes of data")
        try expectRefusal(of: Data(repeating: 0x20, count: 100), "longer than the file")
    }

    /// Wherever it is cut.
    @Test func truncation() throws {
        let file = try parts().file()
        for count in file.indices {
            try directory.write(file.prefix(count))
            expectError(.invalidFile, "file.safetensors: ") { _ = try Layer<Float>.load(from: directory.path()) }
        }
    }

    /// Of each byte of the header, and of its length, some bits: it is refused, or something that was said is another
    /// thing that may be.
    @Test func flippedBits() throws {
        let file = try parts().file()
        let codes: Set<PenteError.Code?> = [nil, .invalidFile, .shapeMismatch, .dtypeMismatch]
        let before = layer.state
        var refused = 0
        for byte in 0..<8 + file.prefix(8).reversed().reduce(0, { $0 << 8 | Int($1) }) {
            for bit in [byte % 8, (byte + 3) % 8, 5] {
                var flipped = file
                flipped[byte] ^= 1 << bit
                try directory.write(flipped)
                let code = errorCode { _ = try Layer<Float>.load(from: directory.path()) }
                let otherCode = errorCode { try layer.loadParameters(from: directory.path()) }
                #expect(codes.contains(code) && codes.contains(otherCode), "bit \(bit) of byte \(byte)")
                #expect(layer.state == before)
                if code != nil { refused += 1 }
            }
        }
        #expect(refused > 1000)
    }

    /// Edits of the header of a right file.
    @Test(arguments: [
        (#"{"__"#, #" {"__"#, "begin with an object"),
        ("[3,2]", "[3,2", "JSON"),
        ("[3,2]", "[3,,2]", "whole number"),
        ("[3,2]", "[3,2,]", "whole number"),
        ("[3,2]", "[3,2.0]", "JSON"),
        ("[3,2]", "[-3,-2]", "whole number"),
        ("[3,2]", "[03,2]", "JSON"),
        ("[3,2]", "[99999999999999999999,2]", "too large a number"),
        ("[3,2]", "[4611686018427387904,8]", "too large"),
        ("[3,2]", "[4611686018427387903,2]", "do not fit its shape"),
        ("[3,2]", "[2,2]", "do not fit its shape"),
        (#""F32""#, #""F16""#, "F16"),
        (#""F32""#, #""f32""#, "f32"),
        (#""F32""#, "32", "string"),
        (#""dtype":"F32","#, "", "lacks its dtype"),
        (#""dtype":"F32","#, #""dtype":"F32","dtype":"F32","#, "twice or unknown"),
        (#""dtype":"F32","#, #""type":"F32","dtype":"F32","#, "twice or unknown"),
        ("[0,8]", "[0]", "not two"),
        ("[0,8]", "[0,8,8]", "not two"),
        ("[0,8]", "[8,0]", "do not fit its shape"),
        ("[0,8]", "[8,16]", "begins at byte"),
        ("[8,16]", "[0,8]", "begins at byte"),
        ("[16,40]", "[20,44]", "begins at byte"),
        ("0.mean", "0.scale", "twice"),
        (#"0.mean"#, #"0.\u0073cale"#, "twice"),
        (#"{"__metadata__":"#, #"{"__metadata__":{},"__metadata__":"#, "__metadata__ twice"),
        (#""format":"pt""#, #""format":1"#, "string"),
        (#""format":"pt""#, #""pente":"{}""#, "pente twice"),
        (#""format":"pt""#, #""fo\x":"pt""#, "escape"),
        (#""format":"pt""#, #""fo\ud800":"pt""#, "escape"),
        ("\"format\"", "\"for\nmat\"", "control character"),
        ("}}", "}}}", "more than one"),
        ("}}", "},}", "string"),
        (#""0.mean""#, #"0.mean"#, "string"),
    ])
    func headers(_ pattern: String, _ replacement: String, _ words: String) throws {
        var parts = try parts()
        let range = try #require(
            parts.header.range(of: pattern, options: pattern == "}}" ? .backwards : []), "\(parts.header)")
        parts.header.replaceSubrange(range, with: replacement)
        try expectRefusal(of: parts.file(), words)
    }

    /// Bytes that are not UTF-8, in a name.
    @Test(arguments: [
        [0x80], [0xc3], [0xc0, 0xaf], [0xe0, 0x80, 0xaf], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xff],
    ])
    func encodings(_ bytes: [UInt8]) throws {
        let parts = try parts()
        let at = try #require(parts.header.range(of: "0.mean")).lowerBound.utf16Offset(in: parts.header)
        var header = Data(parts.header.utf8)
        header.insert(contentsOf: bytes, at: at)
        var file = parts.file(length: UInt64(header.count))
        file.replaceSubrange(8..<8 + parts.header.utf8.count, with: header)
        try expectRefusal(of: file, "UTF-8")
    }

    /// Edits of what the metadata say of the layer. Who loads parameters alone does not read it.
    @Test(arguments: [
        (#"\"type\":\"linear\""#, #"\"type\":\"bilinear\""#, "unknown type"),
        (#"\"type\":\"linear\","#, "", "unknown type"),
        (#"\"bias\":true"#, #"\"bias\":1"#, "true or false"),
        (#",\"bias\":true"#, "", "lacks an entry"),
        (#"\"bias\":true"#, #"\"bias\":true,\"seed\":1"#, "unknown entry"),
        (#"\"bias\":true"#, #"\"bias\":false"#, "1.bias, which the layer has not"),
        (#"\"in_features\":2"#, #"\"in_features\":-2"#, "whole number"),
        (#"\"in_features\":2"#, #"\"in_features\":2e0"#, "JSON"),
        (#"\"negative_slope\":0.01"#, #"\"negative_slope\":.01"#, "number"),
        (#"\"negative_slope\":0.01"#, #"\"negative_slope\":1e39"#, "negative_slope is 1e+39"),
        (#"\"negative_slope\":0.01"#, #"\"negative_slope\":NaN"#, "number"),
        (#"\"dtype\":\"float32\","#, "", "no dtype"),
        (#"\"dtype\":\"float32\""#, #"\"dtype\":\"float16\""#, "unknown dtype"),
        (#"\"dtype\":\"float32\""#, #"\"kind\":\"float32\""#, "unknown entry"),
        (#"{\"dtype\""#, #"[{\"dtype\""#, "object"),
        (#"]}}""#, #"]}} {}""#, "more than one value"),
        (#"]}}""#, #"]}""#, "JSON"),
        (#",\"layers\":["#, #",\"layers\":[],\"x\":["#, "unknown entry"),
        (
            #"{\"type\":\"leaky_relu\""#, #"{\"type\":\"chain\",\"layers\":[]},{\"type\":\"leaky_relu\""#,
            "layers is empty"
        ),
    ])
    func descriptions(_ pattern: String, _ replacement: String, _ words: String) throws {
        var parts = try parts()
        let range = try #require(parts.header.range(of: pattern), "\(parts.header)")
        parts.header.replaceSubrange(range, with: replacement)
        try expectRefusal(of: parts.file(), words, byLoadAlone: true)
    }

    @Test func descriptionsThatAskForOtherTensors() throws {
        for (pattern, replacement, code, words) in [
            ("in_features\\\":2", "in_features\\\":4", .shapeMismatch, "1.weight"),
            ("in_features\\\":2", "in_features\\\":1000000000000", .shapeMismatch, "1.weight"),
            ("features\\\":2}", "features\\\":9223372036854775807}", .shapeMismatch, "0.mean"),
            ("\\\"float32\\\"", "\\\"float64\\\"", .dtypeMismatch, "float32"),
        ] as [(String, String, PenteError.Code, String)] {
            var parts = try parts()
            let range = try #require(parts.header.range(of: pattern), "\(parts.header)")
            parts.header.replaceSubrange(range, with: replacement)
            try expectRefusal(of: parts.file(), words, byLoadAlone: true, code: code)
        }
    }

    /// As deep as chains nest, and one deeper; and as deep as would make a stack overflow, if nobody counted.
    @Test func depth() throws {
        func nested(_ depth: Int) -> FileParts {
            let open = String(repeating: #"{\"type\":\"chain\",\"layers\":["#, count: depth)
            let close = String(repeating: "]}", count: depth), linear = #"{\"type\":\"linear\",\"in_features\":1,"#
            let name = String(repeating: "0.", count: depth) + "weight"
            return FileParts(
                header: """
                    {"__metadata__":{"pente":"{\\"dtype\\":\\"float32\\",\\"layer\\":\(open)\(linear)\
                    \\"out_features\\":1,\\"bias\\":false}\(close)}"},\
                    "\(name)":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}
                    """, data: Data([0, 0, 0x80, 0x3f]))
        }
        try directory.write(nested(64).file())
        let deep = try Layer<Float>.load(from: directory.path())
        #expect(deep.parameters.count == 1 && deep.parameters[0].value.elements == [1])
        for (depth, words) in [(65, "deep"), (66, "deep"), (1000, "deep"), (20_000, "deep"), (200_000, "longer than")] {
            try directory.write(nested(depth).file())
            expectError(.invalidFile, words) { _ = try Layer<Float>.load(from: directory.path()) }
        }
    }

    private func errorCode(of body: () throws -> Void) -> PenteError.Code? {
        do {
            try body()
            return nil
        } catch {
            return (error as? PenteError)?.code
        }
    }
}

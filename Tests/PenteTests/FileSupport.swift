import Foundation
import Pente
import Testing

/// A directory that goes with the last reference to it.
final class TemporaryDirectory {
    let url = FileManager.default.temporaryDirectory.appending(path: "pente-tests-" + UUID().uuidString)

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false) }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String = "file.safetensors") -> String { url.appending(path: name).path(percentEncoded: false) }

    func read(_ name: String = "file.safetensors") throws -> Data { try Data(contentsOf: url.appending(path: name)) }

    func write(_ data: Data, _ name: String = "file.safetensors") throws {
        try data.write(to: url.appending(path: name))
    }

    var names: [String] { get throws { try FileManager.default.contentsOfDirectory(atPath: path("")).sorted() } }
}

/// A safetensors file, taken apart by Foundation.
struct FileParts {
    var header: String
    var data: Data

    init(header: String, data: Data) {
        self.header = header
        self.data = data
    }

    init(_ file: Data) {
        let length = file.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        header = String(decoding: file[8..<8 + length], as: UTF8.self)
        data = file[(8 + length)...]
    }

    /// With the length that the header has, or another.
    func file(length: UInt64? = nil) -> Data {
        let length = length ?? UInt64(header.utf8.count)
        return Data((0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }) + Data(header.utf8) + data
    }

    func object() throws -> [String: Any] { try jsonObject(header) }

    /// What "pente" in the metadata says.
    func description() throws -> [String: Any] {
        let metadata = try #require(object()["__metadata__"] as? [String: String])
        return try jsonObject(#require(metadata["pente"]))
    }

    private func jsonObject(_ text: String) throws -> [String: Any] {
        try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    }

    private func tensor<Value>(_ name: String, _ entry: String, as _: Value.Type = Value.self) throws -> Value {
        let tensor = try #require(object()[name] as? [String: Any], "\(name)")
        return try #require(tensor[entry] as? Value, "\(name)")
    }

    func shape(_ name: String) throws -> [Int] { try tensor(name, "shape") }

    func numbers<Element: Scalar>(_ name: String, as _: Element.Type = Element.self) throws -> [Element] {
        let offsets: [Int] = try tensor(name, "data_offsets"), size = MemoryLayout<Element>.size
        let bytes = [UInt8](data.dropFirst(offsets[0]).prefix(offsets[1] - offsets[0]))
        return stride(from: 0, to: bytes.count, by: size).map { offset in
            bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Element.self) }
        }
    }
}

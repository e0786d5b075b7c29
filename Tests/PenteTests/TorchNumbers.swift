import Foundation
import Pente

/// PyTorch's numbers: Tests/data/torch.safetensors, which Tests/torch/generate.py wrote and describes.
struct TorchNumbers: Sendable {
    struct Group: Decodable, Sendable {
        let lr: [Double]
        let momentum, dampening, weight_decay: Double
        let nesterov, maximize: Bool

        func options(step: Int) -> SGDOptions {
            SGDOptions(
                lr: lr[step], momentum: momentum, dampening: dampening, weightDecay: weight_decay, nesterov: nesterov,
                maximize: maximize)
        }
    }

    struct LayerShape: Decodable, Sendable {
        let n, p, group: Int
        let bias: Bool
    }

    /// A layer of a chain.
    struct Entry: Decodable, Sendable {
        let type: String
        let n, p: Int?
        let bias: Bool?
        let negative_slope: Double?
        let layers: [Entry]?
    }

    struct Case: Decodable, Sendable, CustomStringConvertible {
        let kind, name: String
        let q, n, p, steps, count: Int?
        let bias, weighted: Bool?
        let reduction, dtype, seed, function: String?
        let groups: [Group]?
        let layers: [LayerShape]?
        let architecture: [Entry]?
        let lr: [Double]?
        let momentum, dampening, weight_decay, negative_slope, max_norm: Double?
        let nesterov, maximize: Bool?

        var description: String { name }
        var isFloat: Bool { dtype == "float32" }
        /// The options of a case without groups.
        var group: Group {
            Group(
                lr: lr!, momentum: momentum!, dampening: dampening!, weight_decay: weight_decay!, nesterov: nesterov!,
                maximize: maximize!)
        }
        var seedNumber: UInt64 { UInt64(seed!)! }
    }

    struct Tensor: Decodable {
        let dtype: String
        let shape: [Int]
        let data_offsets: [Int]
    }

    static let shared = try! TorchNumbers()

    let cases: [Case]
    private let tensors: [String: Tensor]
    private let data: Data

    private init() throws {
        let file = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../data/torch.safetensors")
        let bytes = try Data(contentsOf: file)
        let length = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
        let header = bytes[8..<8 + length]
        let object = try JSONSerialization.jsonObject(with: header) as! [String: Any]
        let metadata = object["__metadata__"] as! [String: Any]
        cases = try JSONDecoder().decode([Case].self, from: Data((metadata["cases"] as! String).utf8))
        let described = object.filter { $0.key != "__metadata__" }
        tensors = try JSONDecoder().decode(
            [String: Tensor].self, from: JSONSerialization.data(withJSONObject: described))
        data = bytes[(8 + length)...]
    }

    static func cases(_ kind: String) -> [Case] { shared.cases.filter { $0.kind == kind } }

    private static func bytes(_ item: Case, _ role: String) -> (Tensor, Data) {
        let tensor = shared.tensors[item.name + "/" + role]!
        let start = shared.data.startIndex
        return (tensor, shared.data[start + tensor.data_offsets[0]..<start + tensor.data_offsets[1]])
    }

    static func has(_ item: Case, _ role: String) -> Bool { shared.tensors[item.name + "/" + role] != nil }

    static func numbers<Element: BitwiseCopyable>(_ item: Case, _ role: String, as _: Element.Type = Element.self)
        -> [Element]
    {
        let (_, bytes) = bytes(item, role)
        return stride(from: 0, to: bytes.count, by: MemoryLayout<Element>.size).map { offset in
            bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Element.self) }
        }
    }

    /// A tensor of one dimension is one row.
    static func matrix<Element: Scalar>(_ item: Case, _ role: String) throws -> Matrix<Element> {
        let shape = bytes(item, role).0.shape
        return try Matrix(
            rows: shape.count == 2 ? shape[0] : 1, columns: shape.last!, elements: numbers(item, role))
    }

    /// One step of a tensor that has a row of `rows` × `columns` numbers for each.
    static func step<Element: Scalar>(
        _ item: Case, _ role: String, _ step: Int, rows: Int, columns: Int
    ) throws -> Matrix<Element> {
        let all: [Element] = numbers(item, role)
        return try Matrix(
            rows: rows, columns: columns, elements: Array(all[step * rows * columns..<(step + 1) * rows * columns]))
    }
}

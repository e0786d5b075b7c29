import Foundation

/// The examples, which reference.c has too: quotients that are exact in float32.
struct Examples {
    let rows: Int
    let inputs: Int
    let outputs: Int

    var x: [Float] { (0..<rows * inputs).map { Float((($0 / inputs) * 7 + ($0 % inputs) * 5) % 13) / 8 - 0.75 } }
    var y: [Float] { (0..<rows * outputs).map { Float((($0 / outputs) * 3 + ($0 % outputs) * 11) % 17) / 16 } }

    static let few = Examples(rows: 64, inputs: 5, outputs: 3)
    /// Enough work for more than one thread.
    static let many = Examples(rows: 2048, inputs: 64, outputs: 64)
}

/// A line of the result: numbers as their bits.
func line(_ name: String, _ values: [Float]) -> String {
    name + values.map { String(format: " %08x", $0.bitPattern) }.joined()
}

func line(_ name: String, _ values: [Double]) -> String {
    name + values.map { String(format: " %016lx", $0.bitPattern) }.joined()
}

import Pente

/// What is to be timed: a task on q rows of widths[0] columns, in a table of `stride` columns.
struct Job {
    let task: String
    let isFloat64: Bool
    let q: Int
    let stride: Int
    let batch: Int
    let lr: Double
    let widths: [Int]

    init?(_ words: [Substring]) {
        let numbers = words.dropFirst(2).compactMap { Double($0) }
        guard words.count >= 8, numbers.count == words.count - 2 else { return nil }
        task = String(words[0])
        isFloat64 = words[1] == "float64"
        (q, stride, batch, lr) = (Int(numbers[0]), Int(numbers[1]), Int(numbers[2]), numbers[3])
        widths = numbers.dropFirst(4).map { Int($0) }
    }
}

struct Refused: Error {
    let reason: String
}

/// The numbers that all contenders train on.
func pattern<Element: Scalar>(_ rows: Int, _ columns: Int, phase: Int, scale: Double = 1) throws -> Matrix<Element> {
    let period = 1000
    let values = (0..<period).map { Element((Double(($0 + phase) * 7919 % period) / Double(period) - 0.5) * scale) }
    let elements = [Element](unsafeUninitializedCapacity: rows * columns) { buffer, count in
        var i = 0
        while i < buffer.count {
            buffer[i] = values[i % period]
            i += 1
        }
        count = rows * columns
    }
    return try Matrix(rows: rows, columns: columns, elements: elements)
}

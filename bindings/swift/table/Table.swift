import Foundation
import Pente

/// Standardised features and targets of a CSV file: every column has mean 0 and variance 1.
public struct Table {
    public let x: Matrix<Float>
    public let y: Matrix<Float>

    public struct Malformed: Error, CustomStringConvertible {
        public let description: String
    }

    /// Reads a header line and then lines of numbers, whose last `targets` columns are the targets.
    public init(path: String, targets: Int) throws {
        let text = try String(contentsOfFile: path, encoding: .utf8)
        let lines = text.split(whereSeparator: \.isNewline)
        let columns = lines.first?.split(separator: ",", omittingEmptySubsequences: false).count ?? 0
        guard targets >= 1, targets < columns else {
            throw Malformed(description: "\(path):1: there must be at least one target, and a feature before it")
        }
        var rows: [[Double]] = []
        for (number, line) in lines.enumerated().dropFirst() {
            let row = line.split(separator: ",", omittingEmptySubsequences: false).compactMap { Double($0) }
            guard row.count == columns, row.allSatisfy(\.isFinite) else {
                throw Malformed(description: "\(path):\(number + 1): \(columns) numbers were expected")
            }
            rows.append(row)
        }
        for column in 0..<columns { Table.standardise(&rows, column) }
        let features = columns - targets
        x = try Matrix(
            rows: rows.count, columns: features, elements: rows.flatMap { $0[..<features].map { Float($0) } })
        y = try Matrix(rows: rows.count, columns: targets, elements: rows.flatMap { $0[features...].map { Float($0) } })
    }

    /// Plain sums in the rows' order, so that every language gets the same bits.
    private static func standardise(_ rows: inout [[Double]], _ column: Int) {
        var sum = 0.0
        var squares = 0.0
        for row in rows { sum += row[column] }
        let mean = sum / Double(rows.count)
        for row in rows { squares += (row[column] - mean) * (row[column] - mean) }
        let deviation = (squares / Double(rows.count)).squareRoot()
        for i in rows.indices { rows[i][column] = (rows[i][column] - mean) / deviation }
    }
}

/// Writes losses and parameters as text that reads back to the same bits.
public func writeResult(path: String, losses: [Double], layer: Linear<Float>) throws {
    var text = ""
    for (i, loss) in losses.enumerated() { text += "loss \(i + 1) \(String(format: "%.17g", loss))\n" }
    let weight = layer.weight
    for i in 0..<weight.rows {
        for j in 0..<weight.columns { text += "weight \(i) \(j) \(String(format: "%.9g", weight[i, j]))\n" }
    }
    if let bias = layer.bias {
        for j in 0..<bias.columns { text += "bias \(j) \(String(format: "%.9g", bias[0, j]))\n" }
    }
    try text.write(toFile: path, atomically: true, encoding: .utf8)
}

/// Runs a program's body on its arguments, DATA.csv TARGET_COUNT [RESULT_FILE], and says what goes wrong.
public func runProgram(_ body: (Table, _ resultPath: String?) throws -> Void) -> Never {
    let arguments = CommandLine.arguments
    guard (3...4).contains(arguments.count), let targets = Int(arguments[2]) else {
        fail("usage: \(arguments[0]) DATA.csv TARGET_COUNT [RESULT_FILE]", status: 2)
    }
    do {
        try body(Table(path: arguments[1], targets: targets), arguments.count == 4 ? arguments[3] : nil)
    } catch {
        fail("\(arguments[0]): \(error)", status: 1)
    }
    exit(0)
}

private func fail(_ message: String, status: Int32) -> Never {
    FileHandle.standardError.write(Data((message + "\n").utf8))
    exit(status)
}

/// A line every twenty epochs.
public func show(epoch: Int, of epochs: Int, loss: Double) {
    if epoch % 20 == 0 { print(String(format: "epoch %3d/%d  loss %.6f", epoch, epochs, loss)) }
}

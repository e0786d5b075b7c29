import Foundation
import Pente

/// What is wrong with a file.
public struct Malformed: Error, CustomStringConvertible {
    /// As "data.csv:7: 4 numbers were expected".
    public let description: String

    /// An error of that description.
    public init(_ description: String) { self.description = description }
}

/// The numbers of a CSV file, row by row, without its header.
public func readRows(path: String) throws -> [[Double]] {
    let text = try String(contentsOfFile: path, encoding: .utf8)
    let lines = text.split(whereSeparator: \.isNewline)
    let columns = lines.first?.split(separator: ",", omittingEmptySubsequences: false).count ?? 0
    let rows = try lines.enumerated().dropFirst().map { number, line in
        let row = line.split(separator: ",", omittingEmptySubsequences: false).compactMap { Double($0) }
        guard row.count == columns, row.allSatisfy(\.isFinite) else {
            throw Malformed("\(path):\(number + 1): \(columns) numbers were expected")
        }
        return row
    }
    if rows.isEmpty { throw Malformed("\(path):2: no rows") }
    return rows
}

/// Standardised features and targets of a CSV file: every column has mean 0 and variance 1.
public struct Table {
    /// A row an example, a column a feature.
    public let x: Matrix<Float>
    /// A row an example, a column a target.
    public let y: Matrix<Float>

    /// The last `targets` columns are the targets.
    public init(path: String, targets: Int) throws {
        var rows = try readRows(path: path)
        let columns = rows[0].count
        guard targets >= 1, targets < columns else {
            throw Malformed("\(path):1: there must be at least one target, and a feature before it")
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

/// Writes lists of numbers and the layer's parameters as text that reads back to the same bits.
public func writeResult<Element: Scalar>(
    path: String, measured: KeyValuePairs<String, [Double]>, layer: Layer<Element>
) throws {
    let format = Element.self == Float.self ? "%.9g" : "%.17g"
    var text = ""
    for (name, values) in measured {
        for (i, value) in values.enumerated() { text += "\(name) \(i + 1) \(String(format: "%.17g", value))\n" }
    }
    for parameter in layer.parameters {
        let value = parameter.value
        for i in 0..<value.rows {
            for j in 0..<value.columns {
                text += "\(parameter.name) \(i) \(j) \(String(format: format, Double(value[i, j])))\n"
            }
        }
    }
    try text.write(toFile: path, atomically: false, encoding: .utf8)
}

/// Runs a program's body on its arguments, DATA.csv TARGET_COUNT [RESULT_FILE], and says what goes wrong.
public func runProgram(_ body: (Table, _ resultPath: String?) throws -> Void) -> Never {
    runProgram(usage: "DATA.csv TARGET_COUNT [RESULT_FILE]") { arguments in
        guard (2...3).contains(arguments.count), let targets = Int(arguments[1]) else { return false }
        try body(Table(path: arguments[0], targets: targets), arguments.count == 3 ? arguments[2] : nil)
        return true
    }
}

/// Runs a program's body, which returns false if the arguments are not as they should be, and says what goes wrong.
public func runProgram(usage: String, _ body: (_ arguments: [String]) throws -> Bool) -> Never {
    let program = CommandLine.arguments[0]
    do {
        if try body(Array(CommandLine.arguments.dropFirst())) { exit(0) }
    } catch {
        fail("\(program): \(error)", status: 1)
    }
    fail("usage: \(program) \(usage)", status: 2)
}

private func fail(_ message: String, status: Int32) -> Never {
    FileHandle.standardError.write(Data((message + "\n").utf8))
    exit(status)
}

/// A line every twenty epochs.
public func show(epoch: Int, of epochs: Int, loss: Double) {
    if epoch % 20 == 0 { print(String(format: "epoch %3d/%d  loss %.6f", epoch, epochs, loss)) }
}

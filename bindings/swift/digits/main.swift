// Trains a chain of layers to read handwritten digits, with Trainer.fit, and saves it.
// digits-swift DATA.csv float32|float64 RESULT_FILE MODEL.safetensors [EPOCHS]

import ExampleTable
import Foundation
import Pente

runProgram(usage: "DATA.csv float32|float64 RESULT_FILE MODEL.safetensors [EPOCHS]") { arguments in
    guard (4...5).contains(arguments.count), let epochs = Int(arguments.count == 5 ? arguments[4] : "30") else {
        return false
    }
    switch arguments[1] {
    case "float32": try run(Float.self, arguments, epochs: epochs)
    case "float64": try run(Double.self, arguments, epochs: epochs)
    default: return false
    }
    return true
}

func run<Element: Scalar>(_: Element.Type, _ arguments: [String], epochs: Int) throws {
    let (training, test) = try readImages(path: arguments[0], of: Element.self)
    let relu = try Activation<Element>(.relu)
    let chain = try Chain([
        Linear(inputs: training.x.columns, outputs: 64), relu,
        Linear(inputs: 64, outputs: 32), relu,
        Linear(inputs: 32, outputs: 10),
    ])
    chain.resetParameters(seed: 0)  // one seed for all of them
    let sgd = try SGD([chain], options: SGDOptions(lr: 0.2, momentum: 0.9))
    let trainer = try Trainer(layer: chain, mse: MSE(), sgd: sgd)
    let options = FitOptions(epochs: epochs, batchSize: 32, shuffle: true, seed: 0)
    let report = try trainer.fit(training.x, training.y, validation: test, options: options) { epoch in
        print(
            String(
                format: "epoch %3d/%d  loss %.6f  validation %.6f", epoch.epoch, epoch.epochs, epoch.trainingLoss,
                epoch.validationLoss))
        return false
    }

    let prediction = try chain.forward(test.x)
    let right = (0..<test.y.rows).count { prediction.largest(inRow: $0) == test.y.largest(inRow: $0) }
    let accuracy = Double(right) / Double(test.y.rows)
    print(String(format: "test accuracy %.4f", accuracy))
    try chain.save(to: arguments[3])
    try writeResult(
        path: arguments[2],
        measured: [
            "loss": report.trainingLosses, "validation_loss": report.validationLosses, "accuracy": [accuracy],
        ], layer: chain)
}

/// Images and a column of y for each digit: 1 for the one that it is, else 0.
typealias Images<Element: Scalar> = (x: Matrix<Element>, y: Matrix<Element>)

/// The rows to train on, and every fifth, to test with.
func readImages<Element: Scalar>(
    path: String, of _: Element.Type
) throws -> (training: Images<Element>, test: Images<Element>) {
    let rows = try readRows(path: path)
    if let wrong = rows.firstIndex(where: { row in !(0..<10).contains { Double($0) == row.last } }) {
        throw Malformed("\(path):\(wrong + 2): the last column must be a digit")
    }
    func images(_ indices: [Int]) throws -> Images<Element> {
        let x = indices.flatMap { rows[$0].dropLast().map { pixel in Element(pixel / 16) } }
        let y = indices.flatMap { i in (0..<10).map { Double($0) == rows[i].last ? 1 : 0 as Element } }
        return try (
            Matrix(rows: indices.count, columns: rows[0].count - 1, elements: x),
            Matrix(rows: indices.count, columns: 10, elements: y)
        )
    }
    return try (images(rows.indices.filter { $0 % 5 != 4 }), images(rows.indices.filter { $0 % 5 == 4 }))
}

extension Matrix {
    /// The column of the row's largest element.
    func largest(inRow row: Int) -> Int {
        (0..<columns).reduce(0) { self[row, $1] > self[row, $0] ? $1 : $0 }
    }
}

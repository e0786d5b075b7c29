// Trains a linear model on a CSV file with Trainer.fit: train-swift DATA.csv TARGET_COUNT [RESULT_FILE]

import ExampleTable
import Pente

runProgram { table, resultPath in
    let layer = try Linear<Float>(inputs: table.x.columns, outputs: table.y.columns)
    let sgd = try SGD([layer], options: SGDOptions(lr: 0.01, momentum: 0.9))
    let trainer = try Trainer(layer: layer, mse: MSE(), sgd: sgd)
    let options = FitOptions(epochs: 200, batchSize: 32, shuffle: true, seed: 0)
    let report = try trainer.fit(table.x, table.y, options: options) { epoch in
        show(epoch: epoch.epoch, of: epoch.epochs, loss: epoch.trainingLoss)
        return false
    }
    if let resultPath { try writeResult(path: resultPath, measured: ["loss": report.trainingLosses], layer: layer) }
}

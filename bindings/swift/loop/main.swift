// Trains a linear model on a CSV file, with the training loop written out: every step on all rows at once.
// loop-swift DATA.csv TARGET_COUNT [RESULT_FILE]

import ExampleTable
import Pente

let epochs = 200

runProgram { table, resultPath in
    let (x, y) = (table.x, table.y)
    let layer = try Linear<Float>(inputs: x.columns, outputs: y.columns)
    let mse = MSE()
    let sgd = try SGD([layer], options: SGDOptions(lr: 0.01, momentum: 0.9))
    let context = Context<Float>()
    var losses: [Double] = []

    // README: begin
    for epoch in 1...epochs {
        sgd.zeroGradients()
        let prediction = try layer.forward(x, context: context)
        let loss = try mse.forward(prediction, y)
        try layer.backward(mse.backward(prediction, y).prediction, context: context)
        try sgd.step()
        losses.append(loss)
        show(epoch: epoch, of: epochs, loss: loss)
    }
    // README: end

    if let resultPath { try writeResult(path: resultPath, measured: ["loss": losses], layer: layer) }
}

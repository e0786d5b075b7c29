import Pente

/// The job, by the Swift package.
func runWithPackage(saving path: String) throws(PenteError) -> [String] {
    try trainLinear() + trainChain(saving: path) + trainOnThreads()
}

private func matrices(_ examples: Examples) throws(PenteError) -> (x: Matrix<Float>, y: Matrix<Float>) {
    (
        try Matrix(rows: examples.rows, columns: examples.inputs, elements: examples.x),
        try Matrix(rows: examples.rows, columns: examples.outputs, elements: examples.y)
    )
}

private func trainLinear() throws(PenteError) -> [String] {
    let (x, y) = try matrices(.few)
    let layer = try Linear<Float>(inputs: x.columns, outputs: y.columns, seed: 1)
    let trainer = try Trainer(layer: layer, sgd: SGD([layer], options: SGDOptions(lr: 0.05, momentum: 0.9)))
    let report = try trainer.fit(x, y, options: FitOptions(epochs: 5, batchSize: 16, seed: 2))
    return [
        line("linear losses", report.trainingLosses), line("linear weight", layer.weight.elements),
        line("linear bias", layer.bias!.elements),
    ]
}

private func trainChain(saving path: String) throws(PenteError) -> [String] {
    let (x, y) = try matrices(.few)
    let chain = try Chain<Float>([
        Linear(inputs: x.columns, outputs: 8), Activation(.tanh), Linear(inputs: 8, outputs: y.columns),
    ])
    chain.resetParameters(seed: 3)
    let mse = MSE()
    let sgd = try SGD([chain], options: SGDOptions(lr: 0.1))
    let context = Context<Float>()
    var losses: [Double] = []
    for _ in 0..<10 {
        sgd.zeroGradients()
        let prediction = try chain.forward(x, context: context)
        losses.append(try mse.forward(prediction, y))
        try chain.backward(mse.backward(prediction, y).prediction, context: context)
        try sgd.step()
    }
    try chain.save(to: path)
    let loaded = try Layer<Float>.load(from: path)
    return try [
        line("chain losses", losses), line("chain predicts", chain.forward(x).elements),
        line("loaded predicts", loaded.forward(x).elements), refusal(of: y, by: chain),
    ]
}

/// The error as a user of the package meets it, by its type.
private func refusal(of x: Matrix<Float>, by layer: Layer<Float>) -> String {
    do {
        _ = try layer.forward(x)
        return "no error"
    } catch {
        return "error \(error.code.rawValue) \(error)"
    }
}

private func trainOnThreads() throws(PenteError) -> [String] {
    let (x, y) = try matrices(.many)
    let layer = try Linear<Float>(inputs: x.columns, outputs: y.columns, seed: 4)
    let trainer = try Trainer(layer: layer, sgd: SGD([layer], options: SGDOptions(lr: 0.1)))
    var losses: [Double] = []
    for _ in 0..<2 { losses.append(try trainer.step(x, y)) }
    return [line("many losses", losses)]
}

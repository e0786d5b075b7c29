import Pente

/// What a job asks for: a call to be timed, and a number that all contenders must agree on after two calls.
struct Work {
    let call: () throws -> Void
    let check: (() throws -> Double)?
}

func makeWork<Element: Scalar>(_ job: Job, _: Element.Type) throws -> Work {
    let (n, p) = (job.widths[0], job.widths[job.widths.count - 1])
    let x: Matrix<Element> = try pattern(job.q, job.stride, phase: 0).columns(0..<n)
    let y: Matrix<Element> = try pattern(job.q, p, phase: 1)
    let layer: Layer<Element> = try network(job)
    let (mse, sgd) = (MSE(), try SGD([layer], options: SGDOptions(lr: job.lr)))
    let trainer = try Trainer(layer: layer, mse: mse, sgd: sgd)
    var loss = 0.0
    switch job.task {
    case "step":
        return Work(call: { loss = try trainer.step(x, y) }, check: { loss })
    case "forward":
        return Work(
            call: { _ = try layer.forward(x) },
            check: { try mse.forward(layer.forward(x), Matrix(rows: job.q, columns: p)) })
    case "gradx":
        let context = Context<Element>()
        let call = {
            sgd.zeroGradients()
            let prediction = try layer.forward(x, context: context)
            loss = try mse.forward(prediction, y)
            try layer.backward(mse.backward(prediction, y).prediction, context: context)
            try sgd.step()
        }
        return Work(call: call, check: { loss })
    case "fit":
        let options = FitOptions(epochs: 1, batchSize: job.batch, shuffle: true, seed: 0)
        return Work(call: { _ = try trainer.fit(x, y, options: options) }, check: nil)
    default:
        throw Refused(reason: "no such task")
    }
}

private func network<Element: Scalar>(_ job: Job) throws -> Layer<Element> {
    let relu = try Activation<Element>(.relu)
    var layers: [Layer<Element>] = []
    for i in 0..<job.widths.count - 1 {
        let (n, p) = (job.widths[i], job.widths[i + 1])
        let linear = try Linear<Element>(inputs: n, outputs: p)
        try linear.parameter(named: "weight")!.setValue(pattern(p, n, phase: 2 + i, scale: 1 / Double(n).squareRoot()))
        try linear.parameter(named: "bias")!.setValue(Matrix(rows: 1, columns: p))
        if i > 0 { layers.append(relu) }
        layers.append(linear)
    }
    return layers.count == 1 ? layers[0] : try Chain(layers)
}

import CPente

/// The same job, by the shared library.
func runWithLibrary(saving path: String) throws -> [String] {
    try trainLinear() + trainChain(saving: path) + trainOnThreads()
}

/// A call that the library refused.
struct Refusal: Error, CustomStringConvertible {
    let status: pente_status
    let description = String(cString: pente_last_error())
}

private func check(_ status: pente_status) throws {
    if status != PENTE_OK { throw Refusal(status: status) }
}

/// The handle that a call makes.
private func make(_ new: (UnsafeMutablePointer<OpaquePointer?>) -> pente_status) throws -> OpaquePointer {
    var handle: OpaquePointer?
    try check(new(&handle))
    return handle!
}

/// Numbers in memory that stays where it is, as the library sees them.
private final class Numbers {
    var view: pente_matrix
    private let memory: UnsafeMutableBufferPointer<Float>

    init(_ values: [Float], rows: Int) {
        memory = .allocate(capacity: values.count)
        _ = memory.initialize(from: values)
        view = pente_float32_matrix(memory.baseAddress!, Int64(rows), Int64(values.count / rows))
    }

    convenience init(rows: Int, columns: Int) {
        self.init([Float](repeating: 0, count: rows * columns), rows: rows)
    }

    deinit { memory.deallocate() }

    var values: [Float] { Array(memory) }
}

private func matrices(_ examples: Examples) -> (x: Numbers, y: Numbers) {
    (Numbers(examples.x, rows: examples.rows), Numbers(examples.y, rows: examples.rows))
}

private func makeLinear(inputs: Int, outputs: Int, seed: UInt64 = 0) throws -> OpaquePointer {
    var options = pente_linear_options(
        struct_size: MemoryLayout<pente_linear_options>.size, dtype: pente_dtype(PENTE_FLOAT32), bias: 1, seed: seed)
    return try make { pente_linear_new(Int64(inputs), Int64(outputs), &options, $0) }
}

private func makeSGD(_ layer: OpaquePointer, lr: Double, momentum: Double = 0) throws -> OpaquePointer {
    var options = pente_sgd_options(
        struct_size: MemoryLayout<pente_sgd_options>.size, lr: lr, momentum: momentum, dampening: 0, weight_decay: 0,
        nesterov: 0, maximize: 0)
    var layers: [OpaquePointer?] = [layer]
    return try make { pente_sgd_new(&layers, 1, &options, $0) }
}

private func parameter(_ name: String, of layer: OpaquePointer, rows: Int, columns: Int) throws -> [Float] {
    let value = Numbers(rows: rows, columns: columns)
    try check(pente_layer_get_parameter(layer, name, &value.view))
    return value.values
}

private func trainLinear() throws -> [String] {
    let examples = Examples.few
    let (x, y) = matrices(examples)
    let layer = try makeLinear(inputs: examples.inputs, outputs: examples.outputs, seed: 1)
    let mse = try make { pente_mse_new(nil, $0) }
    let sgd = try makeSGD(layer, lr: 0.05, momentum: 0.9)
    let trainer = try make { pente_trainer_new(layer, mse, sgd, $0) }
    var losses = [Double](repeating: 0, count: 5)
    try losses.withUnsafeMutableBufferPointer { losses in
        var options = pente_fit_options()
        options.struct_size = MemoryLayout<pente_fit_options>.size
        (options.epochs, options.batch_size, options.shuffle, options.seed) = (5, 16, 1, 2)
        options.training_losses = losses.baseAddress
        try check(pente_trainer_fit(trainer, &x.view, &y.view, &options, nil))
    }
    let weight = try parameter("weight", of: layer, rows: examples.outputs, columns: examples.inputs)
    let bias = try parameter("bias", of: layer, rows: 1, columns: examples.outputs)
    try check(pente_trainer_free(trainer))
    try check(pente_sgd_free(sgd))
    try check(pente_mse_free(mse))
    try check(pente_layer_free(layer))
    return [line("linear losses", losses), line("linear weight", weight), line("linear bias", bias)]
}

private func trainChain(saving path: String) throws -> [String] {
    let examples = Examples.few
    let (x, y) = matrices(examples)
    let (prediction, gradient) = (
        Numbers(rows: examples.rows, columns: examples.outputs), Numbers(rows: examples.rows, columns: examples.outputs)
    )
    var layers: [OpaquePointer?] = [
        try makeLinear(inputs: examples.inputs, outputs: 8),
        try make { pente_activation_new(pente_activation(PENTE_TANH), nil, $0) },
        try makeLinear(inputs: 8, outputs: examples.outputs),
    ]
    let chain = try make { pente_chain_new(&layers, 3, $0) }
    for layer in layers { try check(pente_layer_free(layer)) }
    try check(pente_layer_reset_parameters(chain, 3))
    let mse = try make { pente_mse_new(nil, $0) }
    let sgd = try makeSGD(chain, lr: 0.1)
    let context = try make { pente_context_new(chain, $0) }
    var losses: [Double] = []
    for _ in 0..<10 {
        var loss = 0.0
        try check(pente_sgd_zero_gradients(sgd))
        try check(pente_layer_forward(chain, context, &x.view, &prediction.view))
        try check(pente_mse_forward(mse, &prediction.view, &y.view, nil, &loss))
        try check(pente_mse_backward(mse, &prediction.view, &y.view, nil, nil, &gradient.view, nil))
        try check(pente_layer_backward(chain, context, &gradient.view, nil))
        try check(pente_sgd_step(sgd))
        losses.append(loss)
    }
    try check(pente_layer_save(chain, nil, path))
    let loaded = try make { pente_layer_load(path, $0) }
    var result = [line("chain losses", losses)]
    for (name, layer) in [("chain", chain), ("loaded", loaded)] {
        try check(pente_layer_forward(layer, nil, &x.view, &prediction.view))
        result.append(line("\(name) predicts", prediction.values))
    }
    do {
        try check(pente_layer_forward(chain, nil, &y.view, &prediction.view))
    } catch let error as Refusal {
        result.append("error \(error.status) \(error.description.dropFirst("pente_layer_forward: ".count))")
    }
    try check(pente_context_free(context))
    try check(pente_sgd_free(sgd))
    try check(pente_mse_free(mse))
    for layer in [chain, loaded] { try check(pente_layer_free(layer)) }
    return result
}

private func trainOnThreads() throws -> [String] {
    let examples = Examples.many
    let (x, y) = matrices(examples)
    let layer = try makeLinear(inputs: examples.inputs, outputs: examples.outputs, seed: 4)
    let mse = try make { pente_mse_new(nil, $0) }
    let sgd = try makeSGD(layer, lr: 0.1)
    let trainer = try make { pente_trainer_new(layer, mse, sgd, $0) }
    var losses = [0.0, 0.0]
    for i in losses.indices { try check(pente_trainer_step(trainer, &x.view, &y.view, nil, &losses[i])) }
    try check(pente_trainer_free(trainer))
    try check(pente_sgd_free(sgd))
    try check(pente_mse_free(mse))
    try check(pente_layer_free(layer))
    return [line("many losses", losses)]
}

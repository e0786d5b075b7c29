import Pente
import Testing

@Suite struct LayerTests {
    @Test func gradientsAccumulateUntilZeroed() throws {
        let layer = try Linear<Double>(inputs: 5, outputs: 3)
        let context = Context<Double>()
        let x: Matrix<Double> = try random(7, 5, seed: 1), gradOutput: Matrix<Double> = try random(7, 3, seed: 2)
        _ = try layer.forward(x, context: context)
        try layer.backward(gradOutput, context: context)
        let once = layer.parameters.map(\.gradient)
        _ = try layer.forward(x, context: context)
        try layer.backward(gradOutput, context: context)
        for (parameter, once) in zip(layer.parameters, once) {
            #expect(parameter.gradient.elements == once.elements.map { $0 + $0 })
        }
        layer.zeroGradients()
        for parameter in layer.parameters { #expect(parameter.gradient.elements.allSatisfy { $0 == 0 }) }
    }

    @Test func aBlockOfColumnsNeedsNoCopy() throws {
        let table: Matrix<Float> = try random(100, 12, seed: 3)
        let block = try table.columns(3..<10)
        let copy = try Matrix(rows: 100, columns: 7, elements: block.elements)
        #expect(block == copy && block[5, 2] == table[5, 5])
        let layer = try Linear<Float>(inputs: 7, outputs: 4)
        #expect(try layer.forward(block).isIdentical(layer.forward(copy)))
    }

    @Test func aRowsResultDependsOnThatRowAlone() throws {
        let layer = try Linear<Float>(inputs: 37, outputs: 11)
        let x: Matrix<Float> = try random(50, 37, seed: 4)
        let y = try layer.forward(x)
        for i in 0..<50 {
            let row = try Matrix(rows: 1, columns: 37, elements: Array(x.elements[i * 37..<(i + 1) * 37]))
            #expect(try layer.forward(row).elements == Array(y.elements[i * 11..<(i + 1) * 11]))
        }
    }

    /// A million rows in float32, where one running sum would be a percent off.
    @Test func longSumsLoseNoPrecision() throws {
        let rows = 1 << 20
        let layer = try Linear<Float>(inputs: 1, outputs: 1)
        let context = Context<Float>()
        let x = try Matrix<Float>(rows: rows, columns: 1, repeating: 0.1)
        _ = try layer.forward(x, context: context)
        try layer.backward(Matrix(rows: rows, columns: 1, repeating: 0.1), context: context)
        let expected = Double(rows) * Double(Float(0.1)) * Double(Float(0.1))
        #expect(abs(Double(layer.parameters[0].gradient[0, 0]) / expected - 1) < 5e-6)
        #expect(abs(Double(layer.parameters[1].gradient[0, 0]) / (Double(rows) * Double(Float(0.1))) - 1) < 1e-6)
    }

    /// As the README shows it.
    @Test func anErrorAsItIsSeen() throws {
        let layer = try Linear<Float>(inputs: 10, outputs: 1)
        var shown = ""
        func print(_ error: PenteError) { shown = "\(error)" }
        do {
            let x = try Matrix<Float>(rows: 32, columns: 7, repeating: 0)
            _ = try layer.forward(x)
        } catch {
            print(error)
        }
        #expect(shown == "x is 32×7, but the layer takes 10 columns")
    }

    @Test func matricesAreValues() throws {
        var a = try Matrix<Float>(rows: 2, columns: 2, elements: [1, 2, 3, 4])
        let b = a
        a[0, 1] = 5
        #expect(b.elements == [1, 2, 3, 4] && a.elements == [1, 5, 3, 4])
    }
}

@Suite struct RefusalTests {
    let layer: Linear<Float>
    let x: Matrix<Float>

    init() throws {
        layer = try Linear(inputs: 3, outputs: 2)
        x = try random(4, 3, seed: 1)
    }

    @Test func shapes() throws {
        let wide: Matrix<Float> = try random(4, 5, seed: 2)
        expectError(.shapeMismatch, "x", "4×5", "3") { _ = try layer.forward(wide) }
        expectError(.shapeMismatch, "target", "4×5", "4×3") { _ = try MSE().forward(x, wide) }
        expectError(.shapeMismatch, "sample_weight", "4×5", "4×1") { _ = try MSE().forward(x, x, sampleWeight: wide) }
        expectError(.shapeMismatch, "grad_output", "4×5", "1×1") { _ = try MSE().backward(x, x, upstream: wide) }
        expectError(.shapeMismatch, "elements", "3", "2×2") {
            _ = try Matrix<Float>(rows: 2, columns: 2, elements: [1, 2, 3])
        }
        expectError(.shapeMismatch, "value", "4×5", "weight", "2×3") { try layer.parameters[0].setValue(wide) }
        let sgd = try SGD([layer])
        let trainer = try Trainer(layer: layer, sgd: sgd)
        expectError(.shapeMismatch, "y", "4×5", "4×2") { try trainer.step(x, wide) }
        expectError(.shapeMismatch, "validation_x", "4×5") {
            try trainer.fit(x, Matrix(rows: 4, columns: 2), validation: (wide, wide))
        }
    }

    @Test func sizes() throws {
        expectError(.invalidArgument, "in_features", "0") { _ = try Linear<Float>(inputs: 0, outputs: 1) }
        expectError(.invalidArgument, "out_features", "-1") { _ = try Linear<Float>(inputs: 1, outputs: -1) }
        expectError(.invalidArgument, "0×3") { _ = try Matrix<Float>(rows: 0, columns: 3) }
        expectError(.outOfMemory) { _ = try Linear<Float>(inputs: .max, outputs: 2) }
        expectError(.invalidArgument, "2..<4", "0..<3") { _ = try x.columns(2..<4) }
    }

    @Test func states() throws {
        let context = Context<Float>()
        let gradOutput: Matrix<Float> = try random(4, 2, seed: 3)
        expectError(.invalidState) { try layer.backward(gradOutput, context: context) }
        _ = try layer.forward(x, context: context)
        let short: Matrix<Float> = try random(3, 2, seed: 3)
        expectError(.shapeMismatch, "3×2", "4×2") { try layer.backward(short, context: context) }
        try layer.backward(gradOutput, context: context)
        expectError(.invalidState) { try layer.backward(gradOutput, context: context) }
    }

    @Test func options() throws {
        for lr in [-1, Double.nan, .infinity] {
            expectError(.invalidArgument, "lr") { _ = try SGD([layer], options: SGDOptions(lr: lr)) }
        }
        for momentum in [-0.5, Double.nan] {
            expectError(.invalidArgument, "momentum") { _ = try SGD([layer], options: SGDOptions(momentum: momentum)) }
        }
        expectError(.invalidArgument, "dampening") { _ = try SGD([layer], options: SGDOptions(dampening: .nan)) }
        expectError(.invalidArgument, "weight_decay") { _ = try SGD([layer], options: SGDOptions(weightDecay: -1)) }
        expectError(.invalidArgument, "nesterov") { _ = try SGD([layer], options: SGDOptions(nesterov: true)) }
        expectError(.invalidArgument, "nesterov") {
            _ = try SGD([layer], options: SGDOptions(momentum: 0.9, dampening: 0.1, nesterov: true))
        }
        expectError(.invalidArgument, "layers") { _ = try SGD<Float>([]) }
        expectError(.invalidArgument, "layers[1]") { _ = try SGD([layer, layer]) }
        let sgd = try SGD([layer])
        expectError(.invalidArgument, "layers[0]") { try sgd.addGroup([layer]) }
        expectError(.invalidArgument, "group", "1") { try sgd.setOptions(SGDOptions(), group: 1) }
        expectError(.invalidArgument, "sgd") { _ = try Trainer(layer: Linear(inputs: 3, outputs: 2), sgd: sgd) }
        expectError(.invalidArgument, "none") { _ = try Trainer(layer: layer, mse: MSE(reduction: .none), sgd: sgd) }
        let trainer = try Trainer(layer: layer, sgd: sgd)
        let y: Matrix<Float> = try random(4, 2, seed: 5)
        for (options, word) in [
            (FitOptions(epochs: 0), "epochs"), (FitOptions(batchSize: 0), "batch_size"),
            (FitOptions(patience: -1), "patience"), (FitOptions(patience: 1), "patience"),
            (FitOptions(minDelta: .nan), "min_delta"),
        ] {
            expectError(.invalidArgument, word) { try trainer.fit(x, y, options: options) }
        }
    }

    @Test func weights() throws {
        let y: Matrix<Float> = try random(4, 3, seed: 5)
        for (weights, word) in [
            ([1, -1, 1, 1], "sample_weight[1]"), ([1, 1, .nan, 1], "sample_weight[2]"), ([0, 0, 0, 0], "zeros"),
        ] as [([Float], String)] {
            expectError(.invalidArgument, word) {
                _ = try MSE().forward(x, y, sampleWeight: Matrix(rows: 4, columns: 1, elements: weights))
            }
        }
    }
}

import Pente
import Testing

/// Pente beside PyTorch's committed numbers: bit for bit where that is promised.
@Suite struct TorchTests {
    @Test(arguments: TorchNumbers.cases("init"))
    func initialWeights(_ item: TorchNumbers.Case) throws {
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let layer = try Linear<Element>(inputs: item.n!, outputs: item.p!, bias: item.bias!, seed: item.seedNumber)
            #expect(try layer.weight.isIdentical(TorchNumbers.matrix(item, "weight")))
            #expect((layer.bias == nil) == !item.bias!)
            if let bias = layer.bias { #expect(try bias.isIdentical(TorchNumbers.matrix(item, "bias"))) }
        }
    }

    @Test(arguments: TorchNumbers.cases("linear"))
    func forwardAndGradients(_ item: TorchNumbers.Case) throws {
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let layer = try Linear<Element>(inputs: item.n!, outputs: item.p!, bias: item.bias!)
            for parameter in layer.parameters {
                try parameter.setValue(TorchNumbers.matrix(item, parameter.name))
            }
            let context = Context<Element>()
            let y = try layer.forward(TorchNumbers.matrix(item, "x"), context: context)
            try expectClose(y, "output")
            let gradInput = try layer.backward(TorchNumbers.matrix(item, "grad_output"), context: context)
            try expectClose(gradInput, "grad_x")
            for parameter in layer.parameters { try expectClose(parameter.gradient, "grad_" + parameter.name) }
        }
        func expectClose<Element: Scalar>(_ matrix: Matrix<Element>, _ role: String) throws {
            let difference = try matrix.relativeDifference(TorchNumbers.matrix(item, role))
            #expect(difference <= tolerance(Element.self), "\(role)")
        }
    }

    @Test(arguments: TorchNumbers.cases("mse"))
    func reductions(_ item: TorchNumbers.Case) throws {
        let reductions: [String: Reduction] = [
            "mean": .mean, "sum": .sum, "none": .none, "batch_mean": .batchMean, "output_mean": .outputMean,
        ]
        let mse = MSE(reduction: reductions[item.reduction!]!)
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let prediction: Matrix<Element> = try TorchNumbers.matrix(item, "prediction")
            let target: Matrix<Element> = try TorchNumbers.matrix(item, "target")
            let weight: Matrix<Element>? = item.weighted! ? try TorchNumbers.matrix(item, "sample_weight") : nil
            let loss: Matrix<Element> =
                mse.reduction == .none
                ? try mse.elements(prediction, target, sampleWeight: weight)
                : try Matrix(
                    rows: 1, columns: 1, elements: [Element(mse.forward(prediction, target, sampleWeight: weight))])
            let gradients = try mse.backward(
                prediction, target, sampleWeight: weight, upstream: TorchNumbers.matrix(item, "grad_output"))
            for (ours, role) in [
                (loss, "loss"), (gradients.prediction, "grad_prediction"), (gradients.target, "grad_target"),
            ] {
                let difference = try ours.relativeDifference(TorchNumbers.matrix(item, role))
                #expect(difference <= tolerance(Element.self), "\(role)")
            }
        }
    }

    @Test(arguments: TorchNumbers.cases("sgd"))
    func updates(_ item: TorchNumbers.Case) throws {
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let shapes = item.layers!, groups = item.groups!
            let layers = try shapes.map { try Linear<Element>(inputs: $0.n, outputs: $0.p, bias: $0.bias) }
            for (i, layer) in layers.enumerated() {
                for parameter in layer.parameters {
                    try parameter.setValue(TorchNumbers.matrix(item, "\(i)/\(parameter.name)"))
                }
            }
            func members(_ group: Int) -> [Linear<Element>] {
                zip(layers, shapes).filter { $0.1.group == group }.map { $0.0 }
            }
            let sgd = try SGD<Element>(members(0), options: groups[0].options(step: 0))
            for group in 1..<max(groups.count, 1) {
                try sgd.addGroup(members(group), options: groups[group].options(step: 0))
            }
            let plurals = ["weight": "weights", "bias": "biases"]
            for step in 0..<item.steps! {
                for (i, group) in groups.enumerated() { try sgd.setOptions(group.options(step: step), group: i) }
                for (i, layer) in layers.enumerated() {
                    for parameter in layer.parameters {
                        let gradient: Matrix<Element> = try TorchNumbers.step(
                            item, "\(i)/\(parameter.name)_gradients", step, rows: parameter.rows,
                            columns: parameter.columns)
                        parameter.gradients.update(from: gradient.elements, count: parameter.count)
                    }
                }
                try sgd.step()
                for (i, layer) in layers.enumerated() {
                    for parameter in layer.parameters {
                        let expected: Matrix<Element> = try TorchNumbers.step(
                            item, "\(i)/\(plurals[parameter.name]!)", step, rows: parameter.rows,
                            columns: parameter.columns)
                        #expect(parameter.value.isIdentical(expected), "step \(step), \(parameter.name)")
                    }
                }
            }
        }
    }

    @Test(arguments: TorchNumbers.cases("clipping"))
    func clipping(_ item: TorchNumbers.Case) throws {
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let layers = try item.layers!.map { try Linear<Element>(inputs: $0.n, outputs: $0.p, bias: $0.bias) }
            let sgd = try SGD<Element>(layers)
            for (i, layer) in layers.enumerated() {
                for parameter in layer.parameters {
                    let gradient: [Element] = TorchNumbers.numbers(item, "\(i)/\(parameter.name)_gradient")
                    parameter.gradients.update(from: gradient, count: parameter.count)
                }
            }
            let norm = try sgd.clipGradients(maxNorm: item.max_norm!)
            let expected: [Element] = TorchNumbers.numbers(item, "norm")
            #expect(abs(norm - Double(expected[0])) <= tolerance(Element.self) * norm)
            for (i, layer) in layers.enumerated() {
                for parameter in layer.parameters {
                    let clipped: Matrix<Element> = try TorchNumbers.matrix(item, "\(i)/\(parameter.name)_clipped")
                    #expect(parameter.gradient.relativeDifference(clipped) <= tolerance(Element.self))
                    if norm < item.max_norm! { #expect(parameter.gradient.isIdentical(clipped)) }
                }
            }
        }
    }

    @Test(arguments: TorchNumbers.cases("randperm"))
    func shuffles(_ item: TorchNumbers.Case) throws {
        var generator = MersenneTwister(seed: item.seedNumber)
        var order = [Int](repeating: 0, count: item.n!)
        for i in 0..<item.count! {
            order.withUnsafeMutableBufferPointer { generator.permute($0) }
            #expect(order.map { Int32($0) } == TorchNumbers.numbers(item, "\(i)"))
        }
    }

    @Test(arguments: TorchNumbers.cases("training"))
    func training(_ item: TorchNumbers.Case) throws {
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let layer = try Linear<Element>(inputs: item.n!, outputs: item.p!, bias: item.bias!, seed: item.seedNumber)
            let sgd = try SGD<Element>([layer], options: item.group.options(step: 0))
            let trainer = try Trainer(layer: layer, sgd: sgd)
            let x: Matrix<Element> = try TorchNumbers.matrix(item, "x")
            let y: Matrix<Element> = try TorchNumbers.matrix(item, "y")
            let losses: [Element] = TorchNumbers.numbers(item, "losses")
            for step in 0..<item.steps! {
                try sgd.setOptions(item.group.options(step: step))
                let loss = try trainer.step(x, y)
                #expect(abs(loss - Double(losses[step])) <= tolerance(Element.self) * abs(loss))
                let weight: Matrix<Element> = try TorchNumbers.step(
                    item, "weights", step, rows: item.p!, columns: item.n!)
                #expect(layer.weight.relativeDifference(weight) <= tolerance(Element.self), "step \(step)")
            }
        }
    }

    /// Element by element: where large numbers meet small ones, the largest says little of the others.
    @Test(arguments: TorchNumbers.cases("activation"))
    func activations(_ item: TorchNumbers.Case) throws {
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let layer = try Activation<Element>(activationFunction(item.function!, item.negative_slope))
            let context = Context<Element>()
            let y = try layer.forward(TorchNumbers.matrix(item, "x"), context: context)
            let gradOutput: Matrix<Element> = try TorchNumbers.matrix(item, "grad_output")
            let gradInput = try layer.backward(gradOutput, context: context)
            let expected: [Element] = TorchNumbers.numbers(item, "output")
            let expectedGradient: [Element] = TorchNumbers.numbers(item, "grad_x")
            let limit = Element(tolerance(Element.self))
            for (e, upstream) in gradOutput.elements.enumerated() {
                let (ours, theirs) = (y.elements[e], expected[e])
                #expect((ours - theirs).magnitude <= limit * theirs.magnitude + .leastNormalMagnitude, "output \(e)")
                // 1 − y² and y(1 − y) cancel: near 0 they are as exact as y is beside 1.
                let error = (gradInput.elements[e] - expectedGradient[e]).magnitude
                #expect(error <= limit * upstream.magnitude, "grad_x \(e)")
            }
        }
    }

    @Test(arguments: TorchNumbers.cases("chain"))
    func chains(_ item: TorchNumbers.Case) throws {
        if item.isFloat { try check(Float.self) } else { try check(Double.self) }
        func check<Element: Scalar>(_: Element.Type) throws {
            let chain: Chain<Element> = try chain(item.architecture!)
            chain.resetParameters(seed: item.seedNumber)
            for parameter in chain.parameters {
                try #require(TorchNumbers.has(item, "initial/" + parameter.name))
                #expect(try parameter.value.isIdentical(TorchNumbers.matrix(item, "initial/" + parameter.name)))
            }
            let x: Matrix<Element> = try TorchNumbers.matrix(item, "x")
            let y: Matrix<Element> = try TorchNumbers.matrix(item, "y")
            let context = Context<Element>()
            try expectClose(chain.forward(x, context: context), "output")
            let gradInput = try chain.backward(TorchNumbers.matrix(item, "grad_output"), context: context)
            try expectClose(gradInput, "grad_x")
            for parameter in chain.parameters { try expectClose(parameter.gradient, "grad/" + parameter.name) }

            let sgd = try SGD<Element>([chain], options: item.group.options(step: 0))
            let trainer = try Trainer(layer: chain, sgd: sgd)
            let losses: [Element] = TorchNumbers.numbers(item, "losses")
            for step in 0..<item.steps! {
                try sgd.setOptions(item.group.options(step: step))
                let loss = try trainer.step(x, y)
                #expect(abs(loss - Double(losses[step])) <= tolerance(Element.self) * abs(loss), "step \(step)")
            }
            for parameter in chain.parameters { try expectClose(parameter.value, "final/" + parameter.name) }
        }
        func expectClose<Element: Scalar>(_ matrix: Matrix<Element>, _ role: String) throws {
            let difference = try matrix.relativeDifference(TorchNumbers.matrix(item, role))
            #expect(difference <= tolerance(Element.self), "\(role)")
        }
    }

    private func activationFunction(_ name: String, _ slope: Double?) -> ActivationFunction {
        switch name {
        case "relu": .relu
        case "leaky_relu": .leakyReLU(negativeSlope: slope!)
        case "tanh": .tanh
        case "sigmoid": .sigmoid
        case "softplus": .softplus
        default: fatalError(name)
        }
    }

    private func chain<Element: Scalar>(_ architecture: [TorchNumbers.Entry]) throws -> Chain<Element> {
        try Chain(
            architecture.map { entry in
                switch entry.type {
                case "linear": try Linear(inputs: entry.n!, outputs: entry.p!, bias: entry.bias!)
                case "chain": try chain(entry.layers!)
                default: try Activation(activationFunction(entry.type, entry.negative_slope))
                }
            })
    }
}

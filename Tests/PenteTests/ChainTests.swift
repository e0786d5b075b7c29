import Pente
import Testing

/// Chains compute what their layers by hand compute, one after another.
@Suite struct ChainTests {
    /// Every kind of layer, a chain among them, for 5 columns and to 3.
    static func layers<Element: Scalar>(_: Element.Type = Element.self) throws -> [Layer<Element>] {
        let scaler = try Scaler<Element>(features: 5)
        try scaler.fit(random(40, 5, seed: 9))
        return try [
            scaler, Linear(inputs: 5, outputs: 8, seed: 1), Activation(.leakyReLU(negativeSlope: 0.2)),
            Chain([Linear(inputs: 8, outputs: 8, bias: false, seed: 2), Activation(.tanh)]),
            Activation(.softplus), Linear(inputs: 8, outputs: 3, seed: 3), Activation(.sigmoid),
        ]
    }

    static let rows = [1, 7, 64, 257, 1500]

    @Test(arguments: rows)
    func passesAreTheLayersPasses(_ q: Int) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let chain = try Chain<Element>(Self.layers()), twins = try Self.layers(Element.self)
            let context = Context<Element>(), contexts = twins.map { _ in Context<Element>() }
            let x: Matrix<Element> = try random(q, 5, seed: 1), gradOutput: Matrix<Element> = try random(q, 3, seed: 2)
            for _ in 0..<2 {  // the second pass adds to the gradients of the first
                let y = try chain.forward(x, context: context)
                let gradInput = try chain.backward(gradOutput, context: context)
                let yByHand = try zip(twins, contexts).reduce(x) { try $1.0.forward($0, context: $1.1) }
                let gradInputByHand = try zip(twins, contexts).reversed().reduce(gradOutput) {
                    try $1.0.backward($0, context: $1.1)
                }
                #expect(y.isIdentical(yByHand) && gradInput.isIdentical(gradInputByHand))
                #expect(try chain.forward(x).isIdentical(y))
                #expect(chain.state == twins.flatMap(\.state))
            }
            expectError(.invalidState) { try chain.backward(gradOutput, context: context) }
        }
    }

    /// Layers that sum in blocks of different sizes go on to do so in a chain.
    @Test(arguments: [[6, 40, 3], [300, 8, 20, 1], [700, 8, 40, 700, 2]])
    func wideAndNarrowLayers(_ widths: [Int]) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            func linears() throws -> [Linear<Element>] {
                try zip(widths, widths.dropFirst()).map { try Linear(inputs: $0, outputs: $1) }
            }
            let chain = try Chain<Element>(linears()), twins = try linears()
            let contexts = twins.map { _ in Context<Element>() }, context = Context<Element>()
            let x: Matrix<Element> = try random(1500, widths[0], seed: 1)
            let gradOutput: Matrix<Element> = try random(1500, widths.last!, seed: 2)
            let yByHand = try zip(twins, contexts).reduce(x) { try $1.0.forward($0, context: $1.1) }
            let gradInputByHand = try zip(twins, contexts).reversed().reduce(gradOutput) {
                try $1.0.backward($0, context: $1.1)
            }
            #expect(try chain.forward(x, context: context).isIdentical(yByHand))
            #expect(try chain.backward(gradOutput, context: context).isIdentical(gradInputByHand))
            for (ours, theirs) in zip(chain.parameters, twins.flatMap(\.parameters)) {
                #expect(ours.gradient.isIdentical(theirs.gradient), "\(ours.name)")
            }
        }
    }

    @Test func aRowsResultDependsOnThatRowAlone() throws {
        let chain = try Chain<Float>(Self.layers())
        let x: Matrix<Float> = try random(700, 5, seed: 1)
        let y = try chain.forward(x)
        for i in stride(from: 0, to: 700, by: 23) {
            let row = try Matrix(rows: 1, columns: 5, elements: (0..<5).map { x[i, $0] })
            #expect(try chain.forward(row).elements == (0..<3).map { y[i, $0] })
        }
    }

    /// zeroGradients, forward, loss, backward, step: in one call, and in that of each layer.
    @Test(arguments: rows)
    func aStepIsTheFourCalls(_ q: Int) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let options = SGDOptions(lr: 0.1, momentum: 0.9, weightDecay: 1e-3, nesterov: true)
            let mse = MSE(reduction: .batchMean), context = Context<Element>()
            let chain = try Chain<Element>(Self.layers()), twin = try Chain<Element>(Self.layers())
            let sgd = try SGD([twin], options: options)
            let trainer = try Trainer(layer: chain, mse: mse, sgd: SGD([chain], options: options))
            let x: Matrix<Element> = try random(q, 5, seed: 1), y: Matrix<Element> = try random(q, 3, seed: 2)
            let weights = try Matrix<Element>(rows: q, columns: 1, elements: (0..<q).map { Element($0 % 3) + 1 })
            for step in 0..<6 {
                let sampleWeight = step % 2 == 0 ? weights : nil
                let loss = try trainer.step(x, y, sampleWeight: sampleWeight)
                sgd.zeroGradients()
                let prediction = try twin.forward(x, context: context)
                #expect(try mse.forward(prediction, y, sampleWeight: sampleWeight) == loss)
                let gradOutput = try mse.backward(prediction, y, sampleWeight: sampleWeight).prediction
                try twin.backward(gradOutput, context: context)
                try sgd.step()
                #expect(chain.state == twin.state, "step \(step)")
            }
            #expect(trainer.sgd.stepCount == 6 && sgd.stepCount == 6)
        }
    }

    /// A context, and a trainer, serve batches of different sizes one after another.
    @Test func batchesOfAnySize() throws {
        let chain = try Chain<Double>(Self.layers()), context = Context<Double>()
        for q in [3, 1000, 2, 65, 1000, 1] {
            let x: Matrix<Double> = try random(q, 5, seed: 1), gradOutput: Matrix<Double> = try random(q, 3, seed: 2)
            let fresh = Context<Double>()
            chain.zeroGradients()
            let y = try chain.forward(x, context: context)
            let gradInput = try chain.backward(gradOutput, context: context)
            let state = chain.state
            chain.zeroGradients()
            #expect(try chain.forward(x, context: fresh).isIdentical(y))
            #expect(try chain.backward(gradOutput, context: fresh).isIdentical(gradInput))
            #expect(chain.state == state)
        }
    }

    @Test func gradientsPassTheCheck() throws {
        let chain = try Chain<Double>(Self.layers())
        let x: Matrix<Double> = try random(6, 5, seed: 1), target: Matrix<Double> = try random(6, 3, seed: 2)
        let before = chain.state
        for reduction in [Reduction.mean, .none] {
            let report = try checkGradients(layer: chain, mse: MSE(reduction: reduction), x: x, target: target)
            #expect(report.passed && report.checked == 30 + 18 + (48 + 64 + 27), "\(report)")
        }
        #expect(try checkGradients(layer: chain, mse: nil, x: x, target: nil).passed)
        #expect(chain.state == before)
    }

    @Test func namesAreThoseOfSequential() throws {
        let chain = try Chain<Float>(Self.layers())
        #expect(
            chain.parameters.map(\.name) == [
                "0.mean", "0.scale", "1.weight", "1.bias", "3.0.weight", "5.weight", "5.bias",
            ])
        #expect(chain.parameters.map(\.isTrained) == [false, false, true, true, true, true, true])
        #expect(chain.parameters.map(\.rank) == [1, 1, 2, 1, 2, 2, 1])
        #expect(chain.inputs == 5 && chain.outputs == 3)
        #expect(chain.parameter(named: "3.0.weight")?.rows == 8)
        #expect(chain.parameter(named: "3.weight") == nil && chain.parameter(named: "weight") == nil)
    }

    @Test func layersShareTheirParametersWithTheChain() throws {
        let linear = try Linear<Double>(inputs: 4, outputs: 2)
        let chain = try Chain([linear, Activation(.tanh)])
        #expect(chain.layers[0] === linear)
        let value: Matrix<Double> = try random(2, 4, seed: 5)
        try #require(chain.parameter(named: "0.weight")).setValue(value)
        #expect(linear.weight == value)
        let trainer = try Trainer(layer: chain, sgd: SGD([linear]))  // the optimizer knows it by the layer
        try trainer.step(random(3, 4, seed: 1), random(3, 2, seed: 2))
        #expect(linear.weight != value && chain.parameters[0].value == linear.weight)
        #expect(linear.parameters[0].gradient == chain.parameters[0].gradient)
        expectError(.invalidArgument, "layers[1]", "weight") { _ = try SGD([linear, chain]) }
    }
}

@Suite struct ChainStructureTests {
    @Test func nestedIsFlat() throws {
        func linears() throws -> [Layer<Float>] {
            try [(5, 7), (7, 7), (7, 4), (4, 2)].map { try Linear(inputs: $0.0, outputs: $0.1) }
        }
        let tanh = try Activation<Float>(.tanh)
        let a = try linears(), b = try linears()
        let flat = try Chain([a[0], tanh, a[1], a[2], tanh, a[3]])
        let nested = try Chain([Chain([b[0], tanh]), b[1], Chain([Chain([b[2]]), Chain([tanh, b[3]])])])
        #expect(nested.parameters.map(\.name)[4...] == ["2.0.0.weight", "2.0.0.bias", "2.1.1.weight", "2.1.1.bias"])
        flat.resetParameters(seed: 6)
        nested.resetParameters(seed: 6)
        #expect(flat.state == nested.state)
        let options = SGDOptions(lr: 0.1, momentum: 0.5)
        let trainers = try [flat, nested].map { try Trainer(layer: $0, sgd: SGD([$0], options: options)) }
        let x: Matrix<Float> = try random(900, 5, seed: 1), y: Matrix<Float> = try random(900, 2, seed: 2)
        for _ in 0..<3 { #expect(try trainers[0].step(x, y) == trainers[1].step(x, y)) }
        #expect(flat.state == nested.state)
    }

    /// One generator for all linear layers, in their order; the others stay.
    @Test func resetIsOfLinearLayersAlone() throws {
        let chain = try Chain<Double>(ChainTests.layers())
        try chain.randomize(seed: 7)
        let before = chain.parameters.map(\.value)
        chain.resetParameters(seed: 3)
        var generator = MersenneTwister(seed: 3)
        let first: Double = generator.uniform(bound: 1 / 5.0.squareRoot(), as: Double.self)
        #expect(abs(chain.parameters[2].value[0, 0] - first) < 1e-15)
        for (parameter, before) in zip(chain.parameters, before) {
            #expect((parameter.value == before) == !parameter.isTrained, "\(parameter.name)")
        }
        let again = chain.state
        chain.resetParameters(seed: 3)
        #expect(chain.state == again)
    }

    @Test func oneActivationInSeveralPlaces() throws {
        let tanh = try Activation<Double>(.tanh)
        let chain = try Chain([
            Linear(inputs: 3, outputs: 4, seed: 1), tanh, Linear(inputs: 4, outputs: 4, seed: 2), tanh,
            Chain([tanh, Linear(inputs: 4, outputs: 2, seed: 3)]), tanh,
        ])
        let x: Matrix<Double> = try random(5, 3, seed: 1)
        #expect(try checkGradients(layer: chain, mse: MSE(), x: x, target: random(5, 2, seed: 2)).passed)
    }

    @Test func shapesOfBothLayersAreTold() throws {
        let tanh = try Activation<Float>(.tanh)
        let wide = try Linear<Float>(inputs: 64, outputs: 32), narrow = try Linear<Float>(inputs: 30, outputs: 10)
        expectError(.shapeMismatch, "layers[0], Linear(64, 32)", "gives 32", "layers[2], Linear(30, 10)", "takes 30") {
            _ = try Chain([wide, tanh, narrow])
        }
        expectError(.shapeMismatch, "layers[1], Chain(64, 32)", "layers[2], Scaler(30)") {
            _ = try Chain([tanh, Chain([wide]), Scaler(features: 30)])
        }
        let chain = try Chain([tanh, wide, tanh])
        #expect(chain.inputs == 64 && chain.outputs == 32)
        expectError(.shapeMismatch, "x is 4×5", "takes 64") { _ = try chain.forward(random(4, 5, seed: 1)) }
        let trainer = try Trainer(layer: chain, sgd: SGD([chain]))
        expectError(.shapeMismatch, "y is 4×5", "4×64", "4×32") {
            try trainer.step(random(4, 64, seed: 1), random(4, 5, seed: 1))
        }
    }

    @Test func refusals() throws {
        let linear = try Linear<Float>(inputs: 3, outputs: 3), relu = try Activation<Float>(.relu)
        expectError(.invalidArgument, "layers is empty") { _ = try Chain<Float>([]) }
        expectError(.invalidArgument, "number of columns") { _ = try Chain([relu, relu]) }
        expectError(.invalidArgument, "layers[2] has the parameter weight that layers[0] has") {
            _ = try Chain([linear, relu, linear])
        }
        expectError(.invalidArgument, "layers[1] has the parameter 0.weight that layers[0] has") {
            _ = try Chain([linear, Chain([linear])])
        }
        let scaler = try Scaler<Float>(features: 3)
        expectError(.invalidArgument, "layers[1] has the parameter mean that layers[0] has") {
            _ = try Chain([scaler, scaler])
        }
        expectError(.invalidArgument, "layers", "train") { _ = try SGD([Chain([scaler, relu])]) }
        let sgd = try SGD([linear])
        let chain = try Chain([linear, Linear(inputs: 3, outputs: 1)])
        expectError(.invalidArgument, "sgd", "1.weight") { _ = try Trainer(layer: chain, sgd: sgd) }
    }

    /// A context remembers which of two layers' passes it holds: a chain's is not its layer's.
    @Test func aPassBelongsToItsLayer() throws {
        let linear = try Linear<Float>(inputs: 3, outputs: 3), context = Context<Float>()
        let chain = try Chain([linear])
        _ = try linear.forward(random(2, 3, seed: 1), context: context)
        expectError(.invalidState) { try chain.backward(random(2, 3, seed: 2), context: context) }
    }

    @Test func sixtyFourDeep() throws {
        let linear = try Linear<Double>(inputs: 3, outputs: 2)
        var chain = try Chain([linear])
        for _ in 1..<64 { chain = try Chain([chain]) }
        #expect(chain.parameters[0].name == String(repeating: "0.", count: 64) + "weight")
        let context = Context<Double>()
        let x: Matrix<Double> = try random(600, 3, seed: 1), gradOutput: Matrix<Double> = try random(600, 2, seed: 2)
        #expect(try chain.forward(x, context: context) == linear.forward(x))
        try chain.backward(gradOutput, context: context)
        let deep = linear.state
        linear.zeroGradients()
        _ = try linear.forward(x, context: context)
        try linear.backward(gradOutput, context: context)
        #expect(linear.state == deep)
        expectError(.invalidArgument, "layers[1]", "64 deep") { _ = try Chain([Activation(.relu), chain]) }
    }

    /// What is scaled first trains as well as numbers that come scaled, and no optimizer changes the scaler.
    @Test func aScalerComesFirst() throws {
        let units = [1e4, 1e-4, 1]
        let raw = try Matrix<Double>(
            rows: 60, columns: 3, elements: random(60, 3, seed: 1).elements.enumerated().map { $1 * units[$0 % 3] })
        let y: Matrix<Double> = try random(60, 1, seed: 2)
        let scaler = try Scaler<Double>(features: 3)
        try scaler.fit(raw)
        let inside = try Linear<Double>(inputs: 3, outputs: 1), outside = try Linear<Double>(inputs: 3, outputs: 1)
        let chain = try Chain([scaler, inside])
        let options = SGDOptions(lr: 0.1, momentum: 0.9, weightDecay: 0.1)
        let scaled = try Trainer(layer: chain, sgd: SGD([chain], options: options))
        let plain = try Trainer(layer: outside, sgd: SGD([outside], options: options))
        let before = scaler.state
        for _ in 0..<20 { #expect(try scaled.step(raw, y) == plain.step(scaler.forward(raw), y)) }
        #expect(inside.state == outside.state)
        #expect(scaler.state == before)
    }
}

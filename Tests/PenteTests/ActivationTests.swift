import Foundation
import Pente
import Testing

#if arch(x86_64)
    private typealias Wide = Float80
#else
    private typealias Wide = Double
#endif

@Suite struct ActivationTests {
    static let all: [ActivationFunction] = [.relu, .leakyReLU(negativeSlope: 0.3), .tanh, .sigmoid, .softplus]

    /// An activation's y for each x, and its derivative.
    private func apply<Element: Scalar>(
        _ function: ActivationFunction, _ x: [Element]
    ) throws -> (y: [Element], derivative: [Element]) {
        let layer = try Activation<Element>(function), context = Context<Element>()
        let y = try layer.forward(Matrix(rows: 1, columns: x.count, elements: x), context: context)
        let ones = try Matrix<Element>(rows: 1, columns: x.count, repeating: 1)
        return try (y.elements, layer.backward(ones, context: context).elements)
    }

    /// Evenly from one end of the interesting range to the other, and of every magnitude.
    private func samples<Element: Scalar>(_: Element.Type) -> [Element] {
        let end = Element.self == Float.self ? 110.0 : 760
        let even = (-60_000...60_000).map { Element(end * Double($0) / 60_000) }
        var generator = MersenneTwister(seed: 1)
        let magnitudes = (0..<60_000).map { i -> Element in
            let u: Element = generator.uniform(bound: 1, as: Element.self)
            return Element(sign: .plus, exponent: Element.Exponent(7 - i % 60), significand: u)
        }
        return even + magnitudes
    }

    private static func sigmoid(_ x: Wide) -> Wide { 1 / (1 + exp(-x)) }

    private static func softplus(_ x: Wide) -> Wide { max(x, 0) + log1p(exp(-x.magnitude)) }

    /// Beside the C library in a wider type, in units of the last place.
    @Test func functionsAreAccurate() throws {
        try check(Float.self)
        #if arch(x86_64)
            try check(Double.self)
        #endif
        func check<Element: Scalar>(_: Element.Type) throws {
            let x = samples(Element.self)
            let softplus = try apply(.softplus, x)
            for (name, ours, exact) in [
                ("tanh", try apply(.tanh, x).y, { tanh($0) }),
                ("sigmoid", try apply(.sigmoid, x).y, Self.sigmoid),
                ("softplus", softplus.y, Self.softplus),
                ("softplus's derivative", softplus.derivative, Self.sigmoid),
            ] as [(String, [Element], (Wide) -> Wide)] {
                var worst: (error: Wide, x: Element) = (0, 0)
                for (x, y) in zip(x, ours) {
                    let exact = exact(Wide(x))
                    let error = (Wide(y) - exact).magnitude / Wide(Element(exact).ulp)
                    if !(error <= worst.error) { worst = (error, x) }
                }
                #expect(worst.error <= 4, "\(name) of \(worst.x) is \(worst.error) units off")
            }
        }
    }

    @Test func tanhKeepsTheSignOfZero() throws {
        #expect(try apply(.tanh, [-0.0 as Float, 0, 1]).y.map(\.sign) == [.minus, .plus, .plus])
        #expect(try apply(.tanh, [-0.0 as Double, 0, -1]).y.map(\.sign) == [.minus, .plus, .minus])
    }

    /// As they are defined, from x or from the y that forward gave; times the upstream gradient.
    @Test func derivatives() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let x = samples(Element.self)
            for slope in [0.3, -2, 0] as [Element] {
                let (y, derivative) = try apply(.leakyReLU(negativeSlope: Double(slope)), x)
                #expect(y == x.map { $0 > 0 ? $0 : slope * $0 })
                #expect(derivative == x.map { $0 > 0 ? 1 : slope })
            }
            let relu = try apply(.relu, x)
            #expect(relu.y == x.map { max($0, 0) })
            #expect(relu.derivative == x.map { $0 > 0 ? 1 : 0 })
            let tanh = try apply(.tanh, x)
            #expect(tanh.derivative == tanh.y.map { (1 as Element).addingProduct(-$0, $0) })
            let sigmoid = try apply(.sigmoid, x)
            #expect(sigmoid.derivative == sigmoid.y.map { $0 * (1 - $0) })
        }
    }

    @Test(arguments: all)
    func gradientsAreTheDerivativeTimesWhatComes(_ function: ActivationFunction) throws {
        let layer = try Activation<Float>(function), context = Context<Float>()
        let x: Matrix<Float> = try random(600, 7, seed: 1), gradOutput: Matrix<Float> = try random(600, 7, seed: 2)
        let wide: Matrix<Float> = try random(600, 20, seed: 3)
        for x in [x, try wide.columns(4..<11)] {
            let y = try layer.forward(x, context: context)
            let gradInput = try layer.backward(gradOutput, context: context)
            let expected = try apply(function, x.elements)
            #expect(y.elements == expected.y)
            #expect(try layer.forward(x).isIdentical(y))
            #expect(gradInput.elements == zip(expected.derivative, gradOutput.elements).map { $0 * $1 })
        }
        expectError(.invalidState) { try layer.backward(gradOutput, context: context) }
    }

    @Test(arguments: all)
    func gradientsPassTheCheck(_ function: ActivationFunction) throws {
        let layer = try Activation<Double>(function)
        let x: Matrix<Double> = try random(6, 5, seed: 1)
        let report = try checkGradients(layer: layer, mse: MSE(), x: x, target: random(6, 5, seed: 2))
        #expect(report.passed && report.checked == 60)
    }

    @Test func limits() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let huge = Element.greatestFiniteMagnitude, tiny = Element.leastNonzeroMagnitude
            let x: [Element] = [.infinity, -.infinity, huge, -huge, 0, -0.0, tiny, -tiny]
            let limits: [(ActivationFunction, y: [Element], derivative: [Element])] = [
                (.relu, [.infinity, 0, huge, 0, 0, 0, tiny, 0], [1, 0, 1, 0, 0, 0, 1, 0]),
                (
                    .leakyReLU(negativeSlope: 0.5), [.infinity, -.infinity, huge, -huge / 2, 0, 0, tiny, 0],
                    [1, 0.5, 1, 0.5, 0.5, 0.5, 1, 0.5]
                ),
                (.tanh, [1, -1, 1, -1, 0, 0, tiny, -tiny], [0, 0, 0, 0, 1, 1, 1, 1]),
                (.sigmoid, [1, 0, 1, 0, 0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0, 0.25, 0.25, 0.25, 0.25]),
                (
                    .softplus, [.infinity, 0, huge, 0] + Array(repeating: Element(log(2.0)), count: 4),
                    [1, 0, 1, 0, 0.5, 0.5, 0.5, 0.5]
                ),
            ]
            for (function, y, derivative) in limits {
                let ours = try apply(function, x)
                for e in x.indices {
                    #expect((ours.y[e] - y[e]).magnitude <= y[e].ulp || ours.y[e] == y[e], "\(function) of \(x[e])")
                    #expect(ours.derivative[e] == derivative[e], "\(function) at \(x[e])")
                }
            }
        }
    }

    @Test(arguments: all)
    func notANumberStaysOne(_ function: ActivationFunction) throws {
        #expect(try apply(function, [1, Float.nan, 2]).y.map(\.isNaN) == [false, true, false])
        #expect(try apply(function, [1, -Double.nan, 2]).y.map(\.isNaN) == [false, true, false])
    }

    /// tanh is odd, to the bit; the others stay where they belong.
    @Test func shapesOfTheCurves() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let x = samples(Element.self).sorted()
            let tanh = try apply(.tanh, x).y
            #expect(try apply(.tanh, x.map { -$0 }).y == tanh.map { -$0 })
            #expect(tanh.allSatisfy { (-1...1).contains($0) })
            #expect(try apply(.sigmoid, x).y.allSatisfy { (0...1).contains($0) })
            #expect(try zip(x, apply(.softplus, x).y).allSatisfy { $1 >= max($0, 0) })
        }
    }

    @Test func whatItIs() throws {
        let layer = try Activation<Float>(.leakyReLU())
        #expect(layer.function == .leakyReLU(negativeSlope: 0.01))
        #expect(layer.inputs == 0 && layer.outputs == 0 && layer.parameters.isEmpty)
        for columns in [1, 3, 40] {
            let y = try layer.forward(random(2, columns, seed: 1))
            #expect(y.rows == 2 && y.columns == columns)
        }
    }

    @Test func refusals() throws {
        for slope in [Double.nan, .infinity, -.infinity] {
            expectError(.invalidArgument, "negative_slope", "float64") {
                _ = try Activation<Double>(.leakyReLU(negativeSlope: slope))
            }
        }
        expectError(.invalidArgument, "negative_slope", "1e+39", "float32") {
            _ = try Activation<Float>(.leakyReLU(negativeSlope: 1e39))
        }
        #expect(try Activation<Double>(.leakyReLU(negativeSlope: 1e39)).function == .leakyReLU(negativeSlope: 1e39))
        let relu = try Activation<Float>(.relu), linear = try Linear<Float>(inputs: 3, outputs: 1)
        expectError(.invalidArgument, "layers", "train") { _ = try SGD([relu]) }
        let sgd = try SGD([linear])
        expectError(.invalidArgument, "layer", "train") { _ = try Trainer(layer: relu, sgd: sgd) }
        let context = Context<Float>()
        _ = try relu.forward(random(4, 3, seed: 1), context: context)
        expectError(.shapeMismatch, "grad_output", "4×2", "4×3") {
            try relu.backward(random(4, 2, seed: 2), context: context)
        }
        expectError(.invalidState) { try linear.backward(random(4, 1, seed: 2), context: context) }
    }
}

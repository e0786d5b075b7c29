import Pente
import Testing

/// The gradient check on layers of the user's own: it passes what is right and tells where a mistake is.
@Suite struct GradientCheckTests {
    private func layer(_ mistake: PlainLinear<Double>.Mistake?) throws -> PlainLinear<Double> {
        try PlainLinear(random(3, 3, seed: 1), random(1, 3, seed: 2), divisor: 4, mistake: mistake)
    }

    @Test func whatIsRightPasses() throws {
        let layer = try layer(nil)
        let x: Matrix<Double> = try random(5, 3, seed: 3), target: Matrix<Double> = try random(5, 3, seed: 4)
        let before = layer.state
        for reduction in [Reduction.mean, .sum, .none] {
            let report = try checkGradients(layer: layer, mse: MSE(reduction: reduction), x: x, target: target)
            #expect(report.passed && report.checked == 15 + 9 + 3 + 15, "\(report)")
            #expect(report.error <= report.tolerance)
        }
        #expect(try checkGradients(layer: layer, mse: nil, x: x, target: nil).passed)
        #expect(layer.state == before)
    }

    @Test(
        arguments: [
            (.missingTranspose, "x"), (.wrongSign, "bias"), (.droppedDivisor, "weight"), (.staleX, "weight"),
            (.swappedIndices, "weight"), (.firstRowAlone, "bias"), (.lostBias, "bias"), (.notANumber, "bias"),
        ] as [(PlainLinear<Double>.Mistake, String)])
    func mistakesAreFound(_ mistake: PlainLinear<Double>.Mistake, _ place: String) throws {
        let x: Matrix<Double> = try random(5, 3, seed: 3), target: Matrix<Double> = try random(5, 3, seed: 4)
        for mse in [nil, MSE(), MSE(reduction: .none)] {
            let report = try checkGradients(layer: layer(mistake), mse: mse, x: x, target: mse.map { _ in target })
            #expect(!report.passed && report.worst == place, "\(report)")
            #expect(!(report.error <= report.tolerance))
        }
        // And in a chain, under the name that it has there.
        let chain = try Chain([Linear(inputs: 2, outputs: 3), Activation(.tanh), layer(mistake)])
        let report = try checkGradients(layer: chain, mse: MSE(), x: random(5, 2, seed: 5), target: target)
        #expect(!report.passed)
        if place != "x" { #expect(report.worst == "2." + place, "\(report)") }
    }

    /// The element that is told is the wrong one.
    @Test func theElementIsTold() throws {
        final class OneWrong: CustomLayer<Double> {
            override func computeForward(_ x: Matrix<Double>) throws(PenteError) -> Matrix<Double> {
                try Matrix(rows: x.rows, columns: x.columns, elements: x.elements.map { $0 * $0 })
            }

            override func computeBackward(
                _ gradOutput: Matrix<Double>, x: Matrix<Double>, y: Matrix<Double>
            ) throws(PenteError) -> (gradInput: Matrix<Double>, gradients: [Matrix<Double>]) {
                var gradInput = try Matrix(
                    rows: x.rows, columns: x.columns, elements: zip(gradOutput.elements, x.elements).map { 2 * $0 * $1 }
                )
                gradInput[3, 1] += 0.25
                return (gradInput, [])
            }
        }
        let report = try checkGradients(
            layer: OneWrong(inputs: 0, outputs: 0), mse: nil, x: random(5, 2, seed: 1), target: nil)
        #expect(!report.passed && report.worst == "x" && (report.row, report.column) == (3, 1))
        #expect(abs(report.error - 0.25) < 1e-6 && report.error == (report.analytic - report.numeric).magnitude)
        #expect(report.tolerance == 1e-5 + 1e-3 * report.numeric.magnitude)
    }

    /// At a kink the two differ, as they should.
    @Test func kinks() throws {
        let relu = try Activation<Double>(.relu)
        let x = try Matrix(rows: 1, columns: 3, elements: [-1, 0.0, 1])
        let report = try checkGradients(layer: relu, mse: nil, x: x, target: nil)
        #expect(!report.passed && report.worst == "x" && report.column == 1 && report.analytic == 0)
    }

    @Test func refusals() throws {
        let layer = try layer(nil)
        let x: Matrix<Double> = try random(5, 3, seed: 3)
        expectError(.invalidArgument, "layer", "mse") {
            _ = try checkGradients(layer: nil, mse: nil, x: x, target: nil)
        }
        expectError(.invalidArgument, "target") { _ = try checkGradients(layer: layer, mse: MSE(), x: x, target: nil) }
        expectError(.invalidArgument, "target") { _ = try checkGradients(layer: layer, mse: nil, x: x, target: x) }
        expectError(.shapeMismatch, "x is 5×2", "3") {
            _ = try checkGradients(layer: layer, mse: nil, x: random(5, 2, seed: 1), target: nil)
        }
        expectError(.shapeMismatch, "target is 5×2", "5×3") {
            _ = try checkGradients(layer: layer, mse: MSE(), x: x, target: random(5, 2, seed: 1))
        }
        for (options, word) in [
            (GradientCheckOptions(eps: 0), "eps"), (GradientCheckOptions(eps: .nan), "eps"),
            (GradientCheckOptions(atol: -1), "atol"), (GradientCheckOptions(rtol: .infinity), "rtol"),
        ] {
            expectError(.invalidArgument, word) {
                _ = try checkGradients(layer: layer, mse: MSE(), x: x, target: x, options: options)
            }
        }
    }
}

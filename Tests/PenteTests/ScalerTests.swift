import Pente
import Testing

@Suite struct ScalerTests {
    /// Columns of different means and spreads.
    private func table<Element: Scalar>(_ rows: Int, _: Element.Type = Element.self) throws -> Matrix<Element> {
        let numbers: Matrix<Element> = try random(rows, 4, seed: 1)
        let spreads: [Element] = [1, 1e-3, 4e4, 2], means: [Element] = [0, 5, -1e4, 0.1]
        return try Matrix(
            rows: rows, columns: 4,
            elements: numbers.elements.enumerated().map { $1 * spreads[$0 % 4] + means[$0 % 4] })
    }

    private func column<Element: Scalar>(_ elements: [Element]) throws -> Matrix<Element> {
        try Matrix(rows: elements.count, columns: 1, elements: elements)
    }

    @Test(arguments: [1, 2, 37, 1500])
    func theFormulas(_ q: Int) throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let x: Matrix<Element> = try table(q)
            let scaler = try Scaler<Element>(features: 4)
            try scaler.fit(x)
            for j in 0..<4 {
                let numbers = (0..<q).map { Double(x[$0, j]) }
                let mean = numbers.reduce(0, +) / Double(q)
                let variance = numbers.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(q)
                let scale = q == 1 ? 1 : variance.squareRoot()
                let limit = Element.self == Float.self ? 1e-7 : 1e-13
                #expect((Double(scaler.mean[0, j]) - mean).magnitude <= limit * max(mean.magnitude, scale))
                #expect((Double(scaler.scale[0, j]) / scale - 1).magnitude <= limit)
            }
            let (mean, scale) = (scaler.mean.elements, scaler.scale.elements)
            let context = Context<Element>()
            let y = try scaler.forward(x, context: context)
            let gradOutput: Matrix<Element> = try random(q, 4, seed: 2)
            let gradInput = try scaler.backward(gradOutput, context: context)
            #expect(y.elements == x.elements.enumerated().map { ($1 - mean[$0 % 4]) / scale[$0 % 4] })
            #expect(gradInput.elements == gradOutput.elements.enumerated().map { $1 / scale[$0 % 4] })
            #expect(try scaler.forward(x) == y)
        }
    }

    @Test func startsAsTheIdentity() throws {
        let scaler = try Scaler<Float>(features: 3)
        #expect(scaler.mean.elements == [0, 0, 0] && scaler.scale.elements == [1, 1, 1])
        #expect(scaler.inputs == 3 && scaler.outputs == 3)
        #expect(scaler.parameters.map(\.name) == ["mean", "scale"])
        #expect(scaler.parameters.allSatisfy { $0.rank == 1 && !$0.isTrained })
        let x: Matrix<Float> = try random(5, 3, seed: 1)
        #expect(try scaler.forward(x) == x)
        try scaler.parameters[0].setValue(Matrix(rows: 1, columns: 3, elements: [1, 2, 3]))
        #expect(try scaler.forward(x)[4, 2] == x[4, 2] - 3)
    }

    /// Their mean is their number, to the bit, so that nothing but zeros comes out.
    @Test func constantColumns() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let constants: [Element] = [0.1, -1e30, 0, .leastNonzeroMagnitude, .greatestFiniteMagnitude]
            for q in [1, 3, 1000] {
                let x = try Matrix(rows: q, columns: 5, elements: (0..<q).flatMap { _ in constants })
                let scaler = try Scaler<Element>(features: 5)
                try scaler.fit(x)
                #expect(scaler.mean.elements == constants)
                #expect(scaler.scale.elements == [1, 1, 1, 1, 1])
                #expect(try scaler.forward(x).elements.allSatisfy { $0 == 0 })
            }
        }
    }

    /// A spread that is small beside the mean, where the mean of the squares less the square of the mean is noise.
    @Test func largeOffsets() throws {
        let double = try Scaler<Double>(features: 1), float = try Scaler<Float>(features: 1)
        let steps = (0..<1000).map { Double($0 % 10) }
        try double.fit(column(steps.map { 1e12 + $0 }))
        #expect(double.mean[0, 0] == 1e12 + 4.5)
        #expect(abs(double.scale[0, 0] - 8.25.squareRoot()) < 1e-12)
        try float.fit(column((0..<1000).map { 16_000_000 + Float($0 % 2) * 2 }))
        #expect(float.mean[0, 0] == 16_000_001 && float.scale[0, 0] == 1)
        let y = try float.forward(column([16_000_000, 16_000_002]))
        #expect(y.elements == [-1, 1])
    }

    /// Whose squares, and whose sum, are beyond the type.
    @Test func hugeAndTinyNumbers() throws {
        try check(Float.self)
        try check(Double.self)
        func check<Element: Scalar>(_: Element.Type) throws {
            let scaler = try Scaler<Element>(features: 1)
            let huge = Element.greatestFiniteMagnitude, tiny = Element.leastNormalMagnitude
            try scaler.fit(column([huge, -huge, huge, -huge]))
            #expect(scaler.mean[0, 0] == 0 && (scaler.scale[0, 0] / huge - 1).magnitude <= 2 * Element.ulpOfOne)
            try scaler.fit(column([huge / 2, huge, huge / 2, huge]))
            #expect((scaler.mean[0, 0] / (huge / 4 * 3) - 1).magnitude <= 2 * Element.ulpOfOne)
            #expect((scaler.scale[0, 0] / (huge / 4) - 1).magnitude <= 4 * Element.ulpOfOne)
            try scaler.fit(column([tiny, 3 * tiny]))
            #expect(scaler.mean[0, 0] == 2 * tiny && scaler.scale[0, 0] == tiny)
            let before = scaler.state
            // A scale that is not a normal number would make infinities of ordinary ones.
            expectError(.invalidArgument, "column 0", "standard deviation") {
                try scaler.fit(column([0, tiny / 2]))
            }
            #expect(scaler.state == before)
        }
    }

    @Test func whatIsNotFiniteIsRefused() throws {
        let scaler = try Scaler<Float>(features: 2)
        let good: Matrix<Float> = try random(6, 2, seed: 1)
        try scaler.fit(good)
        let before = scaler.state
        for number in [Float.nan, .infinity, -.infinity] {
            var x = good
            x[4, 1] = number
            expectError(.invalidArgument, "x[4, 1]", "finite") { try scaler.fit(x) }
            #expect(scaler.state == before)
        }
    }

    @Test func refusals() throws {
        expectError(.invalidArgument, "features is 0") { _ = try Scaler<Float>(features: 0) }
        expectError(.outOfMemory) { _ = try Scaler<Float>(features: .max) }
        let scaler = try Scaler<Float>(features: 2)
        expectError(.shapeMismatch, "x is 3×4", "2") { try scaler.fit(random(3, 4, seed: 1)) }
        expectError(.shapeMismatch, "x is 3×4", "2") { _ = try scaler.forward(random(3, 4, seed: 1)) }
    }

    @Test func aBlockOfColumnsNeedsNoCopy() throws {
        let wide: Matrix<Double> = try random(50, 9, seed: 1)
        let block = try wide.columns(3..<7)
        let copy = try Matrix(rows: 50, columns: 4, elements: block.elements)
        let a = try Scaler<Double>(features: 4), b = try Scaler<Double>(features: 4)
        try a.fit(block)
        try b.fit(copy)
        #expect(a.state == b.state)
        #expect(try a.forward(block) == b.forward(copy))
    }

    /// x's is compared, and nothing else: mean and scale are not trained.
    @Test func gradientsPassTheCheck() throws {
        let scaler = try Scaler<Double>(features: 4)
        try scaler.fit(table(30))
        let x = try scaler.forward(table(6)), other: Matrix<Double> = try random(6, 4, seed: 3)
        let second = try Scaler<Double>(features: 4)
        try second.randomize(seed: 4)
        let report = try checkGradients(layer: second, mse: MSE(), x: x, target: other)
        #expect(report.passed && report.checked == 48)
        let context = Context<Double>()
        _ = try second.forward(x, context: context)
        try second.backward(other, context: context)
        #expect(second.parameters.allSatisfy { $0.gradient.elements.allSatisfy { $0 == 0 } })
    }
}

import Pente
import Testing

extension Matrix {
    /// The largest difference, as a part of the largest number; NaN if there is one.
    func relativeDifference(_ other: Matrix) -> Double {
        let scale = other.elements.map { Double($0.magnitude) }.max() ?? 0
        let difference = zip(elements, other.elements).map { Double(($0 - $1).magnitude) }.reduce(0) {
            $1 > $0 || $1.isNaN ? $1 : $0
        }
        return difference == 0 ? 0 : difference / scale
    }

    /// Equal to the last bit, signs of zeros included.
    func isIdentical(_ other: Matrix) -> Bool {
        rows == other.rows && columns == other.columns
            && zip(elements, other.elements).allSatisfy { $0 == $1 && $0.sign == $1.sign || $0.isNaN && $1.isNaN }
    }
}

/// How far two ways of adding up the same numbers may be apart.
func tolerance<Element: Scalar>(_: Element.Type) -> Double { Element.self == Float.self ? 1e-5 : 1e-12 }

/// Numbers for tests, the same every time.
func random<Element: Scalar>(_ rows: Int, _ columns: Int, seed: UInt64, as _: Element.Type = Element.self) throws
    -> Matrix<Element>
{
    var generator = MersenneTwister(seed: seed)
    return try Matrix(
        rows: rows, columns: columns,
        elements: (0..<rows * columns).map { _ in generator.uniform(bound: 1, as: Element.self) })
}

/// Expects a `PenteError` of that code, whose message says all of `words`.
func expectError(
    _ code: PenteError.Code, _ words: String..., location: SourceLocation = #_sourceLocation,
    from body: () throws -> Void
) {
    do {
        try body()
        Issue.record("nothing was thrown", sourceLocation: location)
    } catch let error as PenteError {
        #expect(error.code == code, "\(error.message)", sourceLocation: location)
        for word in words { #expect(error.message.contains(word), "\(error.message)", sourceLocation: location) }
    } catch {
        Issue.record("\(error)", sourceLocation: location)
    }
}

extension Layer {
    /// Values and gradients: what a call that fails must leave as they were.
    var state: [[Element]] { parameters.flatMap { [$0.value.elements, $0.gradient.elements] } }

    /// New parameters for a layer of any kind.
    func randomize(seed: UInt64) throws {
        for (i, parameter) in parameters.enumerated() {
            try parameter.setValue(random(parameter.rows, parameter.columns, seed: seed + UInt64(i)))
        }
    }
}

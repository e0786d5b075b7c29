import PenteKernels
import PenteSystem

/// y = (x − mean)/scale for each column, with ∂x = G/scale: features of mean 0 and variance 1, since with unscaled ones
/// gradient descent diverges.
///
/// "mean" and "scale" are vectors, 0 and 1 at first; `fit(_:)` sets them, and no optimizer does. Why features are
/// scaled is in docs/gradients.md, section 11.
public final class Scaler<Element: Scalar>: Layer<Element> {
    /// For x of so many columns, at least 1, which come out as they are until `fit(_:)`. Throws `.invalidArgument`.
    public convenience init(features: Int) throws(PenteError) {
        self.init(features, features, try Self.makeParameters(features))
        reset()
    }

    package static func make(features: Int) throws(PenteError) -> Scaler {
        let scaler = Scaler(features, features, try makeParameters(features))
        scaler.reset()
        return scaler
    }

    private override init(_ inputs: Int, _ outputs: Int, _ parameters: [Parameter<Element>]) {
        super.init(inputs, outputs, parameters)
        kind = .scaler
    }

    private static func makeParameters(_ features: Int) throws(PenteError) -> [Parameter<Element>] {
        guard features >= 1 else {
            throw PenteError(.invalidArgument, "features is \(features); it must be at least 1")
        }
        let mean = try Parameter<Element>.make(name: "mean", rows: 1, columns: features, rank: 1, isTrained: false)
        return [mean, try .make(name: "scale", rows: 1, columns: features, rank: 1, isTrained: false)]
    }

    private func reset() { parameters[1].values.update(repeating: 1, count: inputs) }

    /// The columns' means, 1 × features, a copy.
    public var mean: Matrix<Element> { parameters[0].value }
    /// The columns' standard deviations, 1 × features, a copy.
    public var scale: Matrix<Element> { parameters[1].value }

    /// Sets mean and scale to the columns' means and standard deviations (divided by q), from sums in float64; the scale
    /// of a column that is constant is 1. x is q × features.
    ///
    /// Throws `.shapeMismatch` for another number of columns, and `.invalidArgument` for a number that is not finite,
    /// and for a deviation beyond the range of `Element`.
    public func fit(_ x: Matrix<Element>) throws(PenteError) {
        try x.withView { (x) throws(PenteError) in try fit(x) }
    }

    package func fit(_ x: MatrixView<Element>) throws(PenteError) {
        try requireInput(x)
        let moments = try Moments(x)
        for j in 0..<inputs {
            let scale = moments.deviation(j)
            guard Element(scale).isNormal else {
                throw PenteError(
                    .invalidArgument,
                    "column \(j) of x has a standard deviation of \(scale), beyond the range of \(Element.dtypeName)")
            }
        }
        for j in 0..<inputs {
            parameters[0].values[j] = Element(moments.mean(j))
            parameters[1].values[j] = Element(moments.deviation(j))
        }
    }

    package override var summary: Message { "Scaler(\(inputs))" }

    package override func describe(to json: inout JSONWriter) {
        json.raw("{\"type\":\"scaler\",\"features\":\(inputs)}")
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeForward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>
    ) throws(PenteError) {
        perform(x, mean: parameters[0].values, into: y)
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package override func computeBackward(_ pass: BackwardPass<Element>) throws(PenteError) {
        if let gradInput = pass.gradInput { perform(pass.gradOutput, mean: nil, into: gradInput) }
    }

    private func perform(
        _ input: MatrixView<Element>, mean: UnsafeMutablePointer<Element>?, into output: MutableMatrixView<Element>
    ) {
        Element._perform(
            Standardization(
                input: input, mean: mean.map { UnsafePointer($0) }, scale: parameters[1].values, output: output))
    }
}

/// The columns' means and standard deviations, in float64.
private struct Moments: ~Copyable {
    private let columns: Int
    /// For each column: the mean, the largest deviation, the mean square of the deviations in units of the largest, so that
    /// no square overflows, and their mean, which is what the mean is off by.
    private let numbers: Buffer<Double>
    /// Whether a column has two different numbers.
    private let varies: Buffer<Bool>

    init<Element: Scalar>(_ x: MatrixView<Element>) throws(PenteError) {
        let columns = x.columns
        let numbers = try Buffer<Double>(rows: 4, columns: columns)
        let varies = try Buffer<Bool>(count: columns)
        let (means, largest, squares) = (numbers.base, numbers.base + columns, numbers.base + 2 * columns)
        let corrections = numbers.base + 3 * columns
        for i in 0..<x.rows {
            let row = x.rows(i, 1).base
            for j in 0..<columns {
                if !row[j].isFinite {
                    throw PenteError(.invalidArgument, "x[\(i), \(j)] is \(Double(row[j])); it must be finite")
                }
                means[j] += Double(row[j]) / Double(x.rows)
                if row[j] != x.base[j] { varies.base[j] = true }
            }
        }
        for i in 0..<x.rows {
            let row = x.rows(i, 1).base
            for j in 0..<columns {
                let deviation = Double(row[j]) - means[j]
                corrections[j] += deviation / Double(x.rows)
                largest[j] = max(largest[j], deviation.magnitude)
            }
        }
        // A constant column's mean is its number, exactly.
        for j in 0..<columns {
            means[j] = varies.base[j] ? means[j] + corrections[j] : Double(x.base[j])
            corrections[j] = 0
        }
        for i in 0..<x.rows {
            let row = x.rows(i, 1).base
            for j in 0..<columns where varies.base[j] {
                let deviation = (Double(row[j]) - means[j]) / largest[j]
                squares[j] += deviation * deviation / Double(x.rows)
                corrections[j] += deviation / Double(x.rows)
            }
        }
        self.columns = columns
        self.numbers = numbers
        self.varies = varies
    }

    func mean(_ j: Int) -> Double { numbers.base[j] }

    @inline(never)
    func deviation(_ j: Int) -> Double {
        let (square, correction) = (numbers.base[2 * columns + j], numbers.base[3 * columns + j])
        let variance = max(square - correction * correction, 0)
        return varies.base[j] ? numbers.base[columns + j] * pente_square_root(variance) : 1
    }
}

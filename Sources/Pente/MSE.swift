import PenteKernels
import PenteSystem

/// What the sum of the squared errors of a q×p prediction is divided by.
///
/// With sample weights each row's squares are multiplied by its weight, and the sum of the weights stands in for q.
/// Where each of the divisors comes from is in docs/gradients.md, section 7.
public enum Reduction: Int32, Sendable {
    /// N is q·p, as PyTorch's "mean".
    case mean = 1
    /// N is 1.
    case sum = 2
    /// N is 1, and nothing is summed: the q×p squares themselves.
    case none = 3
    /// N is q.
    case batchMean = 4
    /// N is p.
    case outputMean = 5
}

/// The mean squared error, (1/N) Σ (prediction − target)², with N by its reduction (docs/gradients.md, section 5).
///
/// It is a value, which threads may share.
public struct MSE: Sendable {
    /// What N is.
    public let reduction: Reduction

    /// The mean over all elements, as PyTorch's, unless you say otherwise.
    public init(reduction: Reduction = .mean) { self.reduction = reduction }

    /// The divisor N for so many columns, if the rows, or their weights, sum to `rows`.
    package func divisor(rows: Double, columns: Int) -> Double {
        switch reduction {
        case .mean: rows * Double(columns)
        case .sum, .none: 1
        case .batchMean: rows
        case .outputMean: Double(columns)
        }
    }

    /// Whether N counts rows, so that losses of several batches are averaged and not summed.
    package var isMeanOverRows: Bool { reduction == .mean || reduction == .batchMean }
}

// MARK: Over views: what Swift, C and the trainer share.

/// A loss's three inputs, whose shapes fit, and the divisor that follows from them.
package struct LossInputs<Element: Scalar> {
    package let prediction: MatrixView<Element>
    package let target: MatrixView<Element>
    package let sampleWeight: MatrixView<Element>?
    package let divisor: Double

    fileprivate func requireShape(of output: MutableMatrixView<Element>, _ name: StaticString) throws(PenteError) {
        if output.rows != prediction.rows || output.columns != prediction.columns {
            throw PenteError(.shapeMismatch, "\(name) is \(output), but the prediction is \(prediction)")
        }
    }
}

extension MSE {
    package func inputs<Element>(
        _ prediction: MatrixView<Element>, _ target: MatrixView<Element>, _ sampleWeight: MatrixView<Element>?
    ) throws(PenteError) -> LossInputs<Element> {
        guard target.rows == prediction.rows, target.columns == prediction.columns else {
            throw PenteError(
                .shapeMismatch,
                "target is \(target), but the prediction is \(prediction)")
        }
        let rows = try totalWeight(sampleWeight, rows: prediction.rows)
        return LossInputs(
            prediction: prediction, target: target, sampleWeight: sampleWeight,
            divisor: divisor(rows: rows, columns: prediction.columns))
    }

    /// What stands for q in the divisor: the sum of the weights, or the number of rows without any.
    package func totalWeight<Element: Scalar>(
        _ sampleWeight: MatrixView<Element>?, rows: Int
    ) throws(PenteError) -> Double {
        let total = try sumOfWeights(sampleWeight, rows: rows)
        if sampleWeight != nil { try requireDivisor(total, Element.self) }
        return total
    }

    /// The same, which may be 0.
    @inline(__always)
    package func sumOfWeights<Element: Scalar>(
        _ sampleWeight: MatrixView<Element>?, rows: Int
    ) throws(PenteError) -> Double {
        if let sampleWeight { try sum(sampleWeight, rows: rows) } else { Double(rows) }
    }

    @inline(never)
    private func sum<Element: Scalar>(_ sampleWeight: MatrixView<Element>, rows: Int) throws(PenteError) -> Double {
        guard sampleWeight.rows == rows, sampleWeight.columns == 1 else {
            throw PenteError(
                .shapeMismatch,
                "sample_weight is \(sampleWeight), but a batch of \(rows) rows takes \(rows, 1)")
        }
        var (total, block) = (CompensatedSum(), 0.0)
        for i in 0..<rows {
            let weight = sampleWeight.base[i &* sampleWeight.rowStride]
            guard weight >= 0, weight.isFinite else {
                throw PenteError(
                    .invalidArgument,
                    "sample_weight[\(i)] is \(Double(weight)); a weight must be finite and not negative")
            }
            block += Double(weight)
            // As the squares are summed.
            if (i &+ 1) % SquaredError<Element>.rowsPerBlock == 0 || i &+ 1 == rows {
                total.addByCall(block)
                block = 0
            }
        }
        return total.value
    }

    /// Throws unless a mean may be divided by a sum of weights.
    @inline(never)
    package func requireDivisor<Element: Scalar>(_ total: Double, _: Element.Type) throws(PenteError) {
        guard isMeanOverRows else { return }
        if total == 0 {
            throw PenteError(.invalidArgument, "sample_weight is all zeros, and a mean over nothing has no value")
        }
        guard Element(1 / total).isNormal else {
            throw PenteError(
                .invalidArgument,
                "sample_weight sums to \(total), whose reciprocal is beyond the range of \(Element.dtypeName)")
        }
    }

    package func forward<Element>(_ inputs: LossInputs<Element>) -> Double {
        var total = CompensatedSum()
        withUnsafeMutablePointer(to: &total) { total in
            var error = SquaredError(inputs)
            error.total = total
            Element._perform(error)
        }
        return total.value / inputs.divisor
    }

    package func elements<Element>(
        _ inputs: LossInputs<Element>, into squares: MutableMatrixView<Element>
    ) throws(PenteError) {
        if reduction != .none {
            throw PenteError(.invalidArgument, "mse sums its squares; they are the result of the reduction none alone")
        }
        try inputs.requireShape(of: squares, "squares")
        var error = SquaredError(inputs)
        error.squares = squares
        Element._perform(error)
    }

    /// `upstream` is 1×1, or of the prediction's shape if nothing is summed; nil stands for ones.
    package func backward<Element>(
        _ inputs: LossInputs<Element>, upstream: MatrixView<Element>?, gradPrediction: MutableMatrixView<Element>?,
        gradTarget: MutableMatrixView<Element>?
    ) throws(PenteError) {
        if let gradPrediction { try inputs.requireShape(of: gradPrediction, "grad_prediction") }
        if let gradTarget { try inputs.requireShape(of: gradTarget, "grad_target") }
        if let upstream {
            let expected = reduction == .none ? (inputs.prediction.rows, inputs.prediction.columns) : (1, 1)
            guard upstream.rows == expected.0, upstream.columns == expected.1 else {
                throw PenteError(
                    .shapeMismatch,
                    "grad_output is \(upstream), but the loss is \(expected.0, expected.1)")
            }
        }
        var error = SquaredError(inputs)
        if reduction == .none { error.upstream = upstream }
        let factor = reduction == .none ? 1 : upstream.map { Double($0.base[0]) } ?? 1
        error.scale = scale(inputs.divisor, upstream: factor)
        error.gradPrediction = gradPrediction
        error.gradTarget = gradTarget
        Element._perform(error)
    }

    /// (2/N)·g, rounded once, also where 2 g is beyond the range.
    package func scale<Element: Scalar>(_ divisor: Double, upstream: Double = 1) -> Element {
        Element(upstream / (divisor / 2))
    }

    package func requireReduced() throws(PenteError) {
        if reduction == .none {
            throw PenteError(.invalidArgument, "mse has the reduction none; one number needs another reduction")
        }
    }
}

extension SquaredError where T: Scalar {
    package init(_ inputs: LossInputs<T>) {
        self.init(prediction: inputs.prediction, target: inputs.target, sampleWeight: inputs.sampleWeight)
    }
}

// MARK: Over matrices.

extension MSE {
    /// The loss of a prediction against a target of the same shape, q×p, summed in float64.
    ///
    /// `sampleWeight` is q×1. Throws `.shapeMismatch` if the shapes differ (nothing broadcasts), and `.invalidArgument`
    /// for a weight that is negative or not finite, for weights of 0 alone under a mean over rows, and for the
    /// reduction `.none`, which has `elements(_:_:sampleWeight:)`.
    public func forward<Element>(
        _ prediction: Matrix<Element>, _ target: Matrix<Element>, sampleWeight: Matrix<Element>? = nil
    ) throws(PenteError) -> Double {
        try requireReduced()
        return try withInputs(prediction, target, sampleWeight) { inputs in forward(inputs) }
    }

    /// The (weighted) squares, q×p: the forward pass of `.none`.
    ///
    /// Throws for shapes and weights as `forward(_:_:sampleWeight:)` does, and `.invalidArgument` for other reductions.
    public func elements<Element>(
        _ prediction: Matrix<Element>, _ target: Matrix<Element>, sampleWeight: Matrix<Element>? = nil
    ) throws(PenteError) -> Matrix<Element> {
        try withInputs(prediction, target, sampleWeight) { (inputs) throws(PenteError) in
            try Matrix.filled(rows: prediction.rows, columns: prediction.columns) { (squares) throws(PenteError) in
                try elements(inputs, into: squares)
            }
        }
    }

    /// The gradient with respect to the prediction, (2/N)(prediction − target)·upstream; the one with respect to the
    /// target is its negative.
    ///
    /// `upstream` is the gradient of what comes after with respect to the loss: 1×1, or q×p for `.none`; nil stands for
    /// ones. Throws for shapes, the upstream's among them, and weights as `forward(_:_:sampleWeight:)` does.
    public func backward<Element>(
        _ prediction: Matrix<Element>, _ target: Matrix<Element>, sampleWeight: Matrix<Element>? = nil,
        upstream: Matrix<Element>? = nil
    ) throws(PenteError) -> (prediction: Matrix<Element>, target: Matrix<Element>) {
        var gradTarget = try Matrix<Element>(rows: prediction.rows, columns: prediction.columns)
        let gradPrediction = try withInputs(prediction, target, sampleWeight) {
            (inputs) throws(PenteError) -> Matrix<Element> in
            try upstream.withView { (upstream) throws(PenteError) in
                try gradTarget.withMutableView { (gradTarget) throws(PenteError) in
                    try Matrix.filled(rows: prediction.rows, columns: prediction.columns) {
                        (gradPrediction) throws(PenteError) in
                        try backward(
                            inputs, upstream: upstream, gradPrediction: gradPrediction, gradTarget: gradTarget)
                    }
                }
            }
        }
        return (gradPrediction, gradTarget)
    }

    private func withInputs<Element, Result>(
        _ prediction: Matrix<Element>, _ target: Matrix<Element>, _ sampleWeight: Matrix<Element>?,
        _ body: (LossInputs<Element>) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        try prediction.withView { (prediction) throws(PenteError) in
            try target.withView { (target) throws(PenteError) in
                try sampleWeight.withView { (sampleWeight) throws(PenteError) in
                    try body(inputs(prediction, target, sampleWeight))
                }
            }
        }
    }
}

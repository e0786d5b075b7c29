import PenteKernels

/// How `checkGradients(layer:mse:x:target:options:)` compares.
///
/// An element passes if |analytic − numeric| ≤ atol + rtol·|numeric|.
public struct GradientCheckOptions: Sendable {
    /// The step of the central differences: finite and above 0.
    public var eps = 1e-6
    /// The absolute tolerance, as `rtol` finite and not negative.
    public var atol = 1e-5
    /// The tolerance in units of the numeric gradient.
    public var rtol = 1e-3

    /// They are checked when they are used: what is out of range is `.invalidArgument` there.
    public init(eps: Double = 1e-6, atol: Double = 1e-5, rtol: Double = 1e-3) {
        self.eps = eps
        self.atol = atol
        self.rtol = rtol
    }

    fileprivate func validate() throws(PenteError) {
        if !(eps > 0 && eps.isFinite) {
            throw PenteError(.invalidArgument, "eps is \(eps); it must be finite and above 0")
        }
        try requireNotNegative(atol, "atol")
        try requireNotNegative(rtol, "rtol")
    }
}

/// What a gradient check found: the element with the largest error for its tolerance.
public struct GradientCheckReport: Sendable {
    /// Whether every element is within its tolerance.
    public fileprivate(set) var passed = true
    /// How many elements were compared.
    public fileprivate(set) var checked = 0
    /// Where the largest error is: "x", "target" or a parameter's name.
    public fileprivate(set) var worst = ""
    /// That element's row, from 0.
    public fileprivate(set) var row = 0
    /// That element's column, from 0.
    public fileprivate(set) var column = 0
    /// Its gradient as `backward` gives it.
    public fileprivate(set) var analytic = 0.0
    /// Its gradient by central differences.
    public fileprivate(set) var numeric = 0.0
    /// |analytic − numeric|.
    public fileprivate(set) var error = 0.0
    /// atol + rtol·|numeric|.
    public fileprivate(set) var tolerance = 0.0
}

/// Compares each analytic gradient of L = mse(layer(x), target), with respect to x, the trained parameters and the target,
/// with central differences (L(v + eps) − L(v − eps)) / 2eps: for any layer, chains and custom ones included.
///
/// Without a layer, x is the prediction. Without a loss and target, L is the sum of layer(x) times fixed pseudo-random
/// numbers; so it is for a loss with the reduction `.none`. At a kink (a relu at 0) the two differ by right. Other
/// forward passes come between that of x and its backward, so a layer that remembers an x of its own fails. The layer
/// is afterwards as before, to the bit; meanwhile it is written, so keep other threads off it. See docs/gradients.md,
/// section 13.
///
/// Throws `.shapeMismatch` for an x (q × inputs) or a target (q × outputs) that does not fit, `.invalidArgument` for an
/// option out of range or a loss without a target, and what a layer of your own throws. A check that fails throws
/// nothing.
public func checkGradients(
    layer: Layer<Double>?, mse: MSE?, x: Matrix<Double>, target: Matrix<Double>?,
    options: GradientCheckOptions = GradientCheckOptions()
) throws(PenteError) -> GradientCheckReport {
    try x.withView { (x) throws(PenteError) in
        try target.withView { (target) throws(PenteError) in
            try checkGradients(layer: layer, mse: mse, x: x, target: target, options: options)
        }
    }
}

@inline(never)
package func checkGradients(
    layer: Layer<Double>?, mse: MSE?, x: MatrixView<Double>, target: MatrixView<Double>?, options: GradientCheckOptions
) throws(PenteError) -> GradientCheckReport {
    try options.validate()
    if layer == nil && mse == nil { throw PenteError(.invalidArgument, "layer and mse are both missing") }
    if (mse == nil) != (target == nil) {
        throw PenteError(.invalidArgument, "mse and target go together, but only one of them was given")
    }
    return try GradientCheck(layer: layer, mse: mse, x: x, target: target).run(options)
}

/// One check: copies of what is varied, so that the caller's memory is only read.
private struct GradientCheck: ~Copyable {
    let layer: Layer<Double>?
    let mse: MSE?
    let x: MutableMatrixView<Double>
    let target: MutableMatrixView<Double>?
    let rows: Int
    let outputs: Int
    private let xMemory: Buffer<Double>
    private let targetMemory: Buffer<Double>
    private let prediction: Buffer<Double>
    private let elements: Buffer<Double>
    /// What the outputs, or the squares, are multiplied by before they are summed.
    private let factors: Buffer<Double>

    init(layer: Layer<Double>?, mse: MSE?, x: MatrixView<Double>, target: MatrixView<Double>?) throws(PenteError) {
        if let layer { try layer.requireInput(x) }
        let (rows, outputs) = (x.rows, layer?.outputs(for: x) ?? x.columns)
        // Before it is copied: it may be a view of memory that is not there.
        if let target, target.rows != rows || target.columns != outputs {
            throw PenteError(.shapeMismatch, "target is \(target), but the prediction is \(rows, outputs)")
        }
        let xMemory = try Buffer<Double>(rows: x.rows, columns: x.columns)
        let targetMemory = try Buffer<Double>(rows: target?.rows ?? 0, columns: target?.columns ?? 0)
        let prediction = try Buffer<Double>(rows: rows, columns: outputs)
        let elements = try Buffer<Double>(rows: rows, columns: outputs)
        let factors = try Buffer<Double>(rows: rows, columns: outputs)
        let xCopy = MutableMatrixView(xMemory.base, rows: x.rows, columns: x.columns)
        xCopy.copy(x)
        let targetCopy = target.map { target in
            let copy = MutableMatrixView(targetMemory.base, rows: target.rows, columns: target.columns)
            copy.copy(target)
            return copy
        }
        var generator = MersenneTwister(seed: 0)
        for e in 0..<rows * outputs { factors.base[e] = generator.uniform(bound: 1, as: Double.self) }
        self.layer = layer
        self.mse = mse
        self.x = xCopy
        self.target = targetCopy
        self.rows = rows
        self.outputs = outputs
        self.xMemory = xMemory
        self.targetMemory = targetMemory
        self.prediction = prediction
        self.elements = elements
        self.factors = factors
    }

    private var output: MutableMatrixView<Double> {
        layer == nil ? x : MutableMatrixView(prediction.base, rows: rows, columns: outputs)
    }

    private func lossInputs() throws(PenteError) -> LossInputs<Double> {
        try mse!.inputs(output.readOnly, target!.readOnly, nil)
    }

    /// L for x, the parameters and the target as they are now.
    @inline(never)
    private func value() throws(PenteError) -> Double {
        if let layer { try layer.forward(x.readOnly, into: output) }
        guard let mse else { return weightedSum(output.base) }
        let inputs = try lossInputs()
        if mse.reduction != .none { return mse.forward(inputs) }
        try mse.elements(inputs, into: MutableMatrixView(elements.base, rows: rows, columns: outputs))
        return weightedSum(elements.base)
    }

    private func weightedSum(_ values: UnsafePointer<Double>) -> Double {
        var sum = 0.0
        for e in 0..<rows * outputs { sum += values[e] * factors.base[e] }
        return sum
    }

    func run(_ options: GradientCheckOptions) throws(PenteError) -> GradientCheckReport {
        if let layer { try forwardOther(layer) }
        _ = try value()
        var report = GradientCheckReport()
        let gradOutput = try Buffer<Double>(copying: factors)
        let gradTarget = try Buffer<Double>(count: rows * outputs)
        if let mse {
            try mse.backward(
                lossInputs(),
                upstream: mse.reduction == .none ? MatrixView(factors.base, rows: rows, columns: outputs) : nil,
                gradPrediction: MutableMatrixView(gradOutput.base, rows: rows, columns: outputs),
                gradTarget: MutableMatrixView(gradTarget.base, rows: rows, columns: outputs))
        }
        if let target { try compare("target", target, gradTarget.base, options, &report) }
        guard let layer else {
            try compare("x", x, gradOutput.base, options, &report)
            return report
        }
        try compareLayer(
            layer, MatrixView(gradOutput.base, rows: rows, columns: outputs), options, &report)
        return report
    }

    /// `gradOutput` is that of the prediction for x.
    private func compareLayer(
        _ layer: Layer<Double>, _ gradOutput: MatrixView<Double>, _ options: GradientCheckOptions,
        _ report: inout GradientCheckReport
    ) throws(PenteError) {
        let gradInput = try Buffer<Double>(count: rows * x.columns)
        let gradients = try Buffer<Double>(rows: 1, columns: layer.trainedCount)
        try computeGradients(
            layer, gradOutput, into: MutableMatrixView(gradInput.base, rows: rows, columns: x.columns), gradients)
        try compare("x", x, gradInput.base, options, &report)
        var offset = 0
        for parameter in layer.trained {
            let values = MutableMatrixView(parameter.values, rows: parameter.rows, columns: parameter.columns)
            try compare(parameter.name, values, gradients.base + offset, options, &report)
            offset += parameter.count
        }
    }

    private func computeGradients(
        _ layer: Layer<Double>, _ gradOutput: MatrixView<Double>, into gradInput: MutableMatrixView<Double>,
        _ gradients: borrowing Buffer<Double>
    ) throws(PenteError) {
        var memory = PassMemory<Double>()
        try layer.forward(x.readOnly, into: output, memory: &memory)
        try forwardOther(layer)
        try layer.computeGradients(gradOutput, x: x.readOnly, gradInput: gradInput, memory: &memory)
        if layer.trainedCount > 0 { memory.sums.add(from: 0, layer.trainedCount, to: gradients.base) }
    }

    /// Sends another x forward, before x and after it: what a layer remembers of x by itself is stale then.
    private func forwardOther(_ layer: Layer<Double>) throws(PenteError) {
        let count = rows * x.columns
        let other = try Buffer<Double>(count: count)
        for e in 0..<count { other.base[e] = 0.75 * x.base[e] }
        try layer.forward(MatrixView(other.base, rows: rows, columns: x.columns), into: output)
    }

    /// Varies each element of `values`, and puts it back.
    private func compare(
        _ name: String, _ values: MutableMatrixView<Double>, _ analytic: UnsafePointer<Double>,
        _ options: GradientCheckOptions, _ report: inout GradientCheckReport
    ) throws(PenteError) {
        for e in 0..<values.rows * values.columns {
            let element = values.base + e
            let kept = element.pointee
            defer { element.pointee = kept }
            let (high, low) = (kept + options.eps, kept - options.eps)
            element.pointee = high
            let above = try value()
            element.pointee = low
            let below = try value()
            report.note(
                name, e / values.columns, e % values.columns, analytic: analytic[e],
                numeric: (above - below) / (high - low), options)
        }
    }
}

extension GradientCheckReport {
    fileprivate mutating func note(
        _ name: String, _ row: Int, _ column: Int, analytic: Double, numeric: Double, _ options: GradientCheckOptions
    ) {
        let error = (analytic - numeric).magnitude
        let tolerance = options.atol + options.rtol * numeric.magnitude
        checked += 1
        if !(error <= tolerance && tolerance.isFinite) { passed = false }
        guard checked == 1 || isWorse(error, tolerance) else { return }
        worst = name
        (self.row, self.column) = (row, column)
        (self.analytic, self.numeric) = (analytic, numeric)
        (self.error, self.tolerance) = (error, tolerance)
    }

    /// Errors are compared in units of their tolerance, then as they are. What is not finite is the worst of all.
    private func isWorse(_ error: Double, _ tolerance: Double) -> Bool {
        if !self.error.isFinite || !error.isFinite { return self.error.isFinite }
        let ratio = error == 0 ? 0 : error / tolerance
        let worstRatio = self.error == 0 ? 0 : self.error / self.tolerance
        return ratio > worstRatio || ratio == worstRatio && error > self.error
    }
}

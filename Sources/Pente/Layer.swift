import PenteKernels

/// Something with `forward`, `backward` and parameters, which it holds with their gradients.
///
/// A layer is a reference and not `Sendable`: it belongs to one thread, or actor, at a time.
public class Layer<Element: Scalar> {
    /// The columns of x.
    public let inputs: Int
    /// The columns of y.
    public let outputs: Int
    public let parameters: [Parameter<Element>]

    package init(inputs: Int, outputs: Int, parameters: [Parameter<Element>]) {
        self.inputs = inputs
        self.outputs = outputs
        self.parameters = parameters
    }

    /// The parameter of that name, or nil.
    public final func parameter(named name: String) -> Parameter<Element>? {
        parameters.first { $0.name.utf8.elementsEqual(name.utf8) }
    }

    /// Sets every gradient to 0.
    public final func zeroGradients() {
        for parameter in parameters { parameter.gradients.zero() }
    }

    // MARK: What a kind of layer defines; shapes are right when these are called.

    /// Gradients are summed in blocks of so many rows of the batch: a matter of the shape alone, since the bits
    /// depend on it. A multiple of the loss's block.
    package var rowsPerBlock: Int { fatalError("a layer defines its block") }

    package func computeForward(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>) {
        fatalError("a layer defines its forward pass")
    }

    /// Writes a block's gradients: the parameters' to `partials`, x's to `gradInput`.
    package func computeBackward(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, partials: borrowing GradientSums<Element>,
        gradInput: MutableMatrixView<Element>?
    ) {
        fatalError("a layer defines its backward pass")
    }
}

// MARK: Passes over views: what Swift, C and the trainer share.

extension Layer {
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package func forward(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>) throws(PenteError) {
        try requireInput(x)
        guard y.rows == x.rows, y.columns == outputs else {
            throw PenteError(
                .shapeMismatch,
                "y is \(y), but x is \(x), for which the layer gives \(x.rows, outputs)")
        }
        computeForward(x, into: y)
    }

    /// Adds the gradients of the batch to the parameters'.
    package func backward(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, gradInput: MutableMatrixView<Element>?,
        sums: inout GradientSums<Element>
    ) throws(PenteError) {
        try computeGradients(gradOutput, x: x, gradInput: gradInput, sums: &sums)
        sums.add(to: parameters)
    }

    /// Leaves the parameters' gradients of the batch in `sums`, and writes x's.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    package func computeGradients(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, gradInput: MutableMatrixView<Element>?,
        sums: inout GradientSums<Element>
    ) throws(PenteError) {
        guard gradOutput.rows == x.rows, gradOutput.columns == outputs else {
            throw PenteError(
                .shapeMismatch,
                "grad_output is \(gradOutput), but forward gave \(x.rows, outputs)")
        }
        if let gradInput, gradInput.rows != x.rows || gradInput.columns != inputs {
            throw PenteError(
                .shapeMismatch,
                "grad_input is \(gradInput), but x was \(x.rows, inputs)")
        }
        try sums.start(parameters, blocks: blocks(x.rows))
        var first = 0
        while first < x.rows {
            let count = min(rowsPerBlock, x.rows - first)
            computeBackward(
                gradOutput.rows(first, count), x: x.rows(first, count), partials: sums,
                gradInput: gradInput?.rows(first, count))
            sums.endBlock()
            first += count
        }
    }

    package func blocks(_ rows: Int) -> Int { (rows - 1) / rowsPerBlock + 1 }

    package func requireInput(_ x: MatrixView<Element>, _ name: StaticString = "x") throws(PenteError) {
        if x.columns != inputs {
            throw PenteError(
                .shapeMismatch, "\(name) is \(x), but the layer takes \(inputs) columns")
        }
    }
}

// MARK: Passes over matrices.

extension Layer {
    /// Inference: y = layer(x), q × outputs for an x of q × inputs. Nothing is kept.
    public final func forward(_ x: Matrix<Element>) throws(PenteError) -> Matrix<Element> {
        try Matrix.filled(rows: x.rows, columns: outputs) { (y) throws(PenteError) in
            try x.withView { (x) throws(PenteError) in try forward(x, into: y) }
        }
    }

    /// Training: keeps x in the context for the backward pass.
    public final func forward(_ x: Matrix<Element>, context: Context<Element>) throws(PenteError) -> Matrix<Element> {
        let y = try forward(x)
        context.x = x
        return y
    }

    /// The gradients of any loss that comes after, given `gradOutput`, its gradient with respect to this layer's
    /// output, q × outputs. Adds to the parameters' gradients and returns the one with respect to x, q × inputs.
    ///
    /// Throws `.invalidState` if no `forward` with this context came before: each backward pass takes one.
    @discardableResult
    public final func backward(
        _ gradOutput: Matrix<Element>, context: Context<Element>
    ) throws(PenteError) -> Matrix<Element> {
        guard let x = context.x else { throw .noForward }
        let gradInput = try Matrix.filled(rows: x.rows, columns: inputs) { (gradInput) throws(PenteError) in
            try x.withView { (x) throws(PenteError) in
                try gradOutput.withView { (gradOutput) throws(PenteError) in
                    try backward(gradOutput, x: x, gradInput: gradInput, sums: &context.sums)
                }
            }
        }
        context.x = nil
        return gradInput
    }
}

extension PenteError {
    package static var noForward: PenteError {
        PenteError(.invalidState, "context holds no forward pass; each backward needs one before it")
    }
}

import PenteKernels

/// A layer of your own: a subclass gives y = h(x) and its derivatives.
///
/// Both methods see a batch as a whole, and keep nothing from one call to the next: between a forward pass and its
/// backward pass others may come. What they throw comes out of the call that led to them, and nothing has changed then.
/// They run on the thread that made the call. See `checkGradients(layer:mse:x:target:options:)` for whether the
/// derivatives are right.
open class CustomLayer<Element: Scalar>: _UserLayer<Element> {
    /// `inputs` and `outputs` of 0: any number of columns, and as many go out. The parameters have different names,
    /// without a dot. Throws `.invalidArgument` for others.
    public init(inputs: Int, outputs: Int, parameters: [Parameter<Element>] = []) throws(PenteError) {
        try requireCustom(inputs: inputs, outputs: outputs, names: parameters.map { $0.name })
        super.init(inputs, outputs, parameters)
    }

    /// y = h(x): for an x of q × inputs, q × outputs. Another shape is a `.shapeMismatch`.
    open func computeForward(_ x: Matrix<Element>) throws(PenteError) -> Matrix<Element> {
        fatalError("a custom layer defines computeForward")
    }

    /// Given x, y = h(x) and `gradOutput` = ∂L/∂y: ∂L/∂x, of x's shape, and for each parameter, in their order, the
    /// gradient of this batch, of the parameter's shape. Other shapes are a `.shapeMismatch`.
    open func computeBackward(
        _ gradOutput: Matrix<Element>, x: Matrix<Element>, y: Matrix<Element>
    ) throws(PenteError) -> (gradInput: Matrix<Element>, gradients: [Matrix<Element>]) {
        fatalError("a custom layer defines computeBackward")
    }

    /// Not for users, though public.
    public final override func _computeForward(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>)
        throws(PenteError)
    {
        try y.copy(computeForward(Matrix(copying: x)), "computeForward returned a y that")
    }

    /// Not for users, though public.
    public final override func _computeBackward(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, y: MatrixView<Element>,
        gradInput: MutableMatrixView<Element>, gradients: UnsafeMutablePointer<Element>
    ) throws(PenteError) {
        let result = try computeBackward(
            Matrix(copying: gradOutput), x: Matrix(copying: x), y: Matrix(copying: y))
        try gradInput.copy(result.gradInput, "computeBackward returned a gradInput that")
        guard result.gradients.count == parameters.count else {
            throw PenteError(
                .shapeMismatch,
                "computeBackward returned \(result.gradients.count) gradients, but there are \(parameters.count) parameters"
            )
        }
        var offset = 0
        for (parameter, gradient) in zip(parameters, result.gradients) {
            let view = MutableMatrixView(gradients + offset, rows: parameter.rows, columns: parameter.columns)
            try view.copy(gradient, Message("computeBackward returned a gradient of \(parameter.name) that").text)
            offset += parameter.count
        }
    }
}

extension MutableMatrixView where Scalar: Pente.Scalar {
    /// Copies what a user's function returned, if it has the right shape.
    fileprivate func copy(_ result: Matrix<Scalar>, _ what: String) throws(PenteError) {
        guard result.rows == rows, result.columns == columns else {
            throw PenteError(
                .shapeMismatch, "\(what) is \(result.rows, result.columns), but \(rows, columns) was expected")
        }
        try result.withView { view in copy(view) }
    }
}

/// What a custom layer is under its methods over matrices: the same over the library's memory. Not for users, though public.
open class _UserLayer<Element: Scalar>: Layer<Element> {
    package override init(_ inputs: Int, _ outputs: Int, _ parameters: [Parameter<Element>]) {
        super.init(inputs, outputs, parameters)
        readsOutput = true
        mayFail = true
        rowsPerBlock = Int.max
        rowsPerStep = Int.max
        // Where x's gradient goes if nobody wants it, and x if its rows do not lie one behind another.
        workspacePerRow.forEachColumn = 2
    }

    /// Writes y = h(x).
    open func _computeForward(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>) throws(PenteError) {
        fatalError("a layer defines its forward pass")
    }

    /// Writes ∂L/∂x; `gradients` is where those of the parameters go, one behind another; 0 at first.
    open func _computeBackward(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, y: MatrixView<Element>,
        gradInput: MutableMatrixView<Element>, gradients: UnsafeMutablePointer<Element>
    ) throws(PenteError) {
        fatalError("a layer defines its backward pass")
    }

    package override var summary: Message { "CustomLayer(\(inputs), \(outputs))" }
    package override func describe(to json: inout JSONWriter) { json.raw("{\"type\":\"custom\"}") }

    private func contiguous(
        _ x: MatrixView<Element>, _ workspace: Workspace<Element>
    ) -> MutableMatrixView<Element> {
        MutableMatrixView(workspace.rows + x.rows &* x.columns, rows: x.rows, columns: x.columns)
    }

    package override func computeForward(
        _ x: MatrixView<Element>, into y: MutableMatrixView<Element>, workspace: Workspace<Element>
    ) throws(PenteError) {
        if x.isContiguous { return try _computeForward(x, into: y) }
        let copy = contiguous(x, workspace)
        copy.copy(x)
        try _computeForward(copy.readOnly, into: y)
    }

    package override func computeBackward(_ pass: BackwardPass<Element>) throws(PenteError) {
        let x = pass.x.isContiguous ? pass.x : contiguous(pass.x, pass.workspace).readOnly
        let gradInput =
            pass.gradInput ?? MutableMatrixView(pass.workspace.rows, rows: pass.x.rows, columns: pass.x.columns)
        pass.gradients.partial.update(repeating: 0, count: trainedCount)
        try _computeBackward(
            pass.gradOutput, x: x, y: pass.y!, gradInput: gradInput, gradients: pass.gradients.partial)
        pass.gradients.end(trainedCount)
    }
}

/// Throws unless a layer of a user's own may have such sizes and names of parameters.
package func requireCustom(inputs: Int, outputs: Int, names: [String]) throws(PenteError) {
    guard inputs >= 1 && outputs >= 1 || inputs == 0 && outputs == 0 else {
        throw PenteError(
            .invalidArgument,
            "in_features is \(inputs) and out_features is \(outputs); both must be at least 1, or both 0 for any number"
        )
    }
    guard max(inputs, outputs) <= 1 << 40 else {
        throw PenteError(
            .invalidArgument,
            "in_features is \(inputs) and out_features is \(outputs), more than memory can hold of one row")
    }
    for (i, name) in names.enumerated() {
        if name.hasSameBytes(as: "__metadata__") {
            throw PenteError(
                .invalidArgument, "parameters[\(i)] has the name \"__metadata__\", which files keep for themselves")
        }
        let isName = name.withBytes { (bytes) in
            (1...63).contains(bytes.count) && bytes.allSatisfy { $0 >= 0x20 && $0 != 0x2e && $0 != 0x7f }
        }
        if !isName {
            throw PenteError(
                .invalidArgument,
                "parameters[\(i)] has the name \"\(name)\"; it takes 1 to 63 bytes, no dot and no control character")
        }
        if names[..<i].contains(where: { $0.hasSameBytes(as: name) }) {
            throw PenteError(.invalidArgument, "parameters[\(i)] has the name \"\(name)\", which another one has")
        }
    }
}

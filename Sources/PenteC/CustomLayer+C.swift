// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteKernels
import PenteSystem
import Synchronization

/// A layer whose functions are a C program's.
final class CallbackLayer<Element: Scalar>: _UserLayer<Element> {
    private let callbacks: pente_custom_options
    /// The parameters, and room for their gradients, as the callbacks get them.
    private let matrices: Buffer<pente_matrix>
    private let isRunning = Atomic(false)
    /// From now on `release` is to be called.
    var isOwner = false

    override init(_ inputs: Int, _ outputs: Int, _ parameters: [Parameter<Element>]) {
        fatalError("a callback layer is made with its callbacks")
    }

    private init(
        _ callbacks: pente_custom_options, _ parameters: [Parameter<Element>],
        _ matrices: consuming Buffer<pente_matrix>
    ) {
        self.callbacks = callbacks
        self.matrices = matrices
        super.init(Int(callbacks.in_features), Int(callbacks.out_features), parameters)
        for (i, parameter) in parameters.enumerated() { self.matrices.base[i] = parameter.view.matrix }
    }

    static func make(_ options: pente_custom_options) throws(PenteError) -> CallbackLayer {
        let parameters = try makeParameters(options)
        try requireCustom(
            inputs: Int(options.in_features), outputs: Int(options.out_features), names: parameters.map { $0.name })
        if options.forward == nil { throw PenteError(.invalidArgument, "options has forward NULL") }
        if options.backward == nil { throw PenteError(.invalidArgument, "options has backward NULL") }
        return CallbackLayer(options, parameters, try Buffer(count: max(2 * parameters.count, 1)))
    }

    private static func makeParameters(_ options: pente_custom_options) throws(PenteError) -> [Parameter<Element>] {
        let count = Int(options.parameter_count)
        if count < 0 {
            throw PenteError(.invalidArgument, "options has a parameter_count of \(count); it must not be negative")
        }
        if count > 0 && options.parameters == nil {
            throw PenteError(.invalidArgument, "options has a parameter_count of \(count), but parameters is NULL")
        }
        return try Reserve.with(count: count, bytesEach: 1024) { () throws(PenteError) in
            try (0..<count).map { (i) throws(PenteError) in
                do throws(PenteError) {
                    return try makeParameter(options.parameters[i])
                } catch {
                    throw PenteError(error.code, "parameters[\(i)]: \(error.message)")
                }
            }
        }
    }

    private static func makeParameter(_ described: pente_custom_parameter) throws(PenteError) -> Parameter<Element> {
        let value: MatrixView<Element> = try withUnsafePointer(to: described.value) { (value) throws(PenteError) in
            try Optional(value).view("value")
        }
        let name = try text(described.name)
        if name.withBytes({ strncmp(described.name, $0.baseAddress!, $0.count) }) != 0 {
            throw PenteError(.invalidArgument, "the name \"\(name)\" is not UTF-8")
        }
        let parameter = try Parameter<Element>.make(
            name: name, rows: value.rows, columns: value.columns, rank: Int(described.rank))
        MutableMatrixView(parameter.values, rows: value.rows, columns: value.columns).copy(value)
        return parameter
    }

    deinit { if isOwner { callbacks.release?(callbacks.user_data) } }

    /// Runs a callback, and no other of this layer meanwhile.
    private func run(_ name: StaticString, _ callback: () -> pente_status) throws(PenteError) {
        if isRunning.exchange(true, ordering: .acquiring) {
            throw PenteError(.busy, "a callback of the layer is running already")
        }
        let failures = failureCount()
        Callbacks.count.pointee += 1
        let status = callback()
        Callbacks.count.pointee -= 1
        isRunning.store(false, ordering: .releasing)
        if status == 0 { return }
        // If Pente refused what the callback asked of it, its words say more than ours.
        let cause: Message =
            failureCount() == failures ? "" : ": \(String(characters: pente_last_error(), upTo: .max))"
        throw PenteError(
            PenteError.Code(rawValue: status), "the layer's \(name) callback returned \(status)\(cause)")
    }

    override func _computeForward(_ x: MatrixView<Element>, into y: MutableMatrixView<Element>) throws(PenteError) {
        #if PENTE_CHECKED
            try runChecked(x, y)
        #else
            var (x, y) = (x.matrix, y.readOnly.matrix)
            try run("forward") { callbacks.forward(matrices.base, &x, &y, callbacks.user_data) }
        #endif
    }

    override func _computeBackward(
        _ gradOutput: MatrixView<Element>, x: MatrixView<Element>, y: MatrixView<Element>,
        gradInput: MutableMatrixView<Element>, gradients: UnsafeMutablePointer<Element>
    ) throws(PenteError) {
        #if PENTE_CHECKED
            try runChecked(gradOutput, x, y, gradInput, gradients)
        #else
            var (gradOutput, x, y, gradInput) = (gradOutput.matrix, x.matrix, y.matrix, gradInput.readOnly.matrix)
            let gradientMatrices = matrices.base + parameters.count
            try run("backward") {
                var next = gradients
                for (i, parameter) in parameters.enumerated() {
                    gradientMatrices[i] =
                        MatrixView(next, rows: parameter.rows, columns: parameter.columns).matrix
                    next += parameter.count
                }
                return callbacks.backward(
                    matrices.base, &x, &y, &gradOutput, &gradInput, gradientMatrices, callbacks.user_data)
            }
        #endif
    }
}

enum Callbacks {
    /// How many the thread is in; not inlined, as `failureCount`.
    fileprivate static var count: UnsafeMutablePointer<Int64> {
        @inline(never) get { pente_callbacks() }
    }

    /// For what waits until a layer's readers have left. A callback's call may be one of a layer's readers: two threads
    /// that each wait there for the other's would wait for ever.
    static func requireNone(_ what: StaticString) throws(PenteError) {
        if count.pointee > 0 {
            throw PenteError(.invalidState, "\(what) cannot be had within a layer's callback: it waits for other calls")
        }
    }
}

#if PENTE_CHECKED
    extension CallbackLayer {
        /// The parameters, and room for as many more.
        private func lendParameters(_ loan: Loan<Element>) throws(PenteError) -> Buffer<pente_matrix> {
            let matrices = try Buffer<pente_matrix>(count: max(2 * parameters.count, 1))
            for (i, parameter) in parameters.enumerated() {
                matrices.base[i] = try loan.lend(parameter.view, "a parameter")
            }
            return matrices
        }

        func runChecked(_ x: MatrixView<Element>, _ y: MutableMatrixView<Element>) throws(PenteError) {
            let loan = Loan<Element>("forward")
            let matrices = try lendParameters(loan)
            var (x, y) = (try loan.lend(x, "x"), try loan.lend(y, "y"))
            try loan.run { () throws(PenteError) in
                try run("forward") { callbacks.forward(matrices.base, &x, &y, callbacks.user_data) }
            }
        }

        func runChecked(
            _ gradOutput: MatrixView<Element>, _ x: MatrixView<Element>, _ y: MatrixView<Element>,
            _ gradInput: MutableMatrixView<Element>, _ gradients: UnsafeMutablePointer<Element>
        ) throws(PenteError) {
            let loan = Loan<Element>("backward")
            let matrices = try lendParameters(loan)
            var (gradOutput, x, y) = (
                try loan.lend(gradOutput, "grad_output"), try loan.lend(x, "x"), try loan.lend(y, "y")
            )
            var gradInput = try loan.lend(gradInput, "grad_input")
            var next = gradients
            for (i, parameter) in parameters.enumerated() {
                let gradient = MutableMatrixView(next, rows: parameter.rows, columns: parameter.columns)
                matrices.base[parameters.count + i] = try loan.lend(gradient, "a gradient", isCopied: true)
                next += parameter.count
            }
            try loan.run { () throws(PenteError) in
                try run("backward") {
                    callbacks.backward(
                        matrices.base, &x, &y, &gradOutput, &gradInput, matrices.base + parameters.count,
                        callbacks.user_data)
                }
            }
        }
    }
#endif

@_cdecl("pente_custom_new") @implementation
public func pente_custom_new(
    _ options: UnsafePointer<pente_custom_options>!, _ layer: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_custom_new") { () throws(PenteError) in
        let layer = try require(layer, "layer")
        guard let options = try sized(options, "options") else {
            throw PenteError(.invalidArgument, "options is NULL")
        }
        try requireKnown(options.dtype, "options")
        if options.dtype == Float.dtype {
            let made = try CallbackLayer<Float>.make(options)
            layer.pointee = try HandleTable.insert(TypedLayer(made), .layer)
            made.isOwner = true
        } else {
            let made = try CallbackLayer<Double>.make(options)
            layer.pointee = try HandleTable.insert(TypedLayer(made), .layer)
            made.isOwner = true
        }
    }
}

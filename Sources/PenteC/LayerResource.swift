import CPente
import Pente
import PenteKernels

/// A layer of either dtype: the two subclasses of each resource are how an untyped handle finds its type.
class LayerResource: Resource {
    var dtype: pente_dtype { fatalError() }
    func info() -> pente_layer_info { fatalError() }
    func parameterName(_ index: Int64) throws(PenteError) -> String { fatalError() }
    func zeroGradients() { fatalError() }
    func makeContext() -> ContextResource { fatalError() }

    /// Copies a parameter or its gradient from or to the caller's matrix.
    func copy(_ part: ParameterPart, _ name: String, to value: UnsafePointer<pente_matrix>?) throws(PenteError) {
        fatalError()
    }
    func set(_ name: String, from value: UnsafePointer<pente_matrix>?) throws(PenteError) { fatalError() }
    func view(_ part: ParameterPart, _ name: String) throws(PenteError) -> pente_matrix { fatalError() }

    func forward(
        _ context: ContextResource?, _ x: UnsafePointer<pente_matrix>?, _ y: UnsafePointer<pente_matrix>?
    ) throws(PenteError) { fatalError() }
    func backward(
        _ context: ContextResource, _ gradOutput: UnsafePointer<pente_matrix>?,
        _ gradInput: UnsafePointer<pente_matrix>?
    ) throws(PenteError) { fatalError() }
}

enum ParameterPart {
    case values, gradients
}

class ContextResource: Resource {
    let layer: Slot

    init(_ layer: Slot) {
        self.layer = layer
        layer.hold()
    }

    deinit { layer.unhold() }
}

final class TypedContext<Element: Scalar>: ContextResource {
    /// The caller's x, borrowed from forward to backward.
    var x: MatrixView<Element>?
    var sums = GradientSums<Element>()
}

final class TypedLayer<Element: Scalar>: LayerResource {
    let layer: Layer<Element>

    init(_ layer: Layer<Element>) { self.layer = layer }

    override var dtype: pente_dtype { Element.dtype }

    override func info() -> pente_layer_info {
        pente_layer_info(
            struct_size: MemoryLayout<pente_layer_info>.size, in_features: Int64(layer.inputs),
            out_features: Int64(layer.outputs), parameter_count: Int64(layer.parameters.count), dtype: Element.dtype)
    }

    override func parameterName(_ index: Int64) throws(PenteError) -> String {
        guard index >= 0, index < layer.parameters.count else {
            throw PenteError(
                .invalidArgument, "index is \(index), but the layer has \(layer.parameters.count) parameters")
        }
        return layer.parameters[Int(index)].name
    }

    override func zeroGradients() { layer.zeroGradients() }

    override func makeContext() -> ContextResource { TypedContext<Element>(slot) }

    private func parameter(_ name: String) throws(PenteError) -> Parameter<Element> {
        if let parameter = layer.parameter(named: name) { return parameter }
        var names = ""
        for parameter in layer.parameters { names += (names.isEmpty ? "" : ", ") + parameter.name }
        throw PenteError(.invalidArgument, "name is \"\(name)\", but the layer's parameters are \(names)")
    }

    private func matrix(_ part: ParameterPart, _ name: String) throws(PenteError) -> MatrixView<Element> {
        let parameter = try parameter(name)
        return part == .values ? parameter.view : parameter.gradientView
    }

    override func copy(_ part: ParameterPart, _ name: String, to value: UnsafePointer<pente_matrix>?) throws(PenteError)
    {
        let source = try matrix(part, name)
        let output = try value.output("value", of: Element.self)
        try requireSameShape(output.view.readOnly, source, name)
        try output.requireApart(from: layer)
        output.view.copy(source)
    }

    override func set(_ name: String, from value: UnsafePointer<pente_matrix>?) throws(PenteError) {
        let target = try matrix(.values, name)
        let source = try value.view("value", of: Element.self)
        try requireSameShape(source, target, name)
        let output = Output(target, "the parameter")
        try output.requireApart(from: source, "value")
        output.view.copy(source)
    }

    override func view(_ part: ParameterPart, _ name: String) throws(PenteError) -> pente_matrix {
        try matrix(part, name).matrix
    }

    private func requireSameShape(
        _ value: MatrixView<Element>, _ parameter: MatrixView<Element>, _ name: String
    ) throws(PenteError) {
        if value.rows != parameter.rows || value.columns != parameter.columns {
            throw PenteError(
                .shapeMismatch,
                "value is \(value), but \(name) is \(parameter)")
        }
    }

    override func forward(
        _ context: ContextResource?, _ x: UnsafePointer<pente_matrix>?, _ y: UnsafePointer<pente_matrix>?
    ) throws(PenteError) {
        let x = try x.view("x", of: Element.self)
        let y = try y.output("y", of: Element.self)
        let context = try context.map { (context) throws(PenteError) in try typed(context) }
        try y.requireApart(from: x, "x")
        try y.requireApart(from: layer)
        try layer.forward(x, into: y.view)
        if let context { context.x = x }
    }

    override func backward(
        _ context: ContextResource, _ gradOutput: UnsafePointer<pente_matrix>?,
        _ gradInput: UnsafePointer<pente_matrix>?
    ) throws(PenteError) {
        let context = try typed(context)
        guard let x = context.x else { throw .noForward }
        let gradOutput = try gradOutput.view("grad_output", of: Element.self)
        try gradOutput.requireApart(from: layer, "grad_output")
        let gradInput = try gradInput.outputIfAny("grad_input", of: Element.self)
        if let gradInput {
            try gradInput.requireApart(from: gradOutput, "grad_output")
            try gradInput.requireApart(from: x, "the x of the forward pass")
            try gradInput.requireApart(from: layer)
        }
        try layer.backward(gradOutput, x: x, gradInput: gradInput?.view, sums: &context.sums)
        context.x = nil
    }

    private func typed(_ context: ContextResource) throws(PenteError) -> TypedContext<Element> {
        guard context.layer == slot else { throw PenteError(.invalidArgument, "context was made for another layer") }
        return unsafeDowncast(context, to: TypedContext<Element>.self)
    }
}

import CPente
import PenteKernels

/// A layer of either dtype: the two subclasses of each resource are how an untyped handle finds its type.
///
/// Who writes a layer writes its parameters; so a chain has nothing to lock but its layers, and an activation nothing at
/// all, but for the calls that are given its very handle.
class LayerResource: Resource {
    /// A chain's layers, in their order.
    private final let children: [Slot]
    /// The layer that this is a further handle of.
    private final let original: Slot?
    /// All of them, each once: they are held.
    private final var parts = Locks()
    /// What is to be locked with them.
    private final var innerLocks = Locks()
    /// Where all its parameters and their gradients lie.
    final let memory: AddressRange
    final let dtype: pente_dtype
    final let parameterCount: Int
    /// Whether it has parameters, or runs code of the user's.
    private final let isWritable: Bool

    fileprivate init<Element>(
        _ layer: Layer<Element>, _ memory: AddressRange, children: [LayerResource], original: LayerResource?
    ) {
        dtype = Element.dtype
        parameterCount = layer.parameters.count
        isWritable = parameterCount > 0 || layer.mayFail
        self.children = children.map { $0.root.slot }
        self.original = original?.root.slot
        self.memory = memory
    }

    /// Holds a chain's layers or, for a further handle, the layer's first one.
    fileprivate final func hold(_ layers: [LayerResource]) throws(PenteError) {
        var held = Locks()
        for layer in layers { try held.add(layer.root.slot) }
        held.removeRepeats()
        for i in 0..<held.count { held[i].hold() }
        parts = held
        for i in 0..<parts.count { try parts[i].layerResource.addLocks(to: &innerLocks) }
        innerLocks.removeRepeats()
    }

    /// The layer of which this is perhaps a further handle.
    private final var root: LayerResource { original?.layerResource ?? self }

    deinit { for i in 0..<parts.count { parts[i].unhold() } }

    /// A chain's layer.
    fileprivate final func child(_ index: Int) -> LayerResource {
        root.children[index].layerResource
    }

    /// Adds what whoever holds this layer locks when it reads or writes it.
    final func addLocks(to locks: inout Locks) throws(PenteError) {
        if parts.count == 0 { if isWritable { try locks.add(slot) } } else { try locks.add(innerLocks) }
    }

    /// Runs `body` while no other call is in the way of a chain's layers; its own slot is locked.
    @inline(__always)
    final func withParts<Result>(_ access: Access, _ body: () throws(PenteError) -> Result) throws(PenteError) -> Result
    {
        try innerLocks.with(access, "a layer of the chain", body)
    }

    func info() -> pente_layer_info { fatalError() }
    func parameterInfo(_ index: Int64) throws(PenteError) -> pente_parameter_info { fatalError() }
    func resetParameters(_ seed: UInt64) { fatalError() }
    func fitScaler(_ x: UnsafePointer<pente_matrix>?) throws(PenteError) { fatalError() }
    /// A further handle's resource for a chain's layer.
    func makePart(_ index: Int64) throws(PenteError) -> LayerResource { fatalError() }
    func save(_ sgd: SGDResource?, _ path: UnsafePointer<CChar>) throws(PenteError) { fatalError() }
    func loadParameters(_ sgd: SGDResource?, _ path: UnsafePointer<CChar>) throws(PenteError) { fatalError() }
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

extension Slot {
    /// Of a layer that is held.
    fileprivate var layerResource: LayerResource { unsafeDowncast(held, to: LayerResource.self) }
}

enum ParameterPart {
    case values, gradients
}

class ContextResource: Resource {
    private final let layer: Slot
    /// The layer itself, which may have several handles.
    final let identity: ObjectIdentifier

    init(_ layer: Slot, _ identity: ObjectIdentifier) {
        self.layer = layer
        self.identity = identity
        layer.hold()
    }

    deinit { layer.unhold() }
}

final class TypedContext<Element: Scalar>: ContextResource {
    /// The caller's x, borrowed from forward to backward.
    var x: MatrixView<Element>?
    var memory = PassMemory<Element>()
    #if PENTE_CHECKED
        /// What backward has to find as forward left it.
        var seen: (x: UInt64, parameters: UInt64) = (0, 0)
    #endif
}

final class TypedLayer<Element: Scalar>: LayerResource {
    let layer: Layer<Element>

    init(_ layer: Layer<Element>, children: [LayerResource] = [], original: LayerResource? = nil) {
        self.layer = layer
        var memory = AddressRange()
        for parameter in layer.parameters {
            memory.add(parameter.view)
            memory.add(parameter.gradientView)
        }
        super.init(layer, memory, children: children, original: original)
    }

    /// Of a chain, whose layers have handles.
    static func make(_ chain: Layer<Element>, children: [LayerResource]) throws(PenteError) -> TypedLayer {
        let resource = TypedLayer(chain, children: children)
        try resource.hold(children)
        return resource
    }

    override func info() -> pente_layer_info {
        var info = pente_layer_info()
        info.struct_size = MemoryLayout<pente_layer_info>.size
        (info.in_features, info.out_features) = (Int64(layer.inputs), Int64(layer.outputs))
        info.parameter_count = Int64(layer.parameters.count)
        info.dtype = Element.dtype
        info.kind = layer.kind.rawValue
        info.layer_count = Int64(layer.children.count)
        if layer.kind == .activation {
            let function = unsafeDowncast(layer, to: Activation<Element>.self).function
            info.activation = function.asC
            info.negative_slope = function.negativeSlope
        }
        return info
    }

    private func parameter(_ index: Int64) throws(PenteError) -> Parameter<Element> {
        guard index >= 0, index < layer.parameters.count else {
            throw PenteError(
                .invalidArgument, "index is \(index), but the layer has \(layer.parameters.count) parameters")
        }
        return layer.parameters[Int(index)]
    }

    override func parameterName(_ index: Int64) throws(PenteError) -> String { try parameter(index).name }

    override func parameterInfo(_ index: Int64) throws(PenteError) -> pente_parameter_info {
        let parameter = try parameter(index)
        return pente_parameter_info(
            struct_size: MemoryLayout<pente_parameter_info>.size, rows: Int64(parameter.rows),
            columns: Int64(parameter.columns), rank: Int32(parameter.rank), trained: parameter.isTrained ? 1 : 0)
    }

    override func resetParameters(_ seed: UInt64) { layer.resetParameters(seed: seed) }

    override func fitScaler(_ x: UnsafePointer<pente_matrix>?) throws(PenteError) {
        if layer.kind != .scaler {
            throw PenteError(.invalidArgument, "scaler is \(layer.summary), which is no scaler")
        }
        let x: MatrixView<Element> = try x.view("x")
        try x.requireApart(from: layer, "x")
        try unsafeDowncast(layer, to: Scaler<Element>.self).fit(x)
    }

    override func makePart(_ index: Int64) throws(PenteError) -> LayerResource {
        let children = layer.children
        if children.isEmpty { throw PenteError(.invalidArgument, "chain is \(layer.summary), which is no chain") }
        guard index >= 0, index < children.count else {
            throw PenteError(.invalidArgument, "index is \(index), but the chain has \(children.count) layers")
        }
        let original = child(Int(index))
        let part = TypedLayer(children[Int(index)], original: original)
        try part.hold([original])
        return part
    }

    private func typed(_ sgd: SGDResource?) throws(PenteError) -> SGD<Element>? {
        guard let sgd else { return nil }
        if sgd.dtype != dtype {
            throw PenteError(.invalidArgument, "sgd does not hold the layer's parameters, whose dtype is another")
        }
        return unsafeDowncast(sgd, to: TypedSGD<Element>.self).sgd
    }

    override func save(_ sgd: SGDResource?, _ path: UnsafePointer<CChar>) throws(PenteError) {
        try layer.save(to: path, sgd: typed(sgd))
    }

    override func loadParameters(_ sgd: SGDResource?, _ path: UnsafePointer<CChar>) throws(PenteError) {
        try layer.loadParameters(from: path, sgd: typed(sgd))
    }

    override func zeroGradients() { layer.zeroGradients() }

    override func makeContext() -> ContextResource { TypedContext<Element>(slot, ObjectIdentifier(layer)) }

    private func parameter(_ name: String) throws(PenteError) -> Parameter<Element> {
        if let parameter = layer.parameter(named: name) { return parameter }
        var names: Message = layer.parameters.isEmpty ? "none" : "\(layer.parameters[0].name)"
        for parameter in layer.parameters.prefix(8).dropFirst() { names = "\(names), \(parameter.name)" }
        if layer.parameters.count > 8 { names = "\(names), ..." }
        throw PenteError(.invalidArgument, "name is \"\(name)\", but the layer's parameters are \(names)")
    }

    private func matrix(_ part: ParameterPart, _ parameter: Parameter<Element>) -> MatrixView<Element> {
        part == .values ? parameter.view : parameter.gradientView
    }

    override func copy(_ part: ParameterPart, _ name: String, to value: UnsafePointer<pente_matrix>?) throws(PenteError)
    {
        let parameter = try parameter(name)
        let output = try value.output("value", of: Element.self)
        try parameter.requireShape(of: output.view.readOnly, "value")
        try output.view.readOnly.requireApart(from: layer, output.name)
        output.view.copy(matrix(part, parameter))
    }

    override func set(_ name: String, from value: UnsafePointer<pente_matrix>?) throws(PenteError) {
        let parameter = try parameter(name)
        let source = try value.view("value", of: Element.self)
        try parameter.requireShape(of: source, "value")
        let output = Output(parameter.view, "the parameter")
        try output.requireDistinct(from: source, "value")
        output.view.copy(source)
    }

    override func view(_ part: ParameterPart, _ name: String) throws(PenteError) -> pente_matrix {
        try matrix(part, parameter(name)).matrix
    }

    @_optimize(speed)
    override func forward(
        _ context: ContextResource?, _ x: UnsafePointer<pente_matrix>?, _ y: UnsafePointer<pente_matrix>?
    ) throws(PenteError) {
        let x = try x.view("x", of: Element.self)
        let y = try y.output("y", of: Element.self)
        let context = try context.map { (context) throws(PenteError) in try typed(context) }
        try y.requireApart(from: x, "x")
        try require(y.view.readOnly, y.name)
        guard let context else { return try layer.forward(x, into: y.view) }
        try layer.forward(x, into: y.view, memory: &context.memory)
        context.x = x
        #if PENTE_CHECKED
            context.seen = (x.hash, layer.parameterHash)
        #endif
    }

    @_optimize(speed)
    override func backward(
        _ context: ContextResource, _ gradOutput: UnsafePointer<pente_matrix>?,
        _ gradInput: UnsafePointer<pente_matrix>?
    ) throws(PenteError) {
        let context = try typed(context)
        guard let x = context.x, context.memory.holdsPass else { throw .noForward }
        #if PENTE_CHECKED
            try context.requireUnchanged(x, layer)
        #endif
        let gradOutput = try gradOutput.view("grad_output", of: Element.self)
        try require(gradOutput, "grad_output")
        let gradInput = try gradInput.outputIfAny("grad_input", of: Element.self)
        if let gradInput {
            try gradInput.requireApart(from: gradOutput, "grad_output")
            try gradInput.requireApart(from: x, "the x of the forward pass")
            try require(gradInput.view.readOnly, gradInput.name)
        }
        try layer.backward(gradOutput, x: x, gradInput: gradInput?.view, memory: &context.memory)
        context.x = nil
    }

    /// Throws if a matrix of a step lies in the layer's parameters or gradients.
    @inline(__always)
    private func require(_ view: MatrixView<Element>, _ name: StaticString) throws(PenteError) {
        if !memory.isApart(from: view) { try view.requireApart(from: layer, name) }
    }

    private func typed(_ context: ContextResource) throws(PenteError) -> TypedContext<Element> {
        guard context.identity == ObjectIdentifier(layer) else {
            throw PenteError(.invalidArgument, "context was made for another layer")
        }
        return unsafeDowncast(context, to: TypedContext<Element>.self)
    }
}

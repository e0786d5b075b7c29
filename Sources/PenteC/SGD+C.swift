// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteKernels

/// An optimizer of either dtype.
class SGDResource: Resource {
    /// Its layers, which it holds, each once.
    private final var layers: [Slot] = []
    /// What is to be locked with them.
    private(set) final var locks = Locks()
    /// Where their parameters and gradients lie.
    private(set) final var memory = AddressRange()
    /// A run is in its callback, and counts on the layers.
    final var isFitting = false

    final let dtype: pente_dtype

    fileprivate init(_ dtype: pente_dtype) { self.dtype = dtype }

    func info() -> pente_sgd_info { fatalError() }
    func add(_ layers: [LayerResource], _ options: SGDOptions) throws(PenteError) { fatalError() }
    func options(_ group: Int64) throws(PenteError) -> SGDOptions { fatalError() }
    func setOptions(_ options: SGDOptions, _ group: Int64) throws(PenteError) { fatalError() }
    func step() throws(PenteError) { fatalError() }
    func zeroGradients() { fatalError() }
    func clipGradients(_ maxNorm: Double) throws(PenteError) -> Double { fatalError() }
    func parameterInfo(_ index: Int64) throws(PenteError) -> pente_sgd_parameter_info { fatalError() }
    func copyBuffer(_ index: Int64, to value: UnsafePointer<pente_matrix>?) throws(PenteError) { fatalError() }
    func setState(_ state: SGDStateArrays) throws(PenteError) { fatalError() }

    /// What is to be locked with further layers, too.
    fileprivate final func locks(with added: [LayerResource]) throws(PenteError) -> Locks {
        var all = Locks()
        try all.add(locks)
        for layer in added { try layer.addLocks(to: &all) }
        all.removeRepeats()
        return all
    }

    fileprivate final func keep(_ added: [LayerResource], _ locks: consuming Locks) {
        for layer in added where !layers.contains(where: { $0 == layer.slot }) {
            layer.slot.hold()
            layers.append(layer.slot)
            memory.add(layer.memory)
        }
        self.locks = locks
    }

    deinit { for layer in layers { layer.unhold() } }
}

final class TypedSGD<Element: Scalar>: SGDResource {
    let sgd: SGD<Element>

    private init(_ sgd: SGD<Element>) {
        self.sgd = sgd
        super.init(Element.dtype)
    }

    static func make(_ layers: [LayerResource], _ options: SGDOptions) throws(PenteError) -> TypedSGD {
        let sgd = TypedSGD(try SGD.make(layers.map(typed), options: options))
        sgd.keep(layers, try sgd.locks(with: layers))
        return sgd
    }

    private static func typed(_ layer: LayerResource) -> Layer<Element> {
        unsafeDowncast(layer, to: TypedLayer<Element>.self).layer
    }

    override func info() -> pente_sgd_info {
        pente_sgd_info(
            struct_size: MemoryLayout<pente_sgd_info>.size, group_count: Int64(sgd.groupCount),
            step_count: Int64(sgd.stepCount), parameter_count: Int64(sgd.states.count))
    }

    override func add(_ layers: [LayerResource], _ options: SGDOptions) throws(PenteError) {
        let locks = try locks(with: layers)
        try sgd.addGroup(layers.map(Self.typed), options: options)
        keep(layers, locks)
    }

    override func options(_ group: Int64) throws(PenteError) -> SGDOptions { try sgd.options(group: Int(group)) }

    override func setOptions(_ options: SGDOptions, _ group: Int64) throws(PenteError) {
        try sgd.setOptions(options, group: Int(group))
    }

    override func step() throws(PenteError) { try sgd.step() }

    override func zeroGradients() { sgd.zeroGradients() }

    override func clipGradients(_ maxNorm: Double) throws(PenteError) -> Double {
        try sgd.clipGradients(maxNorm: maxNorm)
    }

    override func parameterInfo(_ index: Int64) throws(PenteError) -> pente_sgd_parameter_info {
        let state = try sgd.state(Int(index))
        return pente_sgd_parameter_info(
            struct_size: MemoryLayout<pente_sgd_parameter_info>.size, group: Int64(state.group),
            rows: Int64(state.parameter.rows), columns: Int64(state.parameter.columns),
            rank: Int32(state.parameter.rank), has_momentum_buffer: state.hasStepped ? 1 : 0)
    }

    override func copyBuffer(_ index: Int64, to value: UnsafePointer<pente_matrix>?) throws(PenteError) {
        let state = try sgd.state(Int(index))
        let output = try value.output("value", of: Element.self)
        try state.parameter.requireShape(of: output.view.readOnly, "value")
        guard let buffer = state.bufferView else {
            throw PenteError(.invalidState, "\(state.parameter.name) has no momentum buffer")
        }
        output.view.copy(buffer)
    }

    override func setState(_ state: SGDStateArrays) throws(PenteError) {
        try sgd.setState(
            groupCount: state.groupCount, parameterCount: state.parameterCount, stepCount: state.stepCount,
            options: { (i) throws(PenteError) in try SGDOptions(state.options + i) },
            withBuffer: { (i, body) throws(PenteError) in
                try body(state.momentumBuffers[i].viewIfAny("momentum_buffers"))
            })
    }
}

/// A state as C gives it.
struct SGDStateArrays {
    let options: UnsafePointer<pente_sgd_options>
    let groupCount: Int
    let momentumBuffers: UnsafePointer<UnsafePointer<pente_matrix>?>
    let parameterCount: Int
    let stepCount: Int
}

extension SGDOptions {
    fileprivate init(_ options: UnsafePointer<pente_sgd_options>?) throws(PenteError) {
        self.init()
        guard let options = try sized(options, "options") else { return }
        lr = options.lr
        momentum = options.momentum
        dampening = options.dampening
        weightDecay = options.weight_decay
        nesterov = options.nesterov != 0
        maximize = options.maximize != 0
    }

    fileprivate var asC: pente_sgd_options {
        pente_sgd_options(
            struct_size: MemoryLayout<pente_sgd_options>.size, lr: lr, momentum: momentum, dampening: dampening,
            weight_decay: weightDecay, nesterov: nesterov ? 1 : 0, maximize: maximize ? 1 : 0)
    }
}

@inline(never)
func withSGD(
    _ handle: OpaquePointer?, _ access: Access, _ body: (SGDResource) throws(PenteError) -> Void
) throws(PenteError) {
    try HandleTable.withResource(handle, .sgd, access, "sgd") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: SGDResource.self))
    }
}

@inline(__always)
private func withSGDOfStep<Result>(
    _ handle: OpaquePointer?, _ access: Access, _ body: (SGDResource) throws(PenteError) -> Result
) throws(PenteError) -> Result {
    try HandleTable.with(handle, .sgd, access, "sgd") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: SGDResource.self))
    }
}

@_cdecl("pente_sgd_new") @implementation
public func pente_sgd_new(
    _ layers: UnsafePointer<OpaquePointer?>!, _ count: Int64, _ options: UnsafePointer<pente_sgd_options>!,
    _ sgd: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_sgd_new") { () throws(PenteError) in
        let sgd = try require(sgd, "sgd")
        let options = try SGDOptions(options)
        try withLayers(layers, count, dtype: nil, mayRepeat: false) { (layers) throws(PenteError) in
            let resource: SGDResource =
                layers[0].dtype == Float.dtype
                ? try TypedSGD<Float>.make(layers, options) : try TypedSGD<Double>.make(layers, options)
            sgd.pointee = try HandleTable.insert(resource, .sgd)
        }
    }
}

@_cdecl("pente_sgd_free") @implementation
public func pente_sgd_free(_ sgd: OpaquePointer!) -> pente_status {
    freeing("pente_sgd_free", sgd, .sgd, "sgd")
}

@_cdecl("pente_sgd_add_group") @implementation
public func pente_sgd_add_group(
    _ sgd: OpaquePointer!, _ layers: UnsafePointer<OpaquePointer?>!, _ count: Int64,
    _ options: UnsafePointer<pente_sgd_options>!
) -> pente_status {
    status("pente_sgd_add_group") { () throws(PenteError) in
        try withSGD(sgd, .write) { (sgd) throws(PenteError) in
            let options = try SGDOptions(options)
            try sgd.requireNotFitting()
            try withLayers(layers, count, dtype: sgd.dtype, mayRepeat: false) { (layers) throws(PenteError) in
                try sgd.add(layers, options)
            }
        }
    }
}

@_cdecl("pente_sgd_get_options") @implementation
public func pente_sgd_get_options(
    _ sgd: OpaquePointer!, _ group: Int64, _ options: UnsafeMutablePointer<pente_sgd_options>!
) -> pente_status {
    status("pente_sgd_get_options") { () throws(PenteError) in
        try withSGD(sgd, .read) { (sgd) throws(PenteError) in
            let options = try require(options, "options")
            try requireSized(options, "options")
            options.pointee = try sgd.options(group).asC
        }
    }
}

@_cdecl("pente_sgd_get_info") @implementation
public func pente_sgd_get_info(_ sgd: OpaquePointer!, _ info: UnsafeMutablePointer<pente_sgd_info>!) -> pente_status {
    status("pente_sgd_get_info") { () throws(PenteError) in
        try withSGD(sgd, .read) { (sgd) throws(PenteError) in
            let info = try require(info, "info")
            try requireSized(info, "info")
            info.pointee = sgd.info()
        }
    }
}

@_cdecl("pente_sgd_set_options") @implementation
public func pente_sgd_set_options(
    _ sgd: OpaquePointer!, _ group: Int64, _ options: UnsafePointer<pente_sgd_options>!
) -> pente_status {
    status("pente_sgd_set_options") { () throws(PenteError) in
        try withSGD(sgd, .write) { (sgd) throws(PenteError) in
            try sgd.setOptions(SGDOptions(options), group)
        }
    }
}

@_cdecl("pente_sgd_set_lr") @implementation
public func pente_sgd_set_lr(_ sgd: OpaquePointer!, _ group: Int64, _ lr: Double) -> pente_status {
    status("pente_sgd_set_lr") { () throws(PenteError) in
        try withSGD(sgd, .write) { (sgd) throws(PenteError) in
            var options = try sgd.options(group)
            options.lr = lr
            try sgd.setOptions(options, group)
        }
    }
}

@_cdecl("pente_sgd_step") @implementation
public func pente_sgd_step(_ sgd: OpaquePointer!) -> pente_status {
    statusOfStep("pente_sgd_step") { () throws(PenteError) in
        try withSGDOfStep(sgd, .write) { (sgd) throws(PenteError) in
            try sgd.withLayers { () throws(PenteError) in try sgd.step() }
        }
    }
}

@_cdecl("pente_sgd_zero_gradients") @implementation
public func pente_sgd_zero_gradients(_ sgd: OpaquePointer!) -> pente_status {
    statusOfStep("pente_sgd_zero_gradients") { () throws(PenteError) in
        try withSGDOfStep(sgd, .read) { (sgd) throws(PenteError) in
            try sgd.withLayers { () throws(PenteError) in sgd.zeroGradients() }
        }
    }
}

@_cdecl("pente_sgd_clip_gradients") @implementation
public func pente_sgd_clip_gradients(
    _ sgd: OpaquePointer!, _ max_norm: Double, _ norm: UnsafeMutablePointer<Double>!
) -> pente_status {
    status("pente_sgd_clip_gradients") { () throws(PenteError) in
        try withSGD(sgd, .write) { (sgd) throws(PenteError) in
            let value = try sgd.withLayers { () throws(PenteError) in try sgd.clipGradients(max_norm) }
            norm?.pointee = value
        }
    }
}

@_cdecl("pente_sgd_get_parameter_info") @implementation
public func pente_sgd_get_parameter_info(
    _ sgd: OpaquePointer!, _ index: Int64, _ info: UnsafeMutablePointer<pente_sgd_parameter_info>!
) -> pente_status {
    status("pente_sgd_get_parameter_info") { () throws(PenteError) in
        try withSGD(sgd, .read) { (sgd) throws(PenteError) in
            let info = try require(info, "info")
            try requireSized(info, "info")
            info.pointee = try sgd.parameterInfo(index)
        }
    }
}

@_cdecl("pente_sgd_get_momentum_buffer") @implementation
public func pente_sgd_get_momentum_buffer(
    _ sgd: OpaquePointer!, _ index: Int64, _ value: UnsafePointer<pente_matrix>!
) -> pente_status {
    status("pente_sgd_get_momentum_buffer") { () throws(PenteError) in
        try withSGD(sgd, .read) { (sgd) throws(PenteError) in try sgd.copyBuffer(index, to: value) }
    }
}

@_cdecl("pente_sgd_set_state") @implementation
public func pente_sgd_set_state(
    _ sgd: OpaquePointer!, _ options: UnsafePointer<pente_sgd_options>!, _ group_count: Int64,
    _ momentum_buffers: UnsafePointer<UnsafePointer<pente_matrix>?>!, _ parameter_count: Int64, _ step_count: Int64
) -> pente_status {
    status("pente_sgd_set_state") { () throws(PenteError) in
        try withSGD(sgd, .write) { (sgd) throws(PenteError) in
            let state = SGDStateArrays(
                options: try require(options, "options"), groupCount: Int(group_count),
                momentumBuffers: try require(momentum_buffers, "momentum_buffers"),
                parameterCount: Int(parameter_count), stepCount: Int(step_count))
            try sgd.requireNotFitting()
            try sgd.setState(state)
        }
    }
}

extension SGDResource {
    fileprivate final func requireNotFitting() throws(PenteError) {
        if isFitting { throw PenteError(.busy, "sgd is in a fit, whose groups and state stay") }
    }

    /// Runs `body` while no other call uses the layers.
    @inline(__always)
    func withLayers<Result>(_ body: () throws(PenteError) -> Result) throws(PenteError) -> Result {
        try locks.with(.write, "a layer of the optimizer", body)
    }
}

// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente

// What makes layers, and what only one kind of them has.

@_cdecl("pente_linear_new") @implementation
public func pente_linear_new(
    _ in_features: Int64, _ out_features: Int64, _ options: UnsafePointer<pente_linear_options>!,
    _ layer: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_linear_new") { () throws(PenteError) in
        let layer = try require(layer, "layer")
        var dtype = Float.dtype
        var bias = true
        var seed: UInt64 = 0
        if let options = try sized(options, "options") {
            try requireKnown(options.dtype, "options")
            (dtype, bias, seed) = (options.dtype, options.bias != 0, options.seed)
        }
        let (inputs, outputs) = (Int(in_features), Int(out_features))
        let resource: LayerResource =
            dtype == Float.dtype
            ? TypedLayer(try Linear<Float>.make(inputs: inputs, outputs: outputs, bias: bias))
            : TypedLayer(try Linear<Double>.make(inputs: inputs, outputs: outputs, bias: bias))
        resource.resetParameters(seed)
        layer.pointee = try HandleTable.insert(resource, .layer)
    }
}

@_cdecl("pente_activation_new") @implementation
public func pente_activation_new(
    _ activation: pente_activation, _ options: UnsafePointer<pente_activation_options>!,
    _ layer: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_activation_new") { () throws(PenteError) in
        let layer = try require(layer, "layer")
        var dtype = Float.dtype
        var slope = 0.01
        if let options = try sized(options, "options") {
            try requireKnown(options.dtype, "options")
            (dtype, slope) = (options.dtype, options.negative_slope)
        }
        let function = try ActivationFunction(activation, slope)
        let resource: LayerResource =
            dtype == Float.dtype
            ? TypedLayer(try Activation<Float>.make(function)) : TypedLayer(try Activation<Double>.make(function))
        layer.pointee = try HandleTable.insert(resource, .layer)
    }
}

extension ActivationFunction {
    fileprivate init(_ activation: pente_activation, _ negativeSlope: Double) throws(PenteError) {
        switch Int(activation) {
        case PENTE_RELU: self = .relu
        case PENTE_LEAKY_RELU: self = .leakyReLU(negativeSlope: negativeSlope)
        case PENTE_TANH: self = .tanh
        case PENTE_SIGMOID: self = .sigmoid
        case PENTE_SOFTPLUS: self = .softplus
        default: throw PenteError(.invalidArgument, "activation is \(activation), which is no PENTE_RELU or other")
        }
    }

    var asC: pente_activation {
        switch self {
        case .relu: pente_activation(PENTE_RELU)
        case .leakyReLU: pente_activation(PENTE_LEAKY_RELU)
        case .tanh: pente_activation(PENTE_TANH)
        case .sigmoid: pente_activation(PENTE_SIGMOID)
        case .softplus: pente_activation(PENTE_SOFTPLUS)
        }
    }
}

@_cdecl("pente_scaler_new") @implementation
public func pente_scaler_new(
    _ features: Int64, _ dtype: pente_dtype, _ scaler: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_scaler_new") { () throws(PenteError) in
        let scaler = try require(scaler, "scaler")
        guard dtype == Float.dtype || dtype == Double.dtype else {
            throw PenteError(.invalidArgument, "dtype is \(dtype), which is neither PENTE_FLOAT32 nor PENTE_FLOAT64")
        }
        let resource: LayerResource =
            dtype == Float.dtype
            ? TypedLayer(try Scaler<Float>.make(features: Int(features)))
            : TypedLayer(try Scaler<Double>.make(features: Int(features)))
        scaler.pointee = try HandleTable.insert(resource, .layer)
    }
}

@_cdecl("pente_scaler_fit") @implementation
public func pente_scaler_fit(_ scaler: OpaquePointer!, _ x: UnsafePointer<pente_matrix>!) -> pente_status {
    status("pente_scaler_fit") { () throws(PenteError) in
        try withLayer(scaler, .write, "scaler") { (scaler) throws(PenteError) in try scaler.fitScaler(x) }
    }
}

// MARK: Chains

@_cdecl("pente_chain_new") @implementation
public func pente_chain_new(
    _ layers: UnsafePointer<OpaquePointer?>!, _ count: Int64, _ chain: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_chain_new") { () throws(PenteError) in
        let chain = try require(chain, "chain")
        try withLayers(layers, count, dtype: nil, mayRepeat: true) { (layers) throws(PenteError) in
            let resource =
                layers[0].dtype == Float.dtype
                ? try TypedLayer<Float>.makeChain(layers) : try TypedLayer<Double>.makeChain(layers)
            chain.pointee = try HandleTable.insert(resource, .layer)
        }
    }
}

@_cdecl("pente_chain_get_layer") @implementation
public func pente_chain_get_layer(
    _ chain: OpaquePointer!, _ index: Int64, _ layer: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_chain_get_layer") { () throws(PenteError) in
        // What a chain's layers are never changes: to lock all of them for each of them would take too long.
        try HandleTable.withResource(chain, .layer, .read, "chain") { (chain) throws(PenteError) in
            let layer = try require(layer, "layer")
            let part = try unsafeDowncast(chain, to: LayerResource.self).makePart(index)
            try part.with(.read) { (part) throws(PenteError) in layer.pointee = try HandleTable.insert(part, .layer) }
        }
    }
}

extension TypedLayer {
    /// The layers are of this dtype.
    fileprivate static func makeChain(_ layers: [LayerResource]) throws(PenteError) -> LayerResource {
        let parts = layers.map { unsafeDowncast($0, to: TypedLayer.self).layer }
        return try TypedLayer.make(try Chain.make(parts), children: layers)
    }
}

/// Runs `body` with the layers of an array of handles, which are of one dtype.
func withLayers(
    _ handles: UnsafePointer<OpaquePointer?>?, _ count: Int64, dtype: pente_dtype?, mayRepeat: Bool,
    _ body: ([LayerResource]) throws(PenteError) -> Void
) throws(PenteError) {
    let handles = try require(handles, "layers")
    if count < 1 { throw PenteError(.invalidArgument, "count is \(count); it must be at least 1") }
    // About what the arrays and objects of an optimizer or a chain take for each layer, and for each parameter.
    try Reserve.with(count: Int(count), bytesEach: 1024) { () throws(PenteError) in
        let (layers, held) = try collect(handles, Int(count), dtype: dtype, mayRepeat: mayRepeat)
        defer { for slot in held { slot.unhold() } }
        let parameterCount = layers.reduce(0) { $0 + $1.parameterCount }
        try Reserve.with(count: parameterCount, bytesEach: 1024) { () throws(PenteError) in try body(layers) }
    }
}

/// The layers, and the places that are held for them.
private func collect(
    _ handles: UnsafePointer<OpaquePointer?>, _ count: Int, dtype: pente_dtype?, mayRepeat: Bool
) throws(PenteError) -> ([LayerResource], [Slot]) {
    var layers: [LayerResource] = []
    var held: [Slot] = []
    do throws(PenteError) {
        for i in 0..<count {
            try HandleTable.withResource(handles[i], .layer, .read, Message("layers[\(i)]").text) {
                (resource) throws(PenteError) in
                if held.contains(where: { $0 == resource.slot }) {
                    if !mayRepeat { throw PenteError(.invalidArgument, "layers[\(i)] is given twice") }
                } else {
                    resource.slot.hold()
                    held.append(resource.slot)
                }
                layers.append(unsafeDowncast(resource, to: LayerResource.self))
            }
            let layer = layers[i]
            let expected = dtype ?? layers[0].dtype
            if layer.dtype != expected {
                let names = layer.dtype == Float.dtype ? ("float32", "float64") : ("float64", "float32")
                throw PenteError(
                    .dtypeMismatch,
                    "layers[\(i)] is \(names.0), but \(dtype == nil ? "layers[0]" : "the optimizer") is \(names.1)")
            }
        }
    } catch {
        for slot in held { slot.unhold() }
        throw error
    }
    return (layers, held)
}

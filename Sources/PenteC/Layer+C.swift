// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteSystem

/// Runs `body` with the layer of a handle. It returns nothing, here and below: there is one function for all calls.
@inline(never)
func withLayer(
    _ handle: OpaquePointer?, _ access: Access, _ name: String = "layer",
    _ body: (LayerResource) throws(PenteError) -> Void
) throws(PenteError) {
    try HandleTable.withResource(handle, .layer, access, name) { (resource) throws(PenteError) in
        try unsafeDowncast(resource, to: LayerResource.self).with(access, body)
    }
}

extension LayerResource {
    /// `withParts`, for what is not called in each step.
    @inline(never)
    final func with(_ access: Access, _ body: (LayerResource) throws(PenteError) -> Void) throws(PenteError) {
        try withParts(access) { () throws(PenteError) in try body(self) }
    }
}

@inline(__always)
private func withLayerOfStep<Result>(
    _ handle: OpaquePointer?, _ access: Access, _ name: @autoclosure () -> String = "layer",
    _ body: (LayerResource) throws(PenteError) -> Result
) throws(PenteError) -> Result {
    try HandleTable.with(handle, .layer, access, name()) { (resource) throws(PenteError) in
        let layer = unsafeDowncast(resource, to: LayerResource.self)
        return try layer.withParts(access) { () throws(PenteError) in try body(layer) }
    }
}

@inline(__always)
private func withContext<Result>(
    _ handle: OpaquePointer?, _ body: (ContextResource) throws(PenteError) -> Result
) throws(PenteError) -> Result {
    try HandleTable.with(handle, .context, .write, "context") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: ContextResource.self))
    }
}

func text(_ name: UnsafePointer<CChar>?) throws(PenteError) -> String {
    // A longer one is no parameter's.
    String(characters: try require(name, "name"), upTo: 1024)
}

@_cdecl("pente_layer_free") @implementation
public func pente_layer_free(_ layer: OpaquePointer!) -> pente_status {
    freeing("pente_layer_free", layer, .layer, "layer")
}

@_cdecl("pente_layer_get_info") @implementation
public func pente_layer_get_info(_ layer: OpaquePointer!, _ info: UnsafeMutablePointer<pente_layer_info>!)
    -> pente_status
{
    status("pente_layer_get_info") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            let info = try require(info, "info")
            try requireSized(info, "info")
            info.pointee = layer.info()
        }
    }
}

@_cdecl("pente_layer_parameter_name") @implementation
public func pente_layer_parameter_name(
    _ layer: OpaquePointer!, _ index: Int64, _ name: UnsafeMutablePointer<CChar>!, _ capacity: Int
) -> pente_status {
    status("pente_layer_parameter_name") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            let text = try layer.parameterName(index)
            let buffer = try require(name, "name")
            let length = text.withBytes { $0.count }
            // A size_t above Int.max, as which it is imported, comes out negative.
            if capacity >= 0 && capacity <= length {
                throw PenteError(.invalidArgument, "capacity is \(capacity), but the name takes \(length + 1) bytes")
            }
            text.withBytes { for i in 0..<length { buffer[i] = CChar(bitPattern: $0[i]) } }
            buffer[length] = 0
        }
    }
}

@_cdecl("pente_layer_get_parameter_info") @implementation
public func pente_layer_get_parameter_info(
    _ layer: OpaquePointer!, _ index: Int64, _ info: UnsafeMutablePointer<pente_parameter_info>!
) -> pente_status {
    status("pente_layer_get_parameter_info") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            let info = try require(info, "info")
            try requireSized(info, "info")
            info.pointee = try layer.parameterInfo(index)
        }
    }
}

@_cdecl("pente_layer_get_parameter") @implementation
public func pente_layer_get_parameter(
    _ layer: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ value: UnsafePointer<pente_matrix>!
) -> pente_status {
    status("pente_layer_get_parameter") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in try layer.copy(.values, text(name), to: value) }
    }
}

@_cdecl("pente_layer_get_gradient") @implementation
public func pente_layer_get_gradient(
    _ layer: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ value: UnsafePointer<pente_matrix>!
) -> pente_status {
    status("pente_layer_get_gradient") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in try layer.copy(.gradients, text(name), to: value) }
    }
}

@_cdecl("pente_layer_set_parameter") @implementation
public func pente_layer_set_parameter(
    _ layer: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ value: UnsafePointer<pente_matrix>!
) -> pente_status {
    status("pente_layer_set_parameter") { () throws(PenteError) in
        try withLayer(layer, .write) { (layer) throws(PenteError) in try layer.set(text(name), from: value) }
    }
}

@_cdecl("pente_layer_parameter_view") @implementation
public func pente_layer_parameter_view(
    _ layer: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ view: UnsafeMutablePointer<pente_matrix>!
) -> pente_status {
    status("pente_layer_parameter_view") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            try require(view, "view").pointee = layer.view(.values, text(name))
        }
    }
}

@_cdecl("pente_layer_gradient_view") @implementation
public func pente_layer_gradient_view(
    _ layer: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ view: UnsafeMutablePointer<pente_matrix>!
) -> pente_status {
    status("pente_layer_gradient_view") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            try require(view, "view").pointee = layer.view(.gradients, text(name))
        }
    }
}

@_cdecl("pente_layer_zero_gradients") @implementation
public func pente_layer_zero_gradients(_ layer: OpaquePointer!) -> pente_status {
    status("pente_layer_zero_gradients") { () throws(PenteError) in
        try withLayerOfStep(layer, .write) { layer in layer.zeroGradients() }
    }
}

@_cdecl("pente_layer_reset_parameters") @implementation
public func pente_layer_reset_parameters(_ layer: OpaquePointer!, _ seed: UInt64) -> pente_status {
    status("pente_layer_reset_parameters") { () throws(PenteError) in
        try withLayer(layer, .write) { layer in layer.resetParameters(seed) }
    }
}

@_cdecl("pente_context_new") @implementation
public func pente_context_new(_ layer: OpaquePointer!, _ context: UnsafeMutablePointer<OpaquePointer?>!) -> pente_status
{
    status("pente_context_new") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            let context = try require(context, "context")
            context.pointee = try HandleTable.insert(layer.makeContext(), .context)
        }
    }
}

@_cdecl("pente_context_free") @implementation
public func pente_context_free(_ context: OpaquePointer!) -> pente_status {
    freeing("pente_context_free", context, .context, "context")
}

@_cdecl("pente_layer_forward") @implementation
public func pente_layer_forward(
    _ layer: OpaquePointer!, _ context: OpaquePointer!, _ x: UnsafePointer<pente_matrix>!,
    _ y: UnsafePointer<pente_matrix>!
) -> pente_status {
    statusOfStep("pente_layer_forward") { () throws(PenteError) in
        try withLayerOfStep(layer, .read) { (layer) throws(PenteError) in
            if context == nil { return try layer.forward(nil, x, y) }
            try withContext(context) { (context) throws(PenteError) in try layer.forward(context, x, y) }
        }
    }
}

@_cdecl("pente_layer_backward") @implementation
public func pente_layer_backward(
    _ layer: OpaquePointer!, _ context: OpaquePointer!, _ grad_output: UnsafePointer<pente_matrix>!,
    _ grad_input: UnsafePointer<pente_matrix>!
) -> pente_status {
    statusOfStep("pente_layer_backward") { () throws(PenteError) in
        try withLayerOfStep(layer, .write) { (layer) throws(PenteError) in
            try withContext(context) { (context) throws(PenteError) in
                try layer.backward(context, grad_output, grad_input)
            }
        }
    }
}

// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente

@_cdecl("pente_layer_save") @implementation
public func pente_layer_save(
    _ layer: OpaquePointer!, _ sgd: OpaquePointer!, _ path: UnsafePointer<CChar>!
) -> pente_status {
    status("pente_layer_save") { () throws(PenteError) in
        let path = try require(path, "path")
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            try withSGDIfAny(sgd, .read) { (sgd) throws(PenteError) in try layer.save(sgd, path) }
        }
    }
}

@_cdecl("pente_layer_load_parameters") @implementation
public func pente_layer_load_parameters(
    _ layer: OpaquePointer!, _ sgd: OpaquePointer!, _ path: UnsafePointer<CChar>!
) -> pente_status {
    status("pente_layer_load_parameters") { () throws(PenteError) in
        let path = try require(path, "path")
        try withLayer(layer, .write) { (layer) throws(PenteError) in
            try withSGDIfAny(sgd, .write) { (sgd) throws(PenteError) in try layer.loadParameters(sgd, path) }
        }
    }
}

@_cdecl("pente_layer_load") @implementation
public func pente_layer_load(
    _ path: UnsafePointer<CChar>!, _ layer: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_layer_load") { () throws(PenteError) in
        let path = try require(path, "path")
        let layer = try require(layer, "layer")
        switch try loadLayer(from: path) {
        case .float32(let loaded): layer.pointee = try insertAll(loaded)
        case .float64(let loaded): layer.pointee = try insertAll(loaded)
        }
    }
}

@_cdecl("pente_checkpoint_get_info") @implementation
public func pente_checkpoint_get_info(
    _ path: UnsafePointer<CChar>!, _ info: UnsafeMutablePointer<pente_checkpoint_info>!
) -> pente_status {
    status("pente_checkpoint_get_info") { () throws(PenteError) in
        let path = try require(path, "path")
        let info = try require(info, "info")
        try requireSized(info, "info")
        let run = try savedRun(at: path)
        info.pointee.epochs = Int64(run.epochs)
        info.pointee.row = Int64(run.row)
    }
}

private func insertAll<Element: Scalar>(_ layer: Layer<Element>) throws(PenteError) -> OpaquePointer? {
    let count = layer.parameters.count + layer.children.count
    return try Reserve.with(count: count, bytesEach: 1024) { () throws(PenteError) in try insert(layer) }
}

/// A handle for a new layer. A chain's layers have places in the table, to be locked in, and no handles.
private func insert<Element: Scalar>(_ layer: Layer<Element>) throws(PenteError) -> OpaquePointer? {
    var handles: [OpaquePointer?] = []
    defer { for handle in handles { try? HandleTable.remove(handle, .layer, "layer") } }
    var parts: [LayerResource] = []
    for child in layer.children {
        let handle = try insert(child)
        handles.append(handle)
        try HandleTable.withResource(handle, .layer, .read, "layer") { resource in
            parts.append(unsafeDowncast(resource, to: LayerResource.self))
        }
    }
    return try HandleTable.insert(try TypedLayer.make(layer, children: parts), .layer)
}

private func withSGDIfAny(
    _ handle: OpaquePointer?, _ access: Access, _ body: (SGDResource?) throws(PenteError) -> Void
) throws(PenteError) {
    if handle == nil { return try body(nil) }
    try withSGD(handle, access) { (sgd) throws(PenteError) in try body(sgd) }
}

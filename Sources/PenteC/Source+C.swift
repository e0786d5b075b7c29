// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteKernels
import PenteSystem

/// A source of either dtype.
class SourceResource: Resource {
    final let dtype: pente_dtype

    fileprivate init(_ dtype: pente_dtype) { self.dtype = dtype }

    fileprivate func info() -> pente_source_info { fatalError() }
}

final class TypedSource<Element: Scalar>: SourceResource {
    let source: DataSource<Element>

    fileprivate init(_ source: DataSource<Element>) {
        self.source = source
        super.init(Element.dtype)
    }

    override func info() -> pente_source_info {
        pente_source_info(
            struct_size: MemoryLayout<pente_source_info>.size, dtype: dtype, inputs: Int64(source.inputs),
            outputs: Int64(source.outputs), has_sample_weight: source.hasSampleWeight ? 1 : 0,
            rows: Int64(source.rows ?? -1))
    }
}

/// A source whose rows a C program reads.
private final class CallbackSource<Element: Scalar>: DataSource<Element> {
    private let callbacks: pente_source_options
    /// From now on `release` is to be called.
    var isOwner = false

    private init(_ callbacks: pente_source_options) {
        self.callbacks = callbacks
        super.init(
            inputs: Int(callbacks.inputs), outputs: Int(callbacks.outputs),
            hasSampleWeight: callbacks.has_sample_weight != 0, rows: callbacks.rows < 0 ? nil : Int(callbacks.rows))
    }

    static func make(_ options: pente_source_options) throws(PenteError) -> CallbackSource {
        try requireSizes(
            inputs: Int(options.inputs), outputs: Int(options.outputs),
            rows: options.rows == -1 ? nil : Int(options.rows))
        if options.read == nil { throw PenteError(.invalidArgument, "options has read NULL") }
        return CallbackSource(options)
    }

    deinit { if isOwner { callbacks.release?(callbacks.user_data) } }

    override func read(_ first: Int, into batch: MutableExamples<Element>) throws(PenteError) -> Int {
        var x = batch.x.readOnly.matrix, y = batch.y.readOnly.matrix
        var count: Int64 = 0
        let failures = failureCount()
        var status: pente_status = 0
        if let sampleWeight = batch.sampleWeight {
            var weight = sampleWeight.readOnly.matrix
            status = callbacks.read(Int64(first), &x, &y, &weight, &count, callbacks.user_data)
        } else {
            status = callbacks.read(Int64(first), &x, &y, nil, &count, callbacks.user_data)
        }
        if status != 0 {
            let cause: Message =
                failureCount() == failures ? "" : ": \(String(characters: pente_last_error(), upTo: .max))"
            throw PenteError(
                PenteError.Code(rawValue: status),
                "the source's read callback returned \(status) for rows from \(first) on\(cause)")
        }
        if count < 0 || count > batch.count {
            throw PenteError(
                .invalidArgument,
                "the source's read callback set count to \(Int(count)), but there was room for \(batch.count) rows")
        }
        return Int(count)
    }
}

@inline(never)
func withSource(
    _ handle: OpaquePointer?, _ access: Access, _ body: (SourceResource) throws(PenteError) -> Void
) throws(PenteError) {
    try HandleTable.withResource(handle, .source, access, "source") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: SourceResource.self))
    }
}

/// Paths as C gives them, `least` of them or more.
private func paths(
    _ paths: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int64, least: Int64 = 1, _ name: StaticString
) throws(PenteError) -> UnsafeBufferPointer<UnsafePointer<CChar>?> {
    if count < least {
        throw PenteError(.invalidArgument, "\(name)_count is \(Int(count)); it must be at least \(Int(least))")
    }
    if count > 0 && paths == nil { throw PenteError(.invalidArgument, "\(name)_paths is NULL") }
    return UnsafeBufferPointer(start: paths, count: Int(count))
}

@_cdecl("pente_npy_source_new") @implementation
public func pente_npy_source_new(
    _ x_paths: UnsafePointer<UnsafePointer<CChar>?>!, _ x_count: Int64,
    _ y_paths: UnsafePointer<UnsafePointer<CChar>?>!, _ y_count: Int64,
    _ sample_weight_paths: UnsafePointer<UnsafePointer<CChar>?>!, _ sample_weight_count: Int64,
    _ source: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_npy_source_new") { () throws(PenteError) in
        let source = try require(source, "source")
        let x = try NPYFiles.make(paths(x_paths, x_count, "x"), "x_paths")
        let y = try NPYFiles.make(paths(y_paths, y_count, "y"), "y_paths")
        let weights = try paths(sample_weight_paths, sample_weight_count, least: 0, "sample_weight")
        let weight = weights.isEmpty ? nil : try NPYFiles.make(weights, "sample_weight_paths")
        let resource: SourceResource =
            x.isFloat64
            ? TypedSource(try NPYSource<Double>.make(x, y, weight))
            : TypedSource(try NPYSource<Float>.make(x, y, weight))
        source.pointee = try HandleTable.insert(resource, .source)
    }
}

@_cdecl("pente_source_new") @implementation
public func pente_source_new(
    _ options: UnsafePointer<pente_source_options>!, _ source: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_source_new") { () throws(PenteError) in
        let source = try require(source, "source")
        guard let options = try sized(options, "options") else {
            throw PenteError(.invalidArgument, "options is NULL")
        }
        try requireKnown(options.dtype, "options")
        if options.dtype == Float.dtype {
            let made = try CallbackSource<Float>.make(options)
            source.pointee = try HandleTable.insert(TypedSource(made), .source)
            made.isOwner = true
        } else {
            let made = try CallbackSource<Double>.make(options)
            source.pointee = try HandleTable.insert(TypedSource(made), .source)
            made.isOwner = true
        }
    }
}

@_cdecl("pente_source_free") @implementation
public func pente_source_free(_ source: OpaquePointer!) -> pente_status {
    freeing("pente_source_free", source, .source, "source")
}

@_cdecl("pente_source_get_info") @implementation
public func pente_source_get_info(
    _ source: OpaquePointer!, _ info: UnsafeMutablePointer<pente_source_info>!
) -> pente_status {
    status("pente_source_get_info") { () throws(PenteError) in
        try withSource(source, .read) { (source) throws(PenteError) in
            let info = try require(info, "info")
            try requireSized(info, "info")
            info.pointee = source.info()
        }
    }
}

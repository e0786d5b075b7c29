// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente

@_cdecl("pente_threads_set") @implementation
public func pente_threads_set(_ count: Int64) -> pente_status {
    status("pente_threads_set", allocates: false) { () throws(PenteError) in try Threads.setCount(Int(count)) }
}

@_cdecl("pente_threads_get") @implementation
public func pente_threads_get() -> Int64 { Int64(Threads.count) }

// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteSystem

@_cdecl("pente_version") @implementation
public func pente_version() -> Int32 {
    PENTE_VERSION_MAJOR * 10000 + PENTE_VERSION_MINOR * 100 + PENTE_VERSION_PATCH
}

@_cdecl("pente_status_name") @implementation
public func pente_status_name(_ status: pente_status) -> UnsafePointer<CChar>! {
    let name: StaticString =
        switch Int(status) {
        case PENTE_OK: "PENTE_OK"
        case PENTE_INVALID_HANDLE: "PENTE_INVALID_HANDLE"
        case PENTE_INVALID_ARGUMENT: "PENTE_INVALID_ARGUMENT"
        case PENTE_SHAPE_MISMATCH: "PENTE_SHAPE_MISMATCH"
        case PENTE_DTYPE_MISMATCH: "PENTE_DTYPE_MISMATCH"
        case PENTE_INVALID_STATE: "PENTE_INVALID_STATE"
        case PENTE_BUSY: "PENTE_BUSY"
        case PENTE_OUT_OF_MEMORY: "PENTE_OUT_OF_MEMORY"
        case PENTE_NOT_FINITE: "PENTE_NOT_FINITE"
        case PENTE_FILE_ERROR: "PENTE_FILE_ERROR"
        case PENTE_INVALID_FILE: "PENTE_INVALID_FILE"
        case PENTE_USER: "PENTE_USER"
        default: "unknown status"
        }
    return UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
}

@_cdecl("pente_last_error") @implementation
public func pente_last_error() -> UnsafePointer<CChar>! { UnsafePointer(pente_message()) }

/// Runs the body of a C function: a thrown error becomes the thread's message and the status. What allocates is refused
/// before it begins if there is no memory. The host's floating-point modes do not change the numbers.
@inline(never)
func status(_ function: StaticString, allocates: Bool = true, _ body: () throws(PenteError) -> Void) -> pente_status {
    statusOfStep(function, allocates: allocates, body)
}

/// The same for what a step calls: inlined there. So are the functions beside others that are called alike.
@inline(__always)
func statusOfStep(
    _ function: StaticString, allocates: Bool = true, _ body: () throws(PenteError) -> Void
) -> pente_status {
    let modes = pente_begin_arithmetic()
    var status: pente_status = 0
    do throws(PenteError) {
        if allocates { try Reserve.requireRoom() }
        try body()
    } catch {
        status = failed(function, error)
    }
    pente_end_arithmetic(modes)
    return status
}

@inline(never)
private func failed(_ function: StaticString, _ error: PenteError) -> pente_status {
    record(function, error.message)
    #if PENTE_CHECKED
        pente_log(pente_message())
    #endif
    if error.systemError != 0 { pente_set_errno(error.systemError) }
    return error.code.rawValue
}

/// Frees a handle: also when there is no memory, for that is how there will be some.
@inline(never)
func freeing(_ function: StaticString, _ handle: OpaquePointer?, _ kind: Kind, _ name: String) -> pente_status {
    status(function, allocates: false) { () throws(PenteError) in try HandleTable.remove(handle, kind, name) }
}

/// How many of the thread's calls have failed. In this file alone: each that a header's function is inlined into has
/// statics of its own.
@inline(never)
func failureCount() -> UInt64 { pente_failures().pointee }

/// Writes "function: message" to the thread's buffer, cut where it would not fit, between two characters.
private func record(_ function: StaticString, _ message: String) {
    let buffer = pente_message()!
    pente_failures().pointee &+= 1
    var length = 0
    for i in 0..<function.utf8CodeUnitCount { append(function.utf8Start[i], buffer, &length) }
    append(UInt8(ascii: ":"), buffer, &length)
    append(UInt8(ascii: " "), buffer, &length)
    message.withBytes { (bytes) in
        for byte in bytes where !append(byte, buffer, &length) {
            if isInsideCharacter(byte) {
                repeat { length -= 1 } while isInsideCharacter(UInt8(bitPattern: buffer[length]))
            }
            break
        }
    }
    buffer[length] = 0
}

@discardableResult
private func append(_ byte: UInt8, _ buffer: UnsafeMutablePointer<CChar>, _ length: inout Int) -> Bool {
    if length == Int(PENTE_MESSAGE_CAPACITY) - 1 { return false }
    buffer[length] = CChar(bitPattern: byte)
    length += 1
    return true
}

func isInsideCharacter(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }

/// What an out-parameter points to, which must not be NULL.
@inline(__always)
func require<Pointer>(_ pointer: Pointer?, _ name: StaticString) throws(PenteError) -> Pointer {
    guard let pointer else { throw isNull(name) }
    return pointer
}

@inline(never)
func isNull(_ name: StaticString) -> PenteError { PenteError(.invalidArgument, "\(name) is NULL") }

/// A struct of the caller's that starts with its size, which must be that of this header; nil for NULL. The size is read
/// first: the rest may not be there.
func sized<Struct>(_ pointer: UnsafePointer<Struct>?, _ name: StaticString) throws(PenteError) -> Struct? {
    guard let pointer else { return nil }
    #if PENTE_CHECKED
        try requireAccess(pointer, 1, name)
    #endif
    try requireSize(pointer, MemoryLayout<Struct>.size, name)
    return pointer.pointee
}

/// The same for a struct that is to be written.
func requireSized<Struct>(_ pointer: UnsafeMutablePointer<Struct>?, _ name: StaticString) throws(PenteError) {
    guard let pointer else { return }
    #if PENTE_CHECKED
        try requireAccess(pointer, 1, name, writes: true)
    #endif
    try requireSize(pointer, MemoryLayout<Struct>.size, name)
}

private func requireSize(_ pointer: UnsafeRawPointer, _ known: Int, _ name: StaticString) throws(PenteError) {
    let size = pointer.load(as: Int.self)
    if size != known { throw isOfAnotherSize(size, known, name) }
}

@inline(never)
private func isOfAnotherSize(_ size: Int, _ known: Int, _ name: StaticString) -> PenteError {
    PenteError(
        .invalidArgument,
        "\(name) has struct_size \(size), but this library knows \(known); start from its _INIT macro")
}

import CPente
import Pente
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
        default: "unknown status"
        }
    return UnsafeRawPointer(name.utf8Start).assumingMemoryBound(to: CChar.self)
}

@_cdecl("pente_last_error") @implementation
public func pente_last_error() -> UnsafePointer<CChar>! { UnsafePointer(pente_message()) }

/// Runs the body of a C function: a thrown error becomes the thread's message and the status.
func status(_ function: StaticString, _ body: () throws(PenteError) -> Void) -> pente_status {
    do throws(PenteError) {
        if Reserve.isSpent { throw .outOfMemory }
        try body()
        return 0
    } catch {
        record("\(function): \(error.message)")
        return error.code.rawValue
    }
}

private func isInsideCharacter(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }

/// Cuts the message where it would not fit, between two characters.
private func record(_ message: String) {
    let buffer = pente_message()!
    var length = 0
    for byte in message.utf8 {
        if length == Int(PENTE_MESSAGE_CAPACITY) - 1 {
            if isInsideCharacter(byte) {
                repeat { length -= 1 } while isInsideCharacter(UInt8(bitPattern: buffer[length]))
            }
            break
        }
        buffer[length] = CChar(bitPattern: byte)
        length += 1
    }
    buffer[length] = 0
}

/// What an out-parameter points to, which must not be NULL.
func require<Pointer>(_ pointer: Pointer?, _ name: StaticString) throws(PenteError) -> Pointer {
    guard let pointer else { throw PenteError(.invalidArgument, "\(name) is NULL") }
    return pointer
}

/// The sizes that a struct may say it has: that of this header.
func requireSize<Struct>(_ size: Int, of _: Struct.Type, _ name: StaticString) throws(PenteError) {
    if size != MemoryLayout<Struct>.size {
        throw PenteError(
            .invalidArgument,
            "\(name) has struct_size \(size), but this library knows \(MemoryLayout<Struct>.size); start from its _INIT macro"
        )
    }
}

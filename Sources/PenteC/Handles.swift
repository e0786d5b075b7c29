import Pente
import PenteSystem
import Synchronization

// A handle is a token that looks like a pointer and is none: where its object stands in a table, and which of the
// place's successive objects is meant. The table only grows; a place is used again under another generation, so that
// a stale token finds nothing. No locks: all there is to know of a place is one atomic word, and fork() is safe.

/// The kinds of handle, by the name of their C type.
enum Kind: UInt64 {
    case layer = 1, context, mse, sgd, trainer

    var name: StaticString {
        switch self {
        case .layer: "pente_layer"
        case .context: "pente_context"
        case .mse: "pente_mse"
        case .sgd: "pente_sgd"
        case .trainer: "pente_trainer"
        }
    }
}

/// What a handle stands for.
class Resource {
    /// The place in the table, once there is one.
    fileprivate(set) var slot: Slot! = nil
}

/// A token: 8 bits that no address starts with, the kind (4 bits), the generation (24), the index (24) and 4 zeros, as
/// in an aligned address.
private struct Token {
    static let tag: UInt64 = 0xa5
    let bits: UInt64

    init(kind: Kind, generation: UInt64, index: UInt64) {
        bits = Token.tag << 56 | kind.rawValue << 52 | generation << 28 | index << 4
    }

    init?(_ handle: OpaquePointer) {
        bits = UInt64(UInt(bitPattern: handle))
        if bits >> 56 != Token.tag || bits & 0xf != 0 { return nil }
    }

    var kind: UInt64 { bits >> 52 & 0xf }
    var generation: UInt64 { bits >> 28 & 0xff_ffff }
    var index: UInt64 { bits >> 4 & 0xff_ffff }
    var handle: OpaquePointer? { OpaquePointer(bitPattern: UInt(bits)) }
}

/// A slot's word: is it being written, does somebody wait to write it, how many read it, how many hold it, its kind and
/// its generation.
private struct SlotState {
    static let writer: UInt64 = 1
    static let waiter: UInt64 = 1 << 1
    static let reader: UInt64 = 1 << 2
    static let readers: UInt64 = 0x3ff << 2
    static let holder: UInt64 = 1 << 12
    static let holders: UInt64 = 0xff_ffff << 12
    static let generation: UInt64 = 1 << 40

    var bits: UInt64

    var isHeld: Bool { bits & Self.holders != 0 }
    var isInUse: Bool { bits & (Self.writer | Self.readers) != 0 }
    /// Written, or about to be.
    var isWritten: Bool { bits & (Self.writer | Self.waiter) != 0 }
    var isFullyRead: Bool { bits & Self.readers == Self.readers }
    var kind: UInt64 { bits >> 36 & 0xf }
    var generation: UInt64 { bits >> 40 }

    /// Generations are odd while there is a handle, and even once it is freed.
    func isOf(_ token: Token) -> Bool {
        generation == token.generation && generation & 1 == 1 && kind == token.kind
    }
}

enum Access {
    case read, write
}

/// A place in the table.
struct Slot {
    fileprivate struct Memory: ~Copyable {
        let state: Atomic<UInt64>
        let nextFree: Atomic<UInt64>
        var resource: Unmanaged<Resource>?
    }

    fileprivate let memory: UnsafeMutablePointer<Memory>
    fileprivate let index: UInt64

    static func == (a: Slot, b: Slot) -> Bool { a.index == b.index }

    /// Valid while the slot is in use or held.
    fileprivate var resource: Resource { memory.pointee.resource!._withUnsafeGuaranteedRef { $0 } }

    /// For whoever holds it.
    var held: Resource { resource }

    /// Begins an access if nobody is in the way; for a token, only if it is this slot's.
    fileprivate func tryBegin(_ access: Access, _ token: Token?) -> Begin {
        while true {
            let state = SlotState(bits: memory.pointee.state.load(ordering: .acquiring))
            if let token, !state.isOf(token) { return .stale }
            if state.isWritten || access == .write && state.isInUse || state.isFullyRead { return .busy }
            let next = state.bits &+ (access == .write ? SlotState.writer : SlotState.reader)
            if memory.pointee.state.compareExchange(
                expected: state.bits, desired: next, ordering: .acquiringAndReleasing
            ).exchanged {
                return .begun
            }
        }
    }

    fileprivate enum Begin {
        case begun, busy, stale
    }

    func end(_ access: Access) { subtract(access == .write ? SlotState.writer : SlotState.reader) }

    /// Keeps the object alive beyond its handle. Call it while the slot is in use or held. No object holds another twice,
    /// so there are never more holders than handles.
    func hold() { memory.pointee.state.wrappingAdd(SlotState.holder, ordering: .acquiringAndReleasing) }

    func unhold() { subtract(SlotState.holder) }

    private func subtract(_ part: UInt64) {
        let state = memory.pointee.state.wrappingSubtract(part, ordering: .acquiringAndReleasing).newValue
        releaseIfUnused(SlotState(bits: state))
    }

    /// Whoever leaves the slot without holders and users is the last to know of it.
    fileprivate func releaseIfUnused(_ state: SlotState) {
        if state.isHeld || state.isInUse { return }
        let resource = memory.pointee.resource!
        memory.pointee.resource = nil
        resource.release()
        // A place whose generations are used up, and began again at 0, is left: no token may ever be right twice.
        if state.generation != 0 { HandleTable.putBack(self) }
    }
}

enum HandleTable {
    // Chunk c has 64 << c slots: eighteen chunks are nearly all that an index of 24 bits can name.
    private static let chunks = InlineArray<18, Atomic<UInt>> { _ in Atomic(0) }
    private static var capacity: UInt64 { 64 << 18 - 64 }
    private static let count = Atomic<UInt64>(0)
    /// The last slot that was put back, as index + 1, under a number of changes (32 bits) that tells two states of
    /// the list with the same first slot apart.
    private static let firstFree = Atomic<UInt64>(0)

    private static func chunk(of index: UInt64) -> (number: Int, offset: Int) {
        let number = 63 - (index + 64).leadingZeroBitCount - 6
        return (number, Int(index + 64) - 64 << number)
    }

    private static func slot(_ index: UInt64) -> Slot? {
        let (number, offset) = chunk(of: index)
        guard let base = UnsafeMutablePointer<Slot.Memory>(bitPattern: chunks[number].load(ordering: .acquiring)) else {
            return nil
        }
        return Slot(memory: base + offset, index: index)
    }

    /// A handle for the object, which the table now owns.
    static func insert(_ resource: Resource, _ kind: Kind) throws(PenteError) -> OpaquePointer? {
        let slot: Slot
        if let free = takeFree() { slot = free } else { slot = try takeNew() }
        let before = SlotState(bits: slot.memory.pointee.state.load(ordering: .relaxed))
        resource.slot = slot
        slot.memory.pointee.resource = Unmanaged.passRetained(resource)
        let generation = before.generation | 1
        slot.memory.pointee.state.store(
            generation << 40 | kind.rawValue << 36 | SlotState.holder, ordering: .releasing)
        return Token(kind: kind, generation: generation, index: slot.index).handle
    }

    /// Invalidates the handle; the object goes when nobody uses or holds it.
    static func remove(_ handle: OpaquePointer?, _ kind: Kind, _ name: String) throws(PenteError) {
        guard let handle else { return }
        let (slot, token) = try find(handle, kind, name)
        while true {
            let state = slot.memory.pointee.state.load(ordering: .acquiring)
            if !SlotState(bits: state).isOf(token) { throw stale(name, kind) }
            let next = state &+ SlotState.generation &- SlotState.holder
            if slot.memory.pointee.state.compareExchange(
                expected: state, desired: next, ordering: .acquiringAndReleasing
            ).exchanged {
                return slot.releaseIfUnused(SlotState(bits: next))
            }
        }
    }

    private static func find(
        _ handle: OpaquePointer?, _ kind: Kind, _ name: String
    ) throws(PenteError) -> (Slot, Token) {
        guard let handle else { throw PenteError(.invalidHandle, "\(name) is NULL; a \(kind.name) was expected") }
        guard let token = Token(handle), token.index < count.load(ordering: .acquiring), let slot = slot(token.index)
        else { throw stale(name, kind) }
        if let other = Kind(rawValue: token.kind), other != kind {
            throw PenteError(.invalidHandle, "\(name) is a \(other.name); a \(kind.name) was expected")
        }
        return (slot, token)
    }

    private static func stale(_ name: String, _ kind: Kind) -> PenteError {
        PenteError(.invalidHandle, "\(name) is not a \(kind.name), or was freed")
    }

    static func busy(_ name: String) -> PenteError {
        PenteError(.busy, "\(name) is in use by another call")
    }

    /// Runs `body` with the object of a handle, which no other call writes meanwhile; or, for `.write`, uses at all.
    static func with<Result>(
        _ handle: OpaquePointer?, _ kind: Kind, _ access: Access, _ name: String,
        _ body: (Resource) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        let (slot, token) = try find(handle, kind, name)
        switch slot.tryBegin(access, token) {
        case .stale: throw stale(name, kind)
        case .busy: throw busy(name)
        case .begun: break
        }
        defer { slot.end(access) }
        return try body(slot.resource)
    }

    private static func takeNew() throws(PenteError) -> Slot {
        while true {
            let index = count.load(ordering: .acquiring)
            guard index < capacity else { throw PenteError(.outOfMemory, "out of memory: too many handles") }
            try ensureChunk(chunk(of: index).number)
            if count.compareExchange(expected: index, desired: index + 1, ordering: .acquiringAndReleasing).exchanged {
                return slot(index)!
            }
        }
    }

    private static func ensureChunk(_ number: Int) throws(PenteError) {
        if chunks[number].load(ordering: .acquiring) != 0 { return }
        guard let memory = calloc(64 << number, MemoryLayout<Slot.Memory>.stride) else { throw .outOfMemory }
        let address = UInt(bitPattern: memory)
        if !chunks[number].compareExchange(expected: 0, desired: address, ordering: .acquiringAndReleasing).exchanged {
            free(memory)
        }
    }

    private static func takeFree() -> Slot? {
        while true {
            let first = firstFree.load(ordering: .acquiring)
            guard first & 0xffff_ffff != 0, let slot = slot((first & 0xffff_ffff) - 1) else { return nil }
            let next = (first >> 32 &+ 1) << 32 | slot.memory.pointee.nextFree.load(ordering: .relaxed)
            if firstFree.compareExchange(expected: first, desired: next, ordering: .acquiringAndReleasing).exchanged {
                return slot
            }
        }
    }

    fileprivate static func putBack(_ slot: Slot) {
        while true {
            let first = firstFree.load(ordering: .acquiring)
            slot.memory.pointee.nextFree.store(first & 0xffff_ffff, ordering: .relaxed)
            let next = (first >> 32 &+ 1) << 32 | (slot.index + 1)
            if firstFree.compareExchange(expected: first, desired: next, ordering: .acquiringAndReleasing).exchanged {
                return
            }
        }
    }
}

// MARK: Objects that others hold

extension Slot {
    /// Begins an access to all slots or, if somebody is in the way, to none.
    static func tryBegin(_ slots: [Slot], _ access: Access) -> Bool {
        for i in slots.indices where slots[i].tryBegin(access, nil) != .begun {
            for slot in slots[..<i] { slot.end(access) }
            return false
        }
        return true
    }

    static func end(_ slots: [Slot], _ access: Access) {
        for slot in slots { slot.end(access) }
    }

    /// Runs `body` while no other call uses the slot.
    func withWrite<Result>(_ name: String, _ body: () throws(PenteError) -> Result) throws(PenteError) -> Result {
        if tryBegin(.write, nil) != .begun { throw HandleTable.busy(name) }
        defer { end(.write) }
        return try body()
    }

    /// Turns the writer into a reader: others may read, and none can write.
    func downgrade() {
        memory.pointee.state.wrappingAdd(SlotState.reader &- SlotState.writer, ordering: .acquiringAndReleasing)
    }

    /// Begins to write once all others have left; from now on none comes in. `isReader`: this call is one of the
    /// readers, by `downgrade`. Waits for single calls at most, since a reader never waits itself.
    func beginWaiting(isReader: Bool) {
        let own = isReader ? SlotState.reader : 0
        update { state in
            state.isWritten ? nil : state.bits | SlotState.waiter
        }
        update { state in
            state.bits & (SlotState.writer | SlotState.readers) == own
                ? state.bits &- own &- SlotState.waiter &+ SlotState.writer : nil
        }
    }

    /// Changes the word as soon as `change` gives another.
    private func update(_ change: (SlotState) -> UInt64?) {
        while true {
            let state = SlotState(bits: memory.pointee.state.load(ordering: .acquiring))
            if let next = change(state),
                memory.pointee.state.compareExchange(
                    expected: state.bits, desired: next, ordering: .acquiringAndReleasing
                ).exchanged
            {
                return
            }
            sched_yield()
        }
    }
}

import PenteSystem
import Synchronization

// A handle is a token that looks like a pointer and is none: where its object stands in a table, and which of the
// place's successive objects is meant. The table only grows; a place is used again under another generation, so that
// a stale token finds nothing. No locks: all there is to know of a place is one atomic word, and fork() is safe.

/// The kinds of handle, by the name of their C type.
enum Kind: UInt64 {
    case layer = 1, context, mse, sgd, trainer, source

    var name: StaticString {
        switch self {
        case .layer: "pente_layer"
        case .context: "pente_context"
        case .mse: "pente_mse"
        case .sgd: "pente_sgd"
        case .trainer: "pente_trainer"
        case .source: "pente_source"
        }
    }
}

/// What a handle stands for.
class Resource {
    /// The place in the table, once there is one.
    fileprivate(set) final var slot: Slot! = nil
}

/// A token: 8 bits that no address starts with, the kind (4 bits), the generation (24), the index (24) and 4 zeros, as
/// in an aligned address.
private struct Token {
    static let tag: UInt64 = 0xa5
    let bits: UInt64

    init(kind: Kind, generation: UInt64, index: UInt64) {
        bits = Token.tag << 56 | kind.rawValue << 52 | generation << 28 | index << 4
    }

    init(_ handle: OpaquePointer?) { bits = UInt64(UInt(bitPattern: handle)) }

    var isToken: Bool { bits >> 56 == Token.tag && bits & 0xf == 0 }
    var kind: UInt64 { bits >> 52 & 0xf }
    var generation: UInt64 { bits >> 28 & 0xff_ffff }
    var index: UInt64 { bits >> 4 & 0xff_ffff }
    var handle: OpaquePointer? { OpaquePointer(bitPattern: UInt(bits)) }

    /// Whether it can be one of such an object. Generations are odd while there is a handle, and even once it is freed.
    @inline(__always)
    func mayBe(_ kind: Kind) -> Bool {
        bits & (0xfff << 52 | 1 << 28 | 0xf) == Token.tag << 56 | kind.rawValue << 52 | 1 << 28
    }
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

    /// Whether somebody holds or uses it.
    var isNeeded: Bool { bits & (Self.holders | Self.writer | Self.readers) != 0 }
    /// Written, or about to be.
    var isWritten: Bool { bits & (Self.writer | Self.waiter) != 0 }
    var generation: UInt64 { bits >> 40 }

    /// Whether somebody is in the way.
    @inline(__always)
    func refuses(_ access: Access) -> Bool {
        switch access {
        case .read: isWritten || bits & Self.readers == Self.readers
        case .write: bits & (Self.writer | Self.waiter | Self.readers) != 0
        }
    }

    /// For a token that may be of its kind.
    @inline(__always)
    func isOf(_ token: Token) -> Bool {
        bits >> 36 == token.generation << 4 | token.kind
    }
}

enum Access {
    case read, write

    /// What it adds to a slot's word.
    @inline(__always)
    fileprivate var part: UInt64 { self == .write ? SlotState.writer : SlotState.reader }
}

/// A place in the table, in a cache line of its own: threads with objects side by side do not slow each other down.
struct Slot {
    fileprivate struct Memory: ~Copyable {
        let state: Atomic<UInt64>
        let nextFree: Atomic<UInt64>
        var index: UInt64
        var resource: Unmanaged<Resource>
    }

    /// Of a place's memory, from one to the next.
    fileprivate static let stride = 64

    fileprivate let memory: UnsafeMutablePointer<Memory>

    fileprivate init(_ address: UnsafeMutableRawPointer) { memory = address.assumingMemoryBound(to: Memory.self) }

    static func == (a: Slot, b: Slot) -> Bool { a.memory == b.memory }

    /// For whoever uses or holds it.
    var held: Resource { resource.takeUnretainedValue() }

    @inline(__always)
    fileprivate var resource: Unmanaged<Resource> { memory.pointee.resource }

    /// Below a quarter of all, and not the one of another copy of the library in the process, whose tokens mean nothing
    /// here.
    fileprivate var firstGeneration: UInt64 {
        (UInt64(UInt(bitPattern: memory)) &* 0x9e37_79b9_7f4a_7c15) >> 42 & ~1
    }

    /// Begins an access if nobody is in the way; for a token, only if it is this slot's.
    @inline(__always)
    fileprivate func tryBegin(_ access: Access, _ token: Token?) -> Begin {
        var state = SlotState(bits: memory.pointee.state.load(ordering: .acquiring))
        while true {
            if let token, !state.isOf(token) { return .stale }
            if state.refuses(access) { return .busy }
            let (exchanged, original) = memory.pointee.state.compareExchange(
                expected: state.bits, desired: state.bits &+ access.part, ordering: .acquiringAndReleasing)
            if exchanged { return .begun(self) }
            state.bits = original
        }
    }

    fileprivate enum Begin {
        case begun(Slot), busy, stale
    }

    /// For whoever holds it.
    @inline(__always)
    func tryBegin(_ access: Access) -> Bool {
        if case .begun = tryBegin(access, nil) { true } else { false }
    }

    @inline(__always)
    func end(_ access: Access) {
        assert(has(access == .write ? SlotState.writer : SlotState.readers), "a use ends that had not begun")
        subtract(access.part)
    }

    /// Whether the word has one of these bits.
    @inline(__always)
    private func has(_ bits: UInt64) -> Bool { memory.pointee.state.load(ordering: .relaxed) & bits != 0 }

    /// Keeps the object alive beyond its handle. Call it while the slot is in use or held. No object holds another twice,
    /// so there are never more holders than handles.
    func hold() { memory.pointee.state.wrappingAdd(SlotState.holder, ordering: .acquiringAndReleasing) }

    @inline(never)
    func unhold() {
        assert(has(SlotState.holders), "somebody lets go who held nothing")
        subtract(SlotState.holder)
    }

    @inline(__always)
    private func subtract(_ part: UInt64) {
        let state = memory.pointee.state.wrappingSubtract(part, ordering: .acquiringAndReleasing).newValue
        if !SlotState(bits: state).isNeeded { release(SlotState(bits: state)) }
    }

    /// Whoever leaves the slot without holders and users is the last to know of it.
    @inline(never)
    fileprivate func release(_ state: SlotState) {
        resource.release()
        // A place whose generations are used up, and began again at 0, is left: no token may ever be right twice.
        if state.generation != 0 { HandleTable.putBack(self) }
    }
}

enum HandleTable {
    // Chunk c has 64 << c slots: eighteen chunks are nearly all that an index of 24 bits can name. Spelt out, they need
    // no initializer, for which each call would look.
    private static let chunks: InlineArray<18, Atomic<UInt>> = [
        Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0),
        Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0), Atomic(0),
    ]
    private static var capacity: UInt64 { 64 << 18 - 64 }
    private static let count = Atomic<UInt64>(0)
    /// The last slot that was put back, as index + 1, under a number of changes (32 bits) that tells two states of
    /// the list with the same first slot apart.
    private static let firstFree = Atomic<UInt64>(0)

    @inline(__always)
    private static func chunk(of index: UInt64) -> (number: Int, offset: Int) {
        let number = 63 &- (index &+ 64).leadingZeroBitCount &- 6
        return (number, Int(index &+ 64) &- 64 &<< number)
    }

    /// For an index below the capacity.
    @inline(__always)
    private static func slot(_ index: UInt64) -> Slot? {
        let (number, offset) = chunk(of: index)
        let base = UnsafeMutableRawPointer(bitPattern: chunks[number].load(ordering: .acquiring))
        guard let base else { return nil }
        return Slot(base + offset &* Slot.stride)
    }

    /// A handle for the object, which the table now owns.
    static func insert(_ resource: Resource, _ kind: Kind) throws(PenteError) -> OpaquePointer? {
        #if PENTE_CHECKED
            reportAtExit()
        #endif
        let slot: Slot
        if let free = takeFree() { slot = free } else { slot = try takeNew() }
        let before = SlotState(bits: slot.memory.pointee.state.load(ordering: .relaxed))
        resource.slot = slot
        slot.memory.pointee.resource = Unmanaged.passRetained(resource)
        let generation = before.generation | 1
        slot.memory.pointee.state.store(
            generation << 40 | kind.rawValue << 36 | SlotState.holder, ordering: .releasing)
        return Token(kind: kind, generation: generation, index: slot.memory.pointee.index).handle
    }

    /// Invalidates the handle; the object goes when nobody uses or holds it.
    static func remove(_ handle: OpaquePointer?, _ kind: Kind, _ name: String) throws(PenteError) {
        guard let handle else { return }
        let token = Token(handle)
        guard let slot = find(token, kind) else { throw refusal(of: handle, kind, name) }
        while true {
            let state = slot.memory.pointee.state.load(ordering: .acquiring)
            if !SlotState(bits: state).isOf(token) { throw refusal(of: handle, kind, name) }
            let next = SlotState(bits: state &+ SlotState.generation &- SlotState.holder)
            if slot.memory.pointee.state.compareExchange(
                expected: state, desired: next.bits, ordering: .acquiringAndReleasing
            ).exchanged {
                if !next.isNeeded { slot.release(next) }
                return
            }
        }
    }

    /// The place that a token names.
    @inline(__always)
    private static func find(_ token: Token, _ kind: Kind) -> Slot? {
        guard token.mayBe(kind), token.index < count.load(ordering: .acquiring) else { return nil }
        return slot(token.index)
    }

    /// What is wrong with a handle that is not one of such an object.
    @inline(never)
    private static func refusal(of handle: OpaquePointer?, _ kind: Kind, _ name: String) -> PenteError {
        if handle == nil { return PenteError(.invalidHandle, "\(name) is NULL; a \(kind.name) was expected") }
        let token = Token(handle)
        if token.isToken, token.index < count.load(ordering: .acquiring), let other = Kind(rawValue: token.kind),
            other != kind
        {
            return PenteError(.invalidHandle, "\(name) is a \(other.name); a \(kind.name) was expected")
        }
        return PenteError(.invalidHandle, "\(name) is not a \(kind.name), or was freed")
    }

    @inline(never)
    static func busy(_ name: String) -> PenteError {
        PenteError(.busy, "\(name) is in use by another call")
    }

    @inline(never) @_optimize(speed)
    private static func begin(_ handle: OpaquePointer?, _ kind: Kind, _ access: Access) -> Slot.Begin {
        let token = Token(handle)
        guard let slot = find(token, kind) else { return .stale }
        return slot.tryBegin(access, token)
    }

    /// `with`, for what is not called in each step: one function for all.
    @inline(never)
    static func withResource(
        _ handle: OpaquePointer?, _ kind: Kind, _ access: Access, _ name: String,
        _ body: (Resource) throws(PenteError) -> Void
    ) throws(PenteError) {
        try with(handle, kind, access, name, body)
    }

    /// Runs `body` with the object of a handle, which no other call writes meanwhile; or, for `.write`, uses at all.
    @inline(__always)
    static func with<Result>(
        _ handle: OpaquePointer?, _ kind: Kind, _ access: Access, _ name: @autoclosure () -> String,
        _ body: (Resource) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        switch begin(handle, kind, access) {
        case .stale: throw refusal(of: handle, kind, name())
        case .busy: throw busy(name())
        case .begun(let slot):
            defer { slot.end(access) }
            let result = slot.resource._withUnsafeGuaranteedRef { resource -> Swift.Result<Result, PenteError> in
                do throws(PenteError) { return .success(try body(resource)) } catch { return .failure(error) }
            }
            return try result.get()
        }
    }

    #if PENTE_CHECKED
        private static let isReported = Atomic(false)

        private static func reportAtExit() {
            if isReported.exchange(true, ordering: .relaxed) { return }
            atexit { HandleTable.report() }
        }

        /// Writes how many handles of each kind nobody has freed.
        private static func report() {
            var kind = Kind.layer
            while true {
                var handles: Int64 = 0
                for index in 0..<count.load(ordering: .acquiring) {
                    guard let slot = slot(index) else { continue }
                    let state = SlotState(bits: slot.memory.pointee.state.load(ordering: .acquiring))
                    if state.generation & 1 == 1 && state.bits >> 36 & 0xf == kind.rawValue { handles += 1 }
                }
                if handles > 0 { pente_log_leak(handles, kind.name.utf8Start) }
                guard let next = Kind(rawValue: kind.rawValue + 1) else { return }
                kind = next
            }
        }
    #endif

    private static func takeNew() throws(PenteError) -> Slot {
        while true {
            let index = count.load(ordering: .acquiring)
            guard index < capacity else { throw PenteError(.outOfMemory, "out of memory: too many handles") }
            try ensureChunk(chunk(of: index).number)
            if count.compareExchange(expected: index, desired: index + 1, ordering: .acquiringAndReleasing).exchanged {
                let slot = slot(index)!
                slot.memory.pointee.index = index
                slot.memory.pointee.state.store(slot.firstGeneration << 40, ordering: .relaxed)
                return slot
            }
        }
    }

    private static func ensureChunk(_ number: Int) throws(PenteError) {
        if chunks[number].load(ordering: .acquiring) != 0 { return }
        guard let memory = aligned_alloc(Slot.stride, (64 << number) * Slot.stride) else { throw .outOfMemory }
        memset(memory, 0, (64 << number) * Slot.stride)
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
            let next = (first >> 32 &+ 1) << 32 | (slot.memory.pointee.index + 1)
            if firstFree.compareExchange(expected: first, desired: next, ordering: .acquiringAndReleasing).exchanged {
                return
            }
        }
    }
}

// MARK: Waiting

extension Slot {
    /// Turns the writer into a reader: others may read, and none can write.
    func downgrade() {
        assert(has(SlotState.writer), "a writer becomes a reader who was none")
        memory.pointee.state.wrappingAdd(SlotState.reader &- SlotState.writer, ordering: .acquiringAndReleasing)
    }

    /// Begins to write once all others have left; from now on none comes in. `isReader`: this call is one of the
    /// readers, by `downgrade`. Waits for single calls at most, since a reader never waits itself (`Callbacks`); and in
    /// a child of the process that is named not at all: the threads of those calls are not there. Who was reading is no
    /// matter then. Who was writing is, so the result is false, and the slot stays in use when this access has ended.
    func beginWaiting(isReader: Bool, process: Int32) -> Bool {
        let own = isReader ? SlotState.reader : 0
        memory.pointee.state.bitwiseOr(SlotState.waiter, ordering: .acquiringAndReleasing)
        while true {
            let state = memory.pointee.state.load(ordering: .acquiring)
            if state & (SlotState.writer | SlotState.readers) != own && getpid() == process {
                sched_yield()
            } else if state & SlotState.writer != 0 {
                return false
            } else if memory.pointee.state.compareExchange(
                expected: state, desired: state &- own &- SlotState.waiter &+ SlotState.writer,
                ordering: .acquiringAndReleasing
            ).exchanged {
                return true
            }
        }
    }
}

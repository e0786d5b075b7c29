// Objects that others hold are locked by those, in their slots.

extension Slot {
    /// Runs `body` while no other call uses the slot.
    @inline(__always)
    func withWrite<Result>(
        _ name: @autoclosure () -> String, _ body: () throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        if !tryBegin(.write) { throw HandleTable.busy(name()) }
        defer { end(.write) }
        return try body()
    }
}

/// Slots that are held or locked together, each once when `removeRepeats` comes after what is added.
struct Locks: ~Copyable {
    private var slots = UnsafeMutableBufferPointer<Slot>(start: nil, count: 0)
    private(set) var count = 0

    deinit { slots.deallocate() }

    subscript(_ i: Int) -> Slot { slots[i] }

    mutating func add(_ slot: Slot) {
        if count == slots.count {
            let larger = UnsafeMutableBufferPointer<Slot>.allocate(capacity: max(1, 2 * count))
            for i in 0..<count { larger[i] = slots[i] }
            slots.deallocate()
            slots = larger
        }
        slots[count] = slot
        count += 1
    }

    mutating func add(_ others: borrowing Locks) {
        for i in 0..<others.count { add(others[i]) }
    }

    @inline(never)
    mutating func removeRepeats() {
        if count < 2 { return }
        sortAddresses(slots.baseAddress!, count)
        var distinct = 1
        for i in 1..<count where !(slots[i] == slots[distinct - 1]) {
            slots[distinct] = slots[i]
            distinct += 1
        }
        count = distinct
    }

    /// Runs `body` while no other call is in the way of any of them. `name`: what somebody is in the way of, else.
    @inline(__always)
    borrowing func with<Result>(
        _ access: Access, _ name: @autoclosure () -> String, _ body: () throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        if !tryBegin(access) { throw HandleTable.busy(name()) }
        defer { end(access, count) }
        return try body()
    }

    /// Begins an access to all slots or, if somebody is in the way, to none.
    @_optimize(speed)
    private borrowing func tryBegin(_ access: Access) -> Bool {
        for i in 0..<count where !slots[i].tryBegin(access) {
            end(access, i)
            return false
        }
        return true
    }

    /// Ends those to the first so many slots.
    @_optimize(speed)
    private borrowing func end(_ access: Access, _ count: Int) {
        for i in 0..<count { slots[i].end(access) }
    }
}

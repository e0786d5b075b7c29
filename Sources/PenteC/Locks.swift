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
    private var slots = Buffer<Slot>()
    private(set) var count = 0

    subscript(_ i: Int) -> Slot { slots.base[i] }

    @inline(never)
    mutating func add(_ slot: Slot) throws(PenteError) {
        try reserve(1)
        slots.base[count] = slot
        count += 1
    }

    @inline(never)
    mutating func add(_ others: borrowing Locks) throws(PenteError) {
        try reserve(others.count)
        for i in 0..<others.count { slots.base[count + i] = others[i] }
        count += others.count
    }

    /// Makes room for so many more.
    @inline(never)
    private mutating func reserve(_ more: Int) throws(PenteError) {
        if count + more <= slots.count { return }
        let larger = try Buffer<Slot>(count: max(count + more, 2 * slots.count), isZeroed: false)
        for i in 0..<count { larger.base[i] = slots.base[i] }
        slots = larger
    }

    @inline(never)
    mutating func removeRepeats() {
        if count < 2 { return }
        sortAddresses(slots.base, count)
        var distinct = 1
        for i in 1..<count where !(self[i] == self[distinct - 1]) {
            slots.base[distinct] = self[i]
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
        for i in 0..<count where !self[i].tryBegin(access) {
            end(access, i)
            return false
        }
        return true
    }

    /// Ends those to the first so many slots.
    @_optimize(speed)
    private borrowing func end(_ access: Access, _ count: Int) {
        for i in 0..<count { self[i].end(access) }
    }
}

#if hasFeature(Embedded)
    import PenteSystem
    import Synchronization

    // Swift's own objects (classes, arrays, strings) come from posix_memalign, whose failure it answers with a trap. The
    // linker puts the two functions below in the place of posix_memalign and free (--wrap, see the Makefile): when there is
    // no memory, objects come from a reserve, and the next call says so in time. For calls whose objects grow with what
    // they are given, there are further reserves, which are taken before they begin.

    package enum Reserve {
        private static let capacity = 1 << 16
        /// How many blocks are taken, and, below 32 bits, how many bytes are used up; these come back with the last block.
        private static let state = Atomic<UInt64>(0)

        private static var base: UnsafeMutableRawPointer { UnsafeMutableRawPointer(pente_reserve()) }

        /// A further reserve, by its number + 1, while much of this one is taken; else 0.
        private static let standIn = Atomic<Int>(0)

        /// Throws if a quarter of the reserve is taken, as by objects that live on from calls that had no memory, and there
        /// is no memory for another to stand in for it.
        @inline(__always)
        package static func requireRoom() throws(PenteError) {
            if state.load(ordering: .relaxed) & 0xffff_ffff > capacity / 4 { try requireStandIn() }
        }

        @inline(never)
        private static func requireStandIn() throws(PenteError) {
            if FurtherReserve.hasRoom(standIn.load(ordering: .acquiring) - 1) { return }
            dismiss(standIn.exchange(try FurtherReserve.add() + 1, ordering: .acquiringAndReleasing))
        }

        private static func dismiss(_ former: Int) {
            if former > 0 { FurtherReserve.leave(former - 1) }
        }

        /// Runs `body`, whose objects take up to count · bytesEach bytes: so much is there, or it does not begin.
        package static func with<Result>(
            count: Int, bytesEach: Int, _ body: () throws(PenteError) -> Result
        ) throws(PenteError) -> Result {
            var result: Result?
            try run(count: count, bytesEach: bytesEach) { () throws(PenteError) in result = try body() }
            return result!
        }

        /// Of no result: there is one for all that it runs.
        @inline(never)
        private static func run(
            count: Int, bytesEach: Int, _ body: () throws(PenteError) -> Void
        ) throws(PenteError) {
            let (bytes, overflow) = count.multipliedReportingOverflow(by: bytesEach)
            if overflow { throw .outOfMemory }
            if bytes <= capacity / 2 { return try body() }
            let further = (bytes - 1) / FurtherReserve.size + 1
            if further > FurtherReserve.most {  // more objects than that are only asked for
                __real_free(try allocate(bytes, alignment: 64))
                return try body()
            }
            var added = InlineArray<128, Bool>(repeating: false)
            defer { for i in 0..<128 where added[i] { FurtherReserve.leave(i) } }
            for _ in 0..<further { added[try FurtherReserve.add()] = true }
            return try body()
        }

        fileprivate static func take(_ size: Int, _ alignment: Int) -> UnsafeMutableRawPointer? {
            guard alignment <= 64 else { return nil }
            if let start = reserve(size, alignment, in: state, from: 0, capacity: capacity) { return base + start }
            return FurtherReserve.take(size, alignment)
        }

        /// Takes a block back, if it is of a reserve.
        fileprivate static func putBack(_ block: UnsafeMutableRawPointer) -> Bool {
            guard block >= base, block < base + capacity else { return FurtherReserve.putBack(block) }
            while true {
                let before = state.load(ordering: .acquiring)
                let blocks = (before >> 32) &- 1
                let after = blocks == 0 ? 0 : blocks << 32 | before & 0xffff_ffff
                if state.compareExchange(expected: before, desired: after, ordering: .acquiringAndReleasing).exchanged {
                    if blocks == 0 { dismiss(standIn.exchange(0, ordering: .acquiringAndReleasing)) }
                    return true
                }
            }
        }
    }

    /// Counts a block in `state`, if there is room for it and it holds `least` already; returns where it starts.
    private func reserve(
        _ size: Int, _ alignment: Int, in state: borrowing Atomic<UInt64>, from least: UInt64, capacity: Int
    ) -> Int? {
        while true {
            let before = state.load(ordering: .acquiring)
            let start = (Int(before & 0xffff_ffff) &+ alignment &- 1) & ~(alignment &- 1)
            guard before >> 32 >= least, size <= capacity &- start else { return nil }
            let after = ((before >> 32) &+ 1) << 32 | UInt64(start &+ size)
            if state.compareExchange(expected: before, desired: after, ordering: .acquiringAndReleasing).exchanged {
                return start
            }
        }
    }

    private func allocate(_ size: Int, alignment: Int) throws(PenteError) -> UnsafeMutableRawPointer {
        var block: UnsafeMutableRawPointer?
        if __real_posix_memalign(&block, alignment, size) != 0 { throw .outOfMemory }
        return block!
    }

    /// Reserves of a megabyte, aligned to one, so that a block's address says whose it is. One goes when the call that added
    /// it has ended and the last block is free: an object may outlive its call. Memory that is not needed is never touched.
    private enum FurtherReserve {
        static var size: Int { 1 << 20 }
        /// For one call, so that there are some for others.
        static var most: Int { 64 }
        /// Where they are; 0 for none.
        private static let bases = InlineArray<128, Atomic<UInt>> { _ in Atomic(0) }
        /// As `Reserve.state`; the calls that may take from it count as a block.
        private static let states = InlineArray<128, Atomic<UInt64>> { _ in Atomic(0) }
        private static let count = Atomic<Int>(0)

        /// Returns which one it is.
        static func add() throws(PenteError) -> Int {
            let memory = try allocate(size, alignment: size)
            for i in 0..<128
            where bases[i].compareExchange(
                expected: 0, desired: UInt(bitPattern: memory), ordering: .acquiringAndReleasing
            ).exchanged {
                count.wrappingAdd(1, ordering: .acquiringAndReleasing)
                states[i].store(1 << 32, ordering: .releasing)
                return i
            }
            __real_free(memory)
            throw .outOfMemory
        }

        static func hasRoom(_ i: Int) -> Bool {
            i >= 0 && states[i].load(ordering: .acquiring) & 0xffff_ffff < size / 2
        }

        /// One block less: the last one takes the reserve with it.
        static func leave(_ i: Int) {
            let memory = UnsafeMutableRawPointer(bitPattern: bases[i].load(ordering: .acquiring))
            if states[i].wrappingSubtract(1 << 32, ordering: .acquiringAndReleasing).newValue >> 32 > 0 { return }
            count.wrappingSubtract(1, ordering: .acquiringAndReleasing)
            bases[i].store(0, ordering: .releasing)
            __real_free(memory)
        }

        static func take(_ size: Int, _ alignment: Int) -> UnsafeMutableRawPointer? {
            if count.load(ordering: .relaxed) == 0 { return nil }
            for i in 0..<128 {
                if let start = reserve(size, alignment, in: states[i], from: 1, capacity: self.size) {
                    return UnsafeMutableRawPointer(bitPattern: bases[i].load(ordering: .acquiring))! + start
                }
            }
            return nil
        }

        static func putBack(_ block: UnsafeMutableRawPointer) -> Bool {
            if count.load(ordering: .relaxed) == 0 { return false }
            let base = UInt(bitPattern: block) & ~UInt(size - 1)
            for i in 0..<128 where bases[i].load(ordering: .acquiring) == base {
                leave(i)
                return true
            }
            return false
        }
    }

    /// What the linker puts in the place of posix_memalign.
    @_cdecl("__wrap_posix_memalign")
    public func wrappedPosixMemalign(
        _ block: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ alignment: Int, _ size: Int
    ) -> Int32 {
        let status = __real_posix_memalign(block, alignment, size)
        if status == 0 { return 0 }
        block.pointee = Reserve.take(size, alignment)
        return block.pointee == nil ? status : 0
    }

    /// What the linker puts in the place of free.
    @_cdecl("__wrap_free")
    public func wrappedFree(_ block: UnsafeMutableRawPointer?) {
        if let block, Reserve.putBack(block) { return }
        __real_free(block)
    }
#else
    package enum Reserve {
        package static func requireRoom() throws(PenteError) {}
        package static func with<Result>(
            count: Int, bytesEach: Int, _ body: () throws(PenteError) -> Result
        ) throws(PenteError) -> Result {
            try body()
        }
    }
#endif

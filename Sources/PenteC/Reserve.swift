#if hasFeature(Embedded)
    import Pente
    import PenteSystem
    import Synchronization

    // Swift's own small objects (classes, arrays, strings) come from posix_memalign, whose failure it answers with a trap.
    // The linker puts the two functions below in the place of posix_memalign and free (--wrap, see the Makefile): when there
    // is no memory, small objects come from a reserve, and the next call says so in time.

    enum Reserve {
        private static let capacity = 1 << 16
        /// How many blocks are taken, and, below 32 bits, how many bytes are used up; these come back with the last block.
        private static let state = Atomic<UInt64>(0)

        private static var base: UnsafeMutableRawPointer { UnsafeMutableRawPointer(pente_reserve()) }

        fileprivate static func take(_ size: Int, _ alignment: Int) -> UnsafeMutableRawPointer? {
            while true {
                let before = state.load(ordering: .acquiring)
                let start = (Int(before & 0xffff_ffff) &+ alignment &- 1) & ~(alignment &- 1)
                guard alignment <= 64, size <= capacity &- start else { return nil }
                let after = ((before >> 32) &+ 1) << 32 | UInt64(start &+ size)
                if state.compareExchange(expected: before, desired: after, ordering: .acquiringAndReleasing).exchanged {
                    return base + start
                }
            }
        }

        /// Takes a block back, if it is of the reserve.
        fileprivate static func putBack(_ block: UnsafeMutableRawPointer) -> Bool {
            guard block >= base, block < base + capacity else { return false }
            while true {
                let before = state.load(ordering: .acquiring)
                let blocks = (before >> 32) &- 1
                let after = blocks == 0 ? 0 : blocks << 32 | before & 0xffff_ffff
                if state.compareExchange(expected: before, desired: after, ordering: .acquiringAndReleasing).exchanged {
                    return true
                }
            }
        }

        /// Throws if part of the reserve is taken and there still is no memory.
        static func requireUntouched() throws(PenteError) {
            if state.load(ordering: .relaxed) != 0 { try require(bytes: 4096) }
        }

        /// Throws unless so much can be had: before Swift's arrays grow with a caller's number.
        static func require(bytes: Int) throws(PenteError) {
            // The real functions: a malloc and a free that it knows the compiler would leave out.
            var probe: UnsafeMutableRawPointer?
            if __real_posix_memalign(&probe, 64, bytes) != 0 { throw .outOfMemory }
            __real_free(probe)
        }
    }

    @_cdecl("__wrap_posix_memalign")
    public func wrappedPosixMemalign(
        _ block: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ alignment: Int, _ size: Int
    ) -> Int32 {
        let status = __real_posix_memalign(block, alignment, size)
        if status == 0 { return 0 }
        block.pointee = Reserve.take(size, alignment)
        return block.pointee == nil ? status : 0
    }

    @_cdecl("__wrap_free")
    public func wrappedFree(_ block: UnsafeMutableRawPointer?) {
        if let block, Reserve.putBack(block) { return }
        __real_free(block)
    }
#else
    import Pente

    enum Reserve {
        static func requireUntouched() throws(PenteError) {}
        static func require(bytes: Int) throws(PenteError) {}
    }
#endif

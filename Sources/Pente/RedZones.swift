#if PENTE_CHECKED
    import PenteSystem

    /// In the checked build a buffer lies between two zones that nobody has any business in. Before it is written, and once
    /// it is freed, it is full of NaNs.
    package enum RedZones {
        private static let size = 64
        private static let pattern: UInt8 = 0xa5
        /// One of these is a NaN of float32, and two a NaN of float64: none that arithmetic comes to.
        private static let unwritten: UInt32 = 0xfff5_a5a5

        static func allocate(_ bytes: Int) -> UnsafeMutableRawPointer? {
            let (total, overflow) = bytes.addingReportingOverflow(3 * size - 1)
            guard !overflow, let block = aligned_alloc(size, total & ~(size - 1)) else { return nil }
            let memory = block + size
            block.storeBytes(of: bytes, as: Int.self)
            mend(around: memory)
            pente_fill(memory, bytes, unwritten)
            return memory
        }

        /// Whether nobody has written before or behind it.
        package static func areIntact(around memory: UnsafeRawPointer) -> Bool {
            let bytes = (memory - size).load(as: Int.self)
            let header = MemoryLayout<Int>.size
            return pente_is_filled(memory - size + header, size - header, pattern) != 0
                && pente_is_filled(memory + bytes, size, pattern) != 0
        }

        /// Whether nobody has written an element, or it was free.
        package static func isUnwritten<Element>(_ element: UnsafePointer<Element>) -> Bool {
            let words = UnsafeRawPointer(element).assumingMemoryBound(to: UInt32.self)
            return (0..<(MemoryLayout<Element>.size / 4)).allSatisfy { words[$0] == unwritten }
        }

        /// After somebody has been told of it.
        package static func mend(around memory: UnsafeMutableRawPointer) {
            let bytes = (memory - size).load(as: Int.self)
            memset(memory - size + MemoryLayout<Int>.size, Int32(pattern), size - MemoryLayout<Int>.size)
            memset(memory + bytes, Int32(pattern), size)
        }

        static func free(_ memory: UnsafeMutableRawPointer) {
            precondition(areIntact(around: memory), "memory of Pente's was written outside of its bounds")
            pente_fill(memory, (memory - size).load(as: Int.self), unwritten)
            PenteSystem.free(memory - size)
        }
    }
#endif

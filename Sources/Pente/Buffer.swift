import PenteSystem

/// Memory for a number of elements, aligned to a cache line, whose allocation may fail without harm.
@usableFromInline
package struct Buffer<Element: BitwiseCopyable>: ~Copyable {
    @usableFromInline package let base: UnsafeMutablePointer<Element>
    @usableFromInline package let count: Int

    /// Nothing, and no allocation.
    package init() {
        base = UnsafeMutablePointer(bitPattern: 64)!
        count = 0
    }

    /// `count` elements of zero bytes, at least one.
    package init(count: Int) throws(PenteError) {
        let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
        let (padded, overflow2) = bytes.addingReportingOverflow(63)
        guard count > 0, !overflow, !overflow2, let memory = aligned_alloc(64, padded & ~63) else {
            throw .outOfMemory
        }
        memset(memory, 0, bytes)
        self.base = memory.bindMemory(to: Element.self, capacity: count)
        self.count = count
    }

    package init(copying other: borrowing Buffer) throws(PenteError) {
        try self.init(count: other.count)
        copy(from: other.base)
    }

    @inlinable
    deinit { if count > 0 { free(base) } }

    package func copy(from source: UnsafePointer<Element>) {
        memcpy(base, source, count &* MemoryLayout<Element>.stride)
    }

    package func zero() { memset(base, 0, count &* MemoryLayout<Element>.stride) }

    package var isEmpty: Bool { count == 0 }

    /// Makes room for `wanted` elements, if there is not; what was there is lost then.
    package mutating func reserve(_ wanted: Int) throws(PenteError) {
        if wanted > count { self = try Buffer(count: wanted) }
    }
}

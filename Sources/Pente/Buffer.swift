import PenteSystem

extension UnsafeMutablePointer where Pointee: BitwiseCopyable {
    /// What `update(from:count:)` does, in Embedded Swift with a call for each element.
    @inline(__always)
    package func copy(_ source: UnsafePointer<Pointee>, count: Int) {
        memcpy(self, source, count &* MemoryLayout<Pointee>.stride)
    }
}

/// Where a buffer of nothing is: an address, for those that want one.
private var noMemory: UnsafeMutableRawPointer { UnsafeMutableRawPointer(bitPattern: 64)! }

/// Of rows × columns elements, at least one.
@inline(never)
private func allocate(
    _ rows: Int, _ columns: Int, of stride: Int, isZeroed: Bool
) throws(PenteError) -> UnsafeMutableRawPointer {
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    let (bytes, overflow2) = count.multipliedReportingOverflow(by: stride)
    let (padded, overflow3) = bytes.addingReportingOverflow(63)
    #if PENTE_CHECKED
        guard count > 0, !overflow, !overflow2, !overflow3, let memory = RedZones.allocate(bytes) else {
            throw .outOfMemory
        }
    #else
        guard count > 0, !overflow, !overflow2, !overflow3, let memory = aligned_alloc(64, padded & ~63) else {
            throw .outOfMemory
        }
    #endif
    if isZeroed { memset(memory, 0, bytes) }
    return memory
}

/// Once, and not in each place where a buffer ends.
@usableFromInline @inline(never)
func release(_ memory: UnsafeMutableRawPointer) {
    #if PENTE_CHECKED
        if memory != noMemory { RedZones.free(memory) }
    #else
        if memory != noMemory { free(memory) }
    #endif
}

/// Memory for a number of elements, aligned to a cache line, whose allocation may fail without harm.
@usableFromInline
package struct Buffer<Element: BitwiseCopyable>: ~Copyable {
    @usableFromInline package let base: UnsafeMutablePointer<Element>
    @usableFromInline package let count: Int

    /// Nothing, and no allocation.
    package init() {
        base = noMemory.assumingMemoryBound(to: Element.self)
        count = 0
    }

    /// `count` elements, at least one: of zero bytes, or of any that happen to be there.
    package init(count: Int, isZeroed: Bool = true) throws(PenteError) {
        let memory = try allocate(1, count, of: MemoryLayout<Element>.stride, isZeroed: isZeroed)
        self.base = memory.bindMemory(to: Element.self, capacity: count)
        self.count = count
    }

    /// A matrix's elements; nothing, and no allocation, for none.
    package init(rows: Int, columns: Int, isZeroed: Bool = true) throws(PenteError) {
        let memory =
            rows == 0 || columns == 0
            ? noMemory : try allocate(rows, columns, of: MemoryLayout<Element>.stride, isZeroed: isZeroed)
        count = rows &* columns
        base = memory.bindMemory(to: Element.self, capacity: count)
    }

    package init(copying other: borrowing Buffer) throws(PenteError) {
        try self.init(count: other.count)
        copy(from: other.base)
    }

    @inlinable
    deinit { release(base) }

    package func copy(from source: UnsafePointer<Element>) {
        memcpy(base, source, count &* MemoryLayout<Element>.stride)
    }

    @inline(never)
    package func zero() { memset(base, 0, count &* MemoryLayout<Element>.stride) }

    package var isEmpty: Bool { count == 0 }

    /// Makes room for a matrix, if there is not; what was there is lost then.
    package mutating func reserve(rows: Int, columns: Int) throws(PenteError) {
        if let larger = try larger(rows: rows, columns: columns) { self = larger }
    }

    /// Another with that much room, if there is not in this one.
    package func larger(rows: Int, columns: Int) throws(PenteError) -> Buffer? {
        let (wanted, overflow) = rows.multipliedReportingOverflow(by: columns)
        if overflow { throw .outOfMemory }
        return wanted > count ? try Buffer(count: wanted, isZeroed: false) : nil
    }
}

import PenteKernels

/// What `ColumnSums` writes to.
typealias ColumnPlace<Element> = (sums: UnsafeMutablePointer<Element>, wide: UnsafeMutablePointer<Double>?)

/// Sums of gradients that wait to be added up: in their order, each with its count and its place among the gradients of
/// the batch.
package struct GradientLog<Element: Scalar>: BitwiseCopyable {
    private let base: UnsafeMutablePointer<Element>
    private var end: UnsafeMutablePointer<Element>

    init(_ base: UnsafeMutablePointer<Element>) {
        self.base = base
        end = base
    }

    /// A sum begins with its offset and its count, which is negative if it is in float64.
    private static var header: Int { 2 * MemoryLayout<Int>.size / MemoryLayout<Element>.size }

    /// The numbers that a sum of so many gradients takes.
    static func count(_ gradients: Int) -> Int { header + (gradients + 3) & ~3 }

    /// The same for a sum in float64.
    static func countWide(_ gradients: Int) -> Int {
        count(gradients * MemoryLayout<Double>.size / MemoryLayout<Element>.size)
    }

    mutating func clear() { end = base }

    /// A place for a sum of `count` gradients, from the one numbered `offset` on.
    mutating func append(_ count: Int, at offset: Int) -> UnsafeMutablePointer<Element> {
        append(count, at: offset, size: Self.count(count))
    }

    /// One in float64, which in float32 is of zeros, to be added to.
    mutating func appendWide(_ count: Int, at offset: Int) -> ColumnPlace<Element> {
        let place = append(-count, at: offset, size: Self.countWide(count))
        if MemoryLayout<Element>.size == MemoryLayout<Double>.size { return (place, nil) }
        let numbers = UnsafeMutableRawPointer(place).assumingMemoryBound(to: Double.self)
        numbers.update(repeating: 0, count: count)
        return (place, numbers)
    }

    private mutating func append(_ count: Int, at offset: Int, size: Int) -> UnsafeMutablePointer<Element> {
        let start = UnsafeMutableRawPointer(end)
        start.storeBytes(of: offset, as: Int.self)
        start.storeBytes(of: count, toByteOffset: MemoryLayout<Int>.size, as: Int.self)
        defer { end += size }
        return end + Self.header
    }

    /// Adds all of them, in their order.
    func add(to gradients: UnsafeMutablePointer<Double>, corrections: UnsafeMutablePointer<Element>) {
        var sum = base
        while sum < end {
            let start = UnsafeRawPointer(sum)
            let offset = start.load(as: Int.self)
            let to = gradients + offset
            let count = start.load(fromByteOffset: MemoryLayout<Int>.size, as: Int.self)
            sum += Self.header
            if count >= 0 {
                Element._perform(Accumulation(.widen(UnsafePointer(sum), to: to), count: count))
                sum += Self.count(count) - Self.header
            } else {
                let wide = UnsafeRawPointer(sum).assumingMemoryBound(to: Double.self)
                Element._accumulate(wide, -count, into: to, corrections + offset)
                sum += Self.countWide(-count) - Self.header
            }
        }
    }
}

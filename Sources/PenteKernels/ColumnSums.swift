/// ∂b = 1ᵀ G: the sum of each column, in float64. Four sums a column, of every fourth row, so that no addition waits for
/// the last.
public struct ColumnSums<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var gradOutput: MatrixView<T>
    /// With `wide` these are the corrections of those.
    @usableFromInline var sums: UnsafeMutablePointer<T>
    /// The sums are added to these, and not stored.
    @usableFromInline var wide: UnsafeMutablePointer<Double>?

    /// There are as many sums as columns.
    @inlinable @inline(__always)
    public init(_ sums: UnsafeMutablePointer<T>, wide: UnsafeMutablePointer<Double>?, gradOutput: MatrixView<T>) {
        self.sums = sums
        self.wide = wide
        self.gradOutput = gradOutput
    }

    /// To sums that lie so many of T's numbers further on.
    @_alwaysEmitIntoClient @_transparent
    mutating func advance(by step: Int) {
        sums += step
        if let wide { self.wide = wide + step &* MemoryLayout<T>.size / MemoryLayout<Double>.size }
    }

    @_alwaysEmitIntoClient @_transparent
    func run() {
        var k = 0
        while k < gradOutput.columns {
            var chains = Chains(repeating: WideSums())
            add(to: &chains, k)
            store(chains, k)
            k &+= T.lanes
        }
    }

    /// Every fourth row's sums.
    @usableFromInline typealias Chains = InlineArray<4, WideSums>

    /// Adds a vector's columns from `k` on.
    @_alwaysEmitIntoClient @_transparent
    func add(to chains: inout Chains, _ k: Int) {
        let left = gradOutput.columns &- k
        let stride = gradOutput.rowStride
        var row = gradOutput.base + k
        var i = 0
        if left <= 8 && T.lanes > 8 {
            // Half of the work.
            while i &+ 4 <= gradOutput.rows {
                for r in 0..<4 { chains[r].low += T._low(T._loadPartial(row + r &* stride, left)) }
                row += 4 &* stride
                i &+= 4
            }
        } else {
            while i &+ 4 <= gradOutput.rows {
                for r in 0..<4 { T._add(T.load(row + r &* stride, upTo: left), to: &chains[r]) }
                row += 4 &* stride
                i &+= 4
            }
        }
        for r in 0..<3 {
            if i &+ r < gradOutput.rows { T._add(T.load(row + r &* stride, upTo: left), to: &chains[r]) }
        }
    }

    /// A single column's sum.
    @_alwaysEmitIntoClient @_transparent
    func store(_ sum: Double, _ k: Int) {
        if let wide {
            withUnsafePointer(to: sum) { T._accumulate($0, 1, into: wide + k, sums + k) }
        } else {
            sums[k] = T(sum)
        }
    }

    @_alwaysEmitIntoClient @_transparent
    func store(_ chains: Chains, _ k: Int) {
        let left = gradOutput.columns &- k
        let low = (chains[0].low + chains[1].low) + (chains[2].low + chains[3].low)
        let high = (chains[0].high + chains[1].high) + (chains[2].high + chains[3].high)
        if let wide {
            var block = WideSums()
            (block.low, block.high) = (low, high)
            withUnsafeBytes(of: block) {
                let block = $0.baseAddress!.assumingMemoryBound(to: Double.self)
                T._accumulate(block, min(left, T.lanes), into: wide + k, sums + k)
            }
        } else {
            T.store(T._narrow(low, high), sums + k, upTo: left)
        }
    }
}

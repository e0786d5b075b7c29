/// ∂b = 1ᵀ G: the sum of each column, in float64. Four sums a column, of every fourth row, so that no addition waits for
/// the last.
public struct ColumnSums<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var gradOutput: MatrixView<T>
    @usableFromInline var sums: UnsafeMutablePointer<T>
    /// The sums are added to these, and not stored.
    @usableFromInline var wide: UnsafeMutablePointer<Double>?

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
            let left = gradOutput.columns &- k
            var four = InlineArray<4, WideSums>(repeating: WideSums())
            var i = 0
            while i < gradOutput.rows {
                for r in 0..<4 {
                    let row = gradOutput.base + ((i &+ r) &* gradOutput.rowStride &+ k)
                    T._add(T.load(row, upTo: i &+ r < gradOutput.rows ? left : 0), to: &four[r])
                }
                i &+= 4
            }
            let low = (four[0].low + four[1].low) + (four[2].low + four[3].low)
            let high = (four[0].high + four[1].high) + (four[2].high + four[3].high)
            if let wide {
                Double.store(Double.load(wide + k, upTo: left) + low, wide + k, upTo: left)
                if T.lanes > 8 && left > 8 {
                    Double.store(
                        Double.load(wide + (k &+ 8), upTo: left &- 8) + high, wide + (k &+ 8), upTo: left &- 8)
                }
            } else {
                T.store(T._narrow(low, high), sums + k, upTo: left)
            }
            k &+= T.lanes
        }
    }
}

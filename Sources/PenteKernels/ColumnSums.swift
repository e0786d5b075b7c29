/// ∂b = 1ᵀ G: the sum of each column, in float64. Sixteen sums a column, of every sixteenth row: they round less than one, and
/// no addition waits for the last.
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
            var total = WideSums()
            var (first, end) = (0, min(Self.rowsPerPart, gradOutput.rows))
            while first < end {
                for i in 0..<min(4, (end &- first &+ 3) / 4) { add(to: &total, k, first &+ 4 &* i, end) }
                (first, end) = (end, min(end &+ Self.rowsPerPart, gradOutput.rows))
            }
            store(total, k)
            k &+= T.lanes
        }
    }

    /// Longer sums round more.
    @_alwaysEmitIntoClient @_transparent
    static var rowsPerPart: Int { 256 }

    /// Adds four rows in sixteen, of a vector's columns from `k` on.
    @_alwaysEmitIntoClient @_transparent
    func add(to total: inout WideSums, _ k: Int, _ first: Int, _ end: Int) {
        let left = gradOutput.columns &- k
        let stride = gradOutput.rowStride
        var row = gradOutput.base + (first &* stride &+ k)
        var i = first
        var chains = InlineArray<4, WideSums>(repeating: WideSums())
        if left <= 8 && T.lanes > 8 {
            // Half of the work.
            while i &+ 4 <= end {
                for r in 0..<4 { chains[r].low += T._low(T._loadPartial(row + r &* stride, left)) }
                row += 16 &* stride
                i &+= 16
            }
        } else {
            while i &+ 4 <= end {
                for r in 0..<4 { T._add(T.load(row + r &* stride, upTo: left), to: &chains[r]) }
                row += 16 &* stride
                i &+= 16
            }
        }
        for r in 0..<3 {
            if i &+ r < end { T._add(T.load(row + r &* stride, upTo: left), to: &chains[r]) }
        }
        total.low += (chains[0].low + chains[1].low) + (chains[2].low + chains[3].low)
        total.high += (chains[0].high + chains[1].high) + (chains[2].high + chains[3].high)
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
    func store(_ block: WideSums, _ k: Int) {
        let left = gradOutput.columns &- k
        if let wide {
            withUnsafeBytes(of: block) {
                let block = $0.baseAddress!.assumingMemoryBound(to: Double.self)
                T._accumulate(block, min(left, T.lanes), into: wide + k, sums + k)
            }
        } else {
            T.store(T._narrow(block.low, block.high), sums + k, upTo: left)
        }
    }
}

extension WideSums {
    /// Adds all lanes, four at a time, which are added in pairs.
    @_alwaysEmitIntoClient @_transparent
    func add(to total: inout Double) {
        let (low, high) = (low.evenHalf + low.oddHalf, high.evenHalf + high.oddHalf)
        let (low2, high2) = (low.evenHalf + low.oddHalf, high.evenHalf + high.oddHalf)
        total = (((total + low2[0]) + low2[1]) + high2[0]) + high2[1]
    }
}

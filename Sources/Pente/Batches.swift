import PenteKernels
import PenteSystem

/// An epoch's mini-batches: views of the data in order, or rows gathered in a shuffled order.
struct Batches<Element: Scalar>: ~Copyable {
    private let examples: Examples<Element>
    private let size: Int
    private var first = 0
    private var generator: MersenneTwister
    /// Empty for rows in order.
    private let order: RowOrder
    private let gathered: Buffer<Element>
    /// A row is asked for so many rows before its turn: lines of some 32 KB, which the second cache has room for.
    private let ahead: Int
    /// How many rows of the epoch have been asked for.
    private var asked = 0

    init(_ examples: Examples<Element>, _ options: FitOptions) throws(PenteError) {
        self.examples = examples
        size = min(options.batchSize, examples.count)
        generator = MersenneTwister(seed: options.seed)
        let columns = examples.x.columns + examples.y.columns + 1
        let order = options.shuffle ? try RowOrder(count: examples.count) : RowOrder()
        gathered = options.shuffle ? try Buffer(count: size * columns) : Buffer<Element>()
        self.order = order
        ahead = Self.ahead(examples)
    }

    @inline(never)
    private static func ahead(_ examples: Examples<Element>) -> Int {
        32768 / (examples.x.prefetchedBytes + examples.y.prefetchedBytes + 128)
    }

    var rows: Int { examples.count }

    mutating func startEpoch() {
        first = 0
        asked = 0
        order.shuffle(&generator)
    }

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    mutating func next() -> Examples<Element>? {
        if first == examples.count { return nil }
        let count = min(size, examples.count - first)
        defer { first += count }
        return order.isEmpty ? examples.rows(first, count) : gather(count)
    }

    /// Rows come from all over the memory, and the less of that the caches hold, the longer they take.
    @inline(__always)
    private mutating func gather(_ count: Int) -> Examples<Element> {
        let x = examples.x, y = examples.y, weight = examples.sampleWeight
        let xs = gathered.base, ys = xs + count &* x.columns, weights = ys + count &* y.columns
        for i in 0..<count {
            let wanted = min(first &+ i &+ ahead, examples.count)
            while asked < wanted {
                prefetch(order[asked])
                asked &+= 1
            }
            let row = order[first &+ i]
            x.copyRow(row, to: xs + i &* x.columns)
            y.copyRow(row, to: ys + i &* y.columns)
            if let weight { weights[i] = weight.base[row &* weight.rowStride] }
        }
        return Examples(
            x: MatrixView(xs, rows: count, columns: x.columns), y: MatrixView(ys, rows: count, columns: y.columns),
            sampleWeight: weight == nil ? nil : MatrixView(weights, rows: count, columns: 1))
    }

    @inline(__always)
    private func prefetch(_ row: Int) {
        examples.x.prefetchRow(row)
        examples.y.prefetchRow(row)
        if let weight = examples.sampleWeight { weight.prefetchRow(row) }
    }
}

extension MatrixView {
    /// A row; of one that is longer than a page the beginning, since then the processor sees where it goes.
    fileprivate var prefetchedBytes: Int {
        let bytes = columns &* MemoryLayout<Scalar>.size
        return bytes <= 4096 ? bytes : 1024
    }

    @inline(__always)
    fileprivate func prefetchRow(_ row: Int) { pente_prefetch(base + row &* rowStride, prefetchedBytes) }

    @inline(__always)
    fileprivate func copyRow(_ row: Int, to target: UnsafeMutablePointer<Scalar>) {
        let source = base + row &* rowStride
        if columns == 1 { target.pointee = source.pointee } else { target.copy(source, count: columns) }
    }
}

/// The rows in an epoch's order. 32 bits a row, where they suffice: half the memory for a shuffle to jump about in.
package struct RowOrder: ~Copyable {
    private let narrow: Buffer<UInt32>
    private let wide: Buffer<Int>

    /// No rows.
    package init() {
        narrow = Buffer()
        wide = Buffer()
    }

    package init(count: Int, isWide: Bool) throws(PenteError) {
        let narrow = isWide ? Buffer<UInt32>() : try Buffer(count: count, isZeroed: false)
        wide = isWide ? try Buffer(count: count, isZeroed: false) : Buffer<Int>()
        self.narrow = narrow
    }

    init(count: Int) throws(PenteError) { try self.init(count: count, isWide: count > Int(UInt32.max)) }

    var isEmpty: Bool { narrow.isEmpty && wide.isEmpty }

    @inline(__always)
    package subscript(i: Int) -> Int { wide.isEmpty ? Int(narrow.base[i]) : wide.base[i] }

    /// Another order with each call; without rows, no draw.
    package func shuffle(_ generator: inout MersenneTwister) {
        generator.permute(UnsafeMutableBufferPointer(start: narrow.base, count: narrow.count))
        generator.permute(UnsafeMutableBufferPointer(start: wide.base, count: wide.count))
    }
}

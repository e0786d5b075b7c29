import PenteKernels
import PenteSystem

/// An epoch's mini-batches: views of the data in order, or rows gathered in a shuffled order. The data is in memory, as one
/// window; or it comes from a source, window after window, each shuffled by itself.
struct Batches<Element: Scalar>: ~Copyable {
    /// nil: the window is all there is.
    private let reader: ReadAhead<Element>?
    private let source: DataSource<Element>?
    private var window: Examples<Element>
    /// There is no next batch, since `shouldStop` said so while the next window was waited for.
    private(set) var isStopped = false
    /// Whether the epoch ends with the window.
    private var isLast = true
    private let size: Int
    /// Of the window.
    private var first = 0
    /// Of the epoch: those before the window.
    private var rowsBefore = 0
    private let rowsPerWindow: Int
    private let shuffles: Shuffles
    /// Empty for rows in order.
    private let order: RowOrder
    private let gathered: Buffer<Element>
    /// A row is asked for so many rows before its turn: lines of some 32 KB, which the second cache has room for.
    private let ahead: Int
    /// How many rows of the window have been asked for.
    private var asked = 0

    /// Of an epoch, if that is known.
    private(set) var rows: Int?

    init(_ examples: Examples<Element>, _ options: FitOptions) throws(PenteError) {
        try self.init(examples, nil, nil, rowsPerWindow: examples.count, rows: examples.count, options)
    }

    /// From this epoch and row of the source on, for which `skip` is called with the same.
    init(_ source: DataSource<Element>, _ options: FitOptions, epoch: Int, row: Int) throws(PenteError) {
        let plan = WindowPlan(source, options, epoch: epoch, row: row)
        try self.init(
            MutableExamples(Buffer<Element>().base, rows: 0, source).readOnly, source, plan,
            rowsPerWindow: plan.rowsPerWindow, rows: source.rows, options)
    }

    private init(
        _ window: Examples<Element>, _ source: DataSource<Element>?, _ plan: WindowPlan?, rowsPerWindow: Int,
        rows: Int?, _ options: FitOptions
    ) throws(PenteError) {
        let size = min(options.batchSize, rowsPerWindow)
        let columns = window.x.columns + window.y.columns + 1
        let order = options.shuffle ? try RowOrder(count: rowsPerWindow) : RowOrder()
        let gathered = options.shuffle ? try Buffer(rows: size, columns: columns) : Buffer<Element>()
        var reader: ReadAhead<Element>?
        if let source, let plan { reader = try ReadAhead.make(source, plan) }
        self.reader = reader
        self.order = order
        self.gathered = gathered
        self.size = size
        self.window = window
        self.source = source
        self.rows = rows
        self.rowsPerWindow = rowsPerWindow
        shuffles = Shuffles(seed: options.seed)
        ahead = Self.ahead(window)
    }

    deinit { reader?.end() }

    @inline(never)
    private static func ahead(_ examples: Examples<Element>) -> Int {
        32768 / (examples.x.prefetchedBytes + examples.y.prefetchedBytes + 128)
    }

    // MARK: Epochs and windows

    /// How many rows of the epoch are done, with the last batch.
    var rowsDone: Int { rowsBefore + first }

    /// Whether that was the epoch's last, as far as is known.
    var isAtEnd: Bool { isLast && first == window.count }

    /// Before the first batch.
    mutating func startEpoch() {
        rowsBefore = 0
        first = 0
        asked = 0
        if reader == nil {
            order.shuffle(&shuffles.generator, count: window.count)
        } else {
            window = window.rows(0, 0)
            isLast = false
        }
    }

    /// Goes past so many epochs, and rows of the next one, which has begun then: with the draws for their orders, and as
    /// little reading as can be. Returns false if `shouldStop` said so.
    mutating func skip(epochs: Int, rows wanted: Int, shouldStop: (_ work: Int) -> Bool) throws(PenteError) -> Bool {
        for epoch in (order.isEmpty ? epochs : 0)...epochs {
            startEpoch()
            let wanted = epoch < epochs ? Int.max : wanted
            if let count = source?.rows {
                while rowsBefore < count && (rowsBefore + rowsPerWindow <= wanted || count <= wanted) {
                    let skipped = min(rowsPerWindow, count - rowsBefore)
                    order.shuffle(&shuffles.generator, count: skipped)
                    rowsBefore += skipped
                    if shouldStop(16 &* skipped) { return false }
                }
                isLast = rowsBefore == count
                if wanted > rowsBefore && !isLast { try advance(shouldStop) }
            }
            while !isStopped && !isLast && rowsBefore + window.count < wanted {
                try advance(shouldStop)
                if shouldStop(16 &* window.count) { return false }
            }
            if isStopped { return false }
            first = min(wanted - rowsBefore, window.count)
            asked = first
            if reader == nil && epoch < epochs && shouldStop(16 &* window.count) { return false }
        }
        return true
    }

    /// On to the next window.
    @inline(never)
    private mutating func advance(_ shouldStop: (_ work: Int) -> Bool) throws(PenteError) {
        rowsBefore += window.count
        first = 0
        asked = 0
        window = window.rows(0, 0)
        guard let next = try reader!.take(shouldStop: { shouldStop(0) }) else {
            isStopped = true
            return
        }
        (window, isLast) = next
        if isLast { rows = rowsBefore + window.count }
        order.shuffle(&shuffles.generator, count: window.count)
    }

    // MARK: Batches

    @specialized(where Element == Float)
    @specialized(where Element == Double)
    mutating func next(_ shouldStop: (_ work: Int) -> Bool) throws(PenteError) -> Examples<Element>? {
        if first == window.count {
            if isLast { return nil }
            try advance(shouldStop)
            if window.count == 0 { return nil }
        }
        let count = min(size, window.count - first)
        defer { first += count }
        return order.isEmpty ? window.rows(first, count) : gather(count)
    }

    /// Rows come from all over the memory, and the less of that the caches hold, the longer they take.
    @inline(__always)
    private mutating func gather(_ count: Int) -> Examples<Element> {
        let x = window.x, y = window.y, weight = window.sampleWeight
        let xs = gathered.base, ys = xs + count &* x.columns, weights = ys + count &* y.columns
        for i in 0..<count {
            let wanted = min(first &+ i &+ ahead, window.count)
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
        window.x.prefetchRow(row)
        window.y.prefetchRow(row)
        if let weight = window.sampleWeight { weight.prefetchRow(row) }
    }

    // MARK: What is wrong with them

    /// Where a number of the last batch is from that is not finite; nil if all of its numbers are.
    @inline(never)
    func placeOfNotFinite(_ batch: Examples<Element>) -> Message? {
        for row in 0..<batch.count {
            if let column = batch.x.columnOfNotFinite(row) { return place(batch, row, column, batch.x, .x) }
            if let column = batch.y.columnOfNotFinite(row) { return place(batch, row, column, batch.y, .y) }
        }
        return nil
    }

    private func place(
        _ batch: Examples<Element>, _ row: Int, _ column: Int, _ view: MatrixView<Element>, _ part: ExamplePart
    ) -> Message {
        let value = Double(view.base[row &* view.rowStride &+ column])
        return "\(place(ofRow: row, of: batch, part)), column \(column) is \(value)"
    }

    /// Where a row of the last batch is from.
    @inline(never)
    func place(ofRow row: Int, of batch: Examples<Element>, _ part: ExamplePart) -> Message {
        let inWindow = first - batch.count + row
        let number = order.isEmpty ? inWindow : order[inWindow]
        guard let source else { return "row \(number) of \(part.name)" }
        return source.place(ofRow: reader!.sourceRow(number), part)
    }
}

/// Not on the stack: it is 5 KB.
private final class Shuffles {
    var generator: MersenneTwister

    init(seed: UInt64) { generator = MersenneTwister(seed: seed) }
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

extension MatrixView where Scalar: Pente.Scalar {
    @inline(never)
    fileprivate func columnOfNotFinite(_ row: Int) -> Int? {
        (0..<columns).first { !base[row &* rowStride &+ $0].isFinite }
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

    /// Another order of all rows with each call; without rows, no draw.
    package func shuffle(_ generator: inout MersenneTwister) {
        shuffle(&generator, count: max(narrow.count, wide.count))
    }

    /// The same of the first `count`.
    func shuffle(_ generator: inout MersenneTwister, count: Int) {
        generator.permute(UnsafeMutableBufferPointer(start: narrow.base, count: min(count, narrow.count)))
        generator.permute(UnsafeMutableBufferPointer(start: wide.base, count: min(count, wide.count)))
    }
}

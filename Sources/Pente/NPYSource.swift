import PenteKernels
import PenteSystem

/// NumPy's .npy files as a source: x of q × inputs, y of q × outputs (or of one dimension), both of the type of
/// `Element`, in C order. Each may be several files, whose rows follow one another.
public final class NPYSource<Element: Scalar>: DataSource<Element> {
    private let x: NPYFiles, y: NPYFiles
    private let sampleWeight: NPYFiles?

    /// Opens them: at least one file of x and of y, and of sample weights, of one column, as many as you have.
    ///
    /// Throws `.fileError` where a file cannot be read, and `.invalidFile`, `.dtypeMismatch` or `.shapeMismatch` where it
    /// is not such an array, or not as long as it says.
    public convenience init(x: [String], y: [String], sampleWeight: [String] = []) throws(PenteError) {
        func files(_ paths: [String], _ name: StaticString) throws(PenteError) -> NPYFiles {
            try paths.withPaths { (paths) throws(PenteError) in try NPYFiles.make(paths, name) }
        }
        let (x, y) = (try files(x, "x"), try files(y, "y"))
        let weights = sampleWeight.isEmpty ? nil : try files(sampleWeight, "sample_weight")
        try Self.require(x, y, weights)
        self.init(x, y, weights)
    }

    package static func make(
        _ x: NPYFiles, _ y: NPYFiles, _ sampleWeight: NPYFiles?
    ) throws(PenteError) -> NPYSource {
        try require(x, y, sampleWeight)
        return NPYSource(x, y, sampleWeight)
    }

    private static func require(_ x: NPYFiles, _ y: NPYFiles, _ sampleWeight: NPYFiles?) throws(PenteError) {
        try x.require(Element.self, "x")
        try y.require(Element.self, "y")
        try sampleWeight?.require(Element.self, "sample_weight")
        if y.rows != x.rows {
            throw PenteError(.shapeMismatch, "y has \(y.rows) rows, but x has \(x.rows)")
        }
        if let sampleWeight, sampleWeight.rows != x.rows || sampleWeight.columns != 1 {
            throw PenteError(
                .shapeMismatch,
                "sample_weight is \(sampleWeight.rows, sampleWeight.columns), but x, of \(x.rows) rows, takes \(x.rows, 1)"
            )
        }
    }

    private init(_ x: NPYFiles, _ y: NPYFiles, _ sampleWeight: NPYFiles?) {
        self.x = x
        self.y = y
        self.sampleWeight = sampleWeight
        super.init(inputs: x.columns, outputs: y.columns, hasSampleWeight: sampleWeight != nil, rows: x.rows)
    }

    package override func read(_ first: Int, into batch: MutableExamples<Element>) throws(PenteError) -> Int {
        let count = min(batch.count, x.rows - first)
        try x.read(first, count, into: batch.x.base)
        try y.read(first, count, into: batch.y.base)
        if let sampleWeight { try sampleWeight.read(first, count, into: batch.sampleWeight!.base) }
        return count
    }

    package override func willRead(_ first: Int, _ count: Int) {
        x.willRead(first, count)
        y.willRead(first, count)
    }

    package override func place(ofRow row: Int, _ part: ExamplePart) -> Message {
        switch part {
        case .x: x.place(ofRow: row)
        case .y: y.place(ofRow: row)
        case .sampleWeight: sampleWeight!.place(ofRow: row)
        }
    }
}

/// Several files as one array. They are not mapped, since a mapped file that shrinks ends the process; and one of them is
/// open at a time, since there may be more than a process may open.
package final class NPYFiles {
    private struct Part: BitwiseCopyable {
        let path: UnsafePointer<CChar>
        let file: NPYFile
        /// Its first row's number in all of them.
        let first: Int
    }

    package private(set) var rows = 0
    package private(set) var columns = 0
    package private(set) var isFloat64 = false
    private let parts: Buffer<Part>
    private let names: Buffer<CChar>
    private var current = -1
    private var reader: FileReader?

    private init(_ parts: consuming Buffer<Part>, _ names: consuming Buffer<CChar>) {
        self.parts = parts
        self.names = names
    }

    package static func make(
        _ paths: UnsafeBufferPointer<UnsafePointer<CChar>?>, _ name: StaticString
    ) throws(PenteError) -> NPYFiles {
        if paths.isEmpty { throw PenteError(.invalidArgument, "\(name) is empty; there must be at least 1 file") }
        var size = 0
        for (i, path) in paths.enumerated() {
            guard let path else { throw PenteError(.invalidArgument, "\(name)[\(i)] is NULL") }
            size += strlen(path) + 1
        }
        let files = NPYFiles(try Buffer(count: paths.count), try Buffer(count: size))
        var end = files.names.base
        for (i, path) in paths.enumerated() {
            strcpy(end, path!)
            try files.add(UnsafePointer(end), index: i)
            end += strlen(end) + 1
        }
        return files
    }

    private func add(_ path: UnsafePointer<CChar>, index: Int) throws(PenteError) {
        do throws(PenteError) {
            let file = try NPYFile(FileReader(path))
            if index > 0 && (file.columns != columns || file.isFloat64 != isFloat64) {
                throw PenteError(
                    file.columns != columns ? .shapeMismatch : .dtypeMismatch,
                    "it has \(file.columns) columns of \(Self.dtype(file.isFloat64)), but the files before it have \(columns) of \(Self.dtype(isFloat64))"
                )
            }
            let (sum, overflow) = rows.addingReportingOverflow(file.rows)
            if overflow { throw PenteError(.invalidFile, "it has more rows than can be counted") }
            parts.base[index] = Part(path: path, file: file, first: rows)
            rows = sum
            columns = file.columns
            isFloat64 = file.isFloat64
        } catch {
            throw error.of(path)
        }
    }

    private static func dtype(_ isFloat64: Bool) -> StaticString { isFloat64 ? "float64" : "float32" }

    fileprivate func require<Element: Scalar>(_: Element.Type, _ name: StaticString) throws(PenteError) {
        if isFloat64 == Element.isFloat64 { return }
        throw PenteError(
            .dtypeMismatch, "\(name) is \(Self.dtype(isFloat64)), but \(Self.dtype(!isFloat64)) was expected"
        ).of(parts.base[0].path)
    }

    /// The file that has the row.
    private func index(ofRow row: Int) -> Int {
        var (low, high) = (0, parts.count - 1)
        while low < high {
            let middle = (low + high + 1) / 2
            if parts.base[middle].first <= row { low = middle } else { high = middle - 1 }
        }
        return low
    }

    /// Calls `body` for each file that has some of the rows, with their number in it.
    private func forEachFile(
        _ first: Int, _ count: Int,
        _ body: (NPYFile, borrowing FileReader, _ first: Int, _ count: Int) throws(PenteError) -> Void
    ) throws(PenteError) {
        var (i, row) = (index(ofRow: first), first)
        while row < first + count {
            let part = parts.base[i]
            let some = min(part.first + part.file.rows, first + count) - row
            do throws(PenteError) {
                if current != i {
                    reader = try FileReader(part.path)
                    current = i
                }
                try body(part.file, reader!, row - part.first, some)
            } catch {
                throw error.of(part.path)
            }
            row += some
            i += 1
        }
    }

    func read<Element>(
        _ first: Int, _ count: Int, into memory: UnsafeMutablePointer<Element>
    ) throws(PenteError) {
        var end = memory
        try forEachFile(first, count) { (file, reader, first, count) throws(PenteError) in
            try file.read(first, count, of: reader, into: end)
            end += count * columns
        }
    }

    /// What cannot be opened will say so when it is read.
    func willRead(_ first: Int, _ count: Int) {
        try? forEachFile(first, count) { (file, reader, first, count) in file.willRead(first, count, of: reader) }
    }

    func place(ofRow row: Int) -> Message {
        let part = parts.base[index(ofRow: row)]
        return "\(PenteError.shown(part.path)): row \(row - part.first)"
    }
}

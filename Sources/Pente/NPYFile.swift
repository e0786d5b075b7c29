import PenteSystem

/// What a NumPy file holds: numbers of one type, in C order (numpy.lib.format, versions 1 to 3).
struct NPYFile: BitwiseCopyable {
    let rows: Int
    /// 1 for an array of one dimension.
    let columns: Int
    let isFloat64: Bool
    /// Where the numbers begin.
    private let start: Int

    private var rowSize: Int { columns * (isFloat64 ? 8 : 4) }

    init(_ reader: borrowing FileReader) throws(PenteError) {
        let (length, start) = try Self.placeOfHeader(reader)
        let header = try Buffer<UInt8>(count: length)
        try reader.read(length, at: start - length, into: header.base)
        let array = try NPYHeader(UnsafeBufferPointer(start: header.base, count: header.count))
        let (rowSize, overflow) = array.columns.multipliedReportingOverflow(by: array.isFloat64 ? 8 : 4)
        let whole = overflow ? 0 : (reader.size - start) / rowSize
        if whole < array.rows {
            throw PenteError(
                .invalidFile, "by its header it is \(array.rows, array.columns), but it ends after \(whole) rows")
        }
        rows = array.rows
        columns = array.columns
        isFloat64 = array.isFloat64
        self.start = start
    }

    /// How long the header's text is, and where the numbers begin.
    private static func placeOfHeader(_ reader: borrowing FileReader) throws(PenteError) -> (length: Int, start: Int) {
        let prefix = try Buffer<UInt8>(count: 12)
        let bytes = prefix.base
        if reader.size >= prefix.count { try reader.read(prefix.count, at: 0, into: bytes) }
        guard bytes[0] == 0x93, memcmp(bytes + 1, "NUMPY", 5) == 0 else {
            throw PenteError(.invalidFile, "it does not begin as an NPY file does")
        }
        let version = Int(bytes[6])
        guard (1...3).contains(version) else {
            throw PenteError(.invalidFile, "it is of version \(version) of the NPY format, but 1 to 3 were expected")
        }
        var length = Int(bytes[8]) | Int(bytes[9]) << 8
        if version > 1 { length |= Int(bytes[10]) << 16 | Int(bytes[11]) << 24 }
        let start = (version > 1 ? 12 : 10) + length
        guard length > 0, length < 1 << 16, start <= reader.size else {
            throw PenteError(.invalidFile, "its header is longer than the file, or than that of any array of numbers")
        }
        return (length, start)
    }

    /// Reads rows, one behind the other.
    func read(
        _ first: Int, _ count: Int, of reader: borrowing FileReader, into memory: UnsafeMutableRawPointer
    ) throws(PenteError) {
        assert(first >= 0 && count >= 0 && first <= rows - count, "rows outside of the file")
        let done = try reader.read(upTo: count * rowSize, at: start + first * rowSize, into: memory)
        if done < count * rowSize {
            throw PenteError(
                .invalidFile, "it ends in row \(first + done / rowSize), but had \(rows) rows when it was opened")
        }
    }

    /// They are to be on their way from the disk.
    func willRead(_ first: Int, _ count: Int, of reader: borrowing FileReader) {
        reader.willRead(count * rowSize, at: start + first * rowSize)
    }
}

/// A header: a Python literal such as {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
private struct NPYHeader {
    private(set) var rows = 0
    private(set) var columns = 1
    private(set) var isFloat64 = false
    private let bytes: UnsafeBufferPointer<UInt8>
    private var position = 0

    init(_ bytes: UnsafeBufferPointer<UInt8>) throws(PenteError) {
        self.bytes = bytes
        var hasDtype = false, hasOrder = false, hasShape = false
        try expect("{")
        while !skip("}") {
            if !hasDtype && skip("'descr'") {
                hasDtype = true
                try readDtype()
            } else if !hasOrder && skip("'fortran_order'") {
                hasOrder = true
                try readOrder()
            } else if !hasShape && skip("'shape'") {
                hasShape = true
                try readShape()
            } else {
                throw fail()
            }
            if !skip(",") {
                try expect("}")
                break
            }
        }
        skipSpace()
        guard hasDtype, hasOrder, hasShape, position == bytes.count else { throw fail() }
    }

    private mutating func readDtype() throws(PenteError) {
        try expect(":")
        isFloat64 = skip("'<f8'")
        if !isFloat64 && !skip("'<f4'") {
            throw PenteError(.dtypeMismatch, "its dtype is \(value(upTo: ",")) but '<f4' or '<f8' was expected")
        }
    }

    private mutating func readOrder() throws(PenteError) {
        try expect(":")
        if skip("True") { throw PenteError(.invalidFile, "it is in Fortran order, but C order was expected") }
        try expect("False")
    }

    /// (rows,) or (rows, columns).
    private mutating func readShape() throws(PenteError) {
        try expect(":")
        skipSpace()
        let shape = value(upTo: ")")
        try expect("(")
        guard let rows = integer(), skip(",") else { throw wrong(shape) }
        self.rows = rows
        if !skip(")") {
            guard let columns = integer() else { throw wrong(shape) }
            self.columns = columns
            _ = skip(",")
            if !skip(")") { throw wrong(shape) }
        }
        if rows == 0 || columns == 0 { throw wrong(shape) }
    }

    private func wrong(_ shape: String) -> PenteError {
        PenteError(.shapeMismatch, "its shape is \(shape), but one or two dimensions, not of 0, were expected")
    }

    // MARK: Python's literals

    private mutating func skipSpace() {
        while position < bytes.count, bytes[position] == 0x20 || bytes[position] == 0x0a { position += 1 }
    }

    private mutating func skip(_ word: StaticString) -> Bool {
        skipSpace()
        let count = word.utf8CodeUnitCount
        guard bytes.count - position >= count, memcmp(bytes.baseAddress! + position, word.utf8Start, count) == 0 else {
            return false
        }
        position += count
        return true
    }

    private mutating func expect(_ word: StaticString) throws(PenteError) {
        if !skip(word) { throw fail() }
    }

    /// nil if there is none, or none that can be counted.
    private mutating func integer() -> Int? {
        skipSpace()
        var value: Int?
        while position < bytes.count, (0x30...0x39).contains(bytes[position]) {
            let (tens, overflow) = (value ?? 0).multipliedReportingOverflow(by: 10)
            let (sum, overflow2) = tens.addingReportingOverflow(Int(bytes[position] - 0x30))
            if overflow || overflow2 { return nil }
            value = sum
            position += 1
        }
        return value
    }

    /// For a message: the text up to the last of `end`, or the whole of it.
    private func value(upTo end: Unicode.Scalar) -> String {
        let rest = UnsafeBufferPointer(rebasing: bytes[position...])
        let count = rest.firstIndex(of: UInt8(ascii: end)).map { $0 + 1 } ?? rest.count
        return String(bytes: UnsafeBufferPointer(rebasing: rest.prefix(min(count, 100))))
    }

    private func fail() -> PenteError {
        PenteError(.invalidFile, "its header is not that of an array at byte \(position)")
    }
}

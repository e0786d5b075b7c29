import PenteSystem

/// Reads JSON (RFC 8259) from front to back, without a tree and so without memory: whoever reads knows what must come.
struct JSONReader {
    private let bytes: UnsafeBufferPointer<UInt8>
    private(set) var position = 0
    /// The last thing read began an object or an array.
    private var isOpening = false

    init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    /// Where and what is wrong.
    func fail(_ what: StaticString) -> PenteError {
        PenteError(.invalidFile, "\(what) at byte \(position) of its JSON")
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d { position += 1 }
    }

    @inline(never)
    private mutating func skip(_ byte: UInt8) -> Bool {
        skipSpace()
        if next != byte { return false }
        position += 1
        return true
    }

    @inline(never)
    private mutating func expect(_ byte: Unicode.Scalar, _ what: StaticString) throws(PenteError) {
        if !skip(UInt8(ascii: byte)) { throw fail(what) }
    }

    private mutating func skip(word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard bytes.count - position >= count, memcmp(bytes.baseAddress! + position, word.utf8Start, count) == 0 else {
            return false
        }
        position += count
        return true
    }

    mutating func expectEnd() throws(PenteError) {
        skipSpace()
        if next != nil { throw fail("there is more than one value") }
    }

    // MARK: Objects and arrays: a loop with `nextKey`, or `nextElement`, and one value read for each.

    @inline(never)
    mutating func beginObject() throws(PenteError) {
        try expect("{", "an object was expected")
        isOpening = true
    }

    @inline(never)
    mutating func beginArray() throws(PenteError) {
        try expect("[", "an array was expected")
        isOpening = true
    }

    /// nil at the object's end.
    @inline(never)
    mutating func nextKey() throws(PenteError) -> JSONString? {
        guard try goOn(until: "}") else { return nil }
        let key = try string()
        try expect(":", "a colon was expected")
        return key
    }

    /// false at the array's end.
    @inline(never)
    mutating func nextElement() throws(PenteError) -> Bool { try goOn(until: "]") }

    @inline(never)
    private mutating func goOn(until end: Unicode.Scalar) throws(PenteError) -> Bool {
        defer { isOpening = false }
        if skip(UInt8(ascii: end)) { return false }
        if !isOpening { try expect(",", "a comma or an end was expected") }
        return true
    }

    // MARK: Values

    @inline(never)
    mutating func string() throws(PenteError) -> JSONString {
        try expect("\"", "a string was expected")
        let start = position
        while let byte = next, byte != UInt8(ascii: "\"") {
            if byte < 0x20 { throw fail("a control character stands in a string") }
            if byte == UInt8(ascii: "\\") { try skipEscape() } else { try skipCharacter() }
        }
        guard next != nil else { throw fail("a string does not end") }
        position += 1
        return JSONString(UnsafeBufferPointer(rebasing: bytes[start..<(position - 1)]))
    }

    private mutating func skipEscape() throws(PenteError) {
        let rest = UnsafeBufferPointer(rebasing: bytes[position...])
        guard let escape = JSONString.escape(rest) else { throw fail("there is an unknown escape") }
        position += escape.length
    }

    /// One character of UTF-8 (Unicode 16, table 3-7).
    private mutating func skipCharacter() throws(PenteError) {
        let first = bytes[position]
        let count = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
        let second = position + 1 < bytes.count ? bytes[position + 1] : 0
        var isRight = first < 0x80 || (0xc2...0xf4).contains(first) && bytes.count - position >= count
        switch first {
        case 0xe0: isRight = isRight && second >= 0xa0
        case 0xed: isRight = isRight && second < 0xa0
        case 0xf0: isRight = isRight && second >= 0x90
        case 0xf4: isRight = isRight && second < 0x90
        default: break
        }
        if isRight { for i in 1..<max(count, 1) where bytes[position + i] & 0xc0 != 0x80 { isRight = false } }
        if !isRight { throw fail("there is a byte that is not UTF-8") }
        position += count
    }

    mutating func bool() throws(PenteError) -> Bool {
        skipSpace()
        if skip(word: "true") { return true }
        if skip(word: "false") { return false }
        throw fail("true or false was expected")
    }

    /// A whole number that is not negative.
    mutating func integer() throws(PenteError) -> Int {
        skipSpace()
        let start = position
        var value = 0
        while let byte = next, (0x30...0x39).contains(byte) {
            let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflow2) = tens.addingReportingOverflow(Int(byte & 0xf))
            if overflow || overflow2 { throw fail("there is too large a number") }
            value = sum
            position += 1
        }
        let isFraction = next == UInt8(ascii: ".") || next == UInt8(ascii: "e") || next == UInt8(ascii: "E")
        if position == start || isFraction || bytes[start] == 0x30 && position > start + 1 {
            throw fail("a whole number was expected")
        }
        return value
    }

    @inline(never)
    mutating func number() throws(PenteError) -> Double {
        skipSpace()
        let start = position
        try skipNumber()
        let count = position - start
        guard count < 64 else { throw fail("there is too long a number") }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { text in
            memcpy(text.baseAddress!, bytes.baseAddress! + start, count)
            text[count] = 0
            return pente_parse_double(text.baseAddress!)
        }
    }

    private mutating func skipNumber() throws(PenteError) {
        if next == UInt8(ascii: "-") { position += 1 }
        if next == 0x30 { position += 1 } else { try skipDigits() }
        if next == UInt8(ascii: ".") {
            position += 1
            try skipDigits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            position += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
            try skipDigits()
        }
    }

    private mutating func skipDigits() throws(PenteError) {
        let start = position
        while let byte = next, (0x30...0x39).contains(byte) { position += 1 }
        if position == start { throw fail("a number was expected") }
    }
}

/// The inside of a string as it stands in JSON, which is known to be right.
struct JSONString: BitwiseCopyable {
    private let raw: UnsafeBufferPointer<UInt8>

    init(_ raw: UnsafeBufferPointer<UInt8>) { self.raw = raw }

    /// How many bytes it takes at most.
    var capacity: Int { raw.count }

    /// Its characters in UTF-8, escapes resolved.
    struct Bytes: IteratorProtocol {
        fileprivate let raw: UnsafeBufferPointer<UInt8>
        private var position = 0
        /// What is left of an escaped character, its next byte lowest.
        private var pending: UInt32 = 0

        fileprivate init(_ raw: UnsafeBufferPointer<UInt8>) { self.raw = raw }

        @inline(never)
        mutating func next() -> UInt8? {
            if pending != 0 { return takePending() }
            guard position < raw.count else { return nil }
            if raw[position] != UInt8(ascii: "\\") {
                position += 1
                return raw[position - 1]
            }
            let escape = JSONString.escape(UnsafeBufferPointer(rebasing: raw[position...]))!
            position += escape.length
            if escape.scalar.value == 0 { return 0 }
            var shift: UInt32 = 0
            for byte in UTF8.encode(escape.scalar)! {
                pending |= UInt32(byte) << shift
                shift += 8
            }
            return takePending()
        }

        private mutating func takePending() -> UInt8 {
            defer { pending >>= 8 }
            return UInt8(truncatingIfNeeded: pending)
        }
    }

    var bytes: Bytes { Bytes(raw) }

    @inline(never)
    static func == (string: JSONString, text: String) -> Bool {
        var bytes = string.bytes
        return text.withBytes { (expected) in
            for byte in expected where bytes.next() != byte { return false }
            return bytes.next() == nil
        }
    }

    func hasPrefix(_ text: StaticString) -> Bool {
        var bytes = bytes
        for i in 0..<text.utf8CodeUnitCount where bytes.next() != text.utf8Start[i] { return false }
        return true
    }

    /// In the order of the bytes.
    func isBefore(_ text: String) -> Bool {
        var left = bytes
        return text.withBytes { (right) in
            for byte in right {
                guard let next = left.next() else { return true }
                if next != byte { return next < byte }
            }
            return false
        }
    }

    /// Below 0, 0 or above, by the order of the bytes.
    static func compare(_ a: JSONString, _ b: JSONString) -> Int {
        var (left, right) = (a.bytes, b.bytes)
        while true {
            let (l, r) = (left.next(), right.next())
            if l == nil && r == nil { return 0 }
            if l != r { return (l.map { Int($0) } ?? -1) - (r.map { Int($0) } ?? -1) }
        }
    }

    /// For an error, so at most its beginning.
    var text: String { prefix(80) }

    var whole: String { prefix(Int.max) }

    @inline(never)
    private func prefix(_ count: Int) -> String {
        var bytes = bytes
        var text: [UInt8] = []
        while text.count < count, let byte = bytes.next() { text.append(byte) }
        return text.withUnsafeBufferPointer { String(bytes: $0) }
    }

    /// The character of the escape that the bytes begin with, and the escape's length; nil if it is none.
    fileprivate static func escape(_ bytes: UnsafeBufferPointer<UInt8>) -> (scalar: Unicode.Scalar, length: Int)? {
        guard bytes.count >= 2 else { return nil }
        switch bytes[1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return (Unicode.Scalar(bytes[1]), 2)
        case UInt8(ascii: "b"): return ("\u{8}", 2)
        case UInt8(ascii: "f"): return ("\u{c}", 2)
        case UInt8(ascii: "n"): return ("\n", 2)
        case UInt8(ascii: "r"): return ("\r", 2)
        case UInt8(ascii: "t"): return ("\t", 2)
        case UInt8(ascii: "u"): break
        default: return nil
        }
        guard let unit = unit(bytes, at: 2) else { return nil }
        if let scalar = Unicode.Scalar(unit) { return (scalar, 6) }
        // The first half of a pair, and then the second.
        guard unit < 0xdc00, bytes.count >= 12, bytes[6] == UInt8(ascii: "\\"), bytes[7] == UInt8(ascii: "u"),
            let low = self.unit(bytes, at: 8), (0xdc00...0xdfff).contains(low),
            let scalar = Unicode.Scalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00))
        else { return nil }
        return (scalar, 12)
    }

    private static func unit(_ bytes: UnsafeBufferPointer<UInt8>, at start: Int) -> UInt32? {
        guard bytes.count >= start + 4 else { return nil }
        var unit: UInt32 = 0
        for i in start..<(start + 4) {
            switch bytes[i] {
            case 0x30...0x39: unit = unit << 4 | UInt32(bytes[i] - 0x30)
            case 0x41...0x46: unit = unit << 4 | UInt32(bytes[i] - 0x41 + 10)
            case 0x61...0x66: unit = unit << 4 | UInt32(bytes[i] - 0x61 + 10)
            default: return nil
            }
        }
        return unit
    }
}

/// Writes JSON. Whoever writes sees to the commas, and asks at the end whether there was memory for all of it.
package struct JSONWriter: ~Copyable {
    private let limit: Int
    private var memory = Buffer<UInt8>()
    private(set) var count = 0
    private var isComplete = true

    /// Takes no more bytes than `limit`.
    init(limit: Int = Int.max) { self.limit = limit }

    var isFull: Bool { count == limit }

    var bytes: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(start: memory.base, count: count) }

    func requireComplete() throws(PenteError) {
        if !isComplete { throw .outOfMemory }
    }

    @inline(never)
    private mutating func append(_ byte: UInt8) {
        if isFull || !isComplete { return }
        if count == memory.count {
            do throws(PenteError) {
                let larger = try Buffer<UInt8>(count: max(512, 2 * count), isZeroed: false)
                larger.base.copy(memory.base, count: count)
                memory = larger
            } catch {
                isComplete = false
                return
            }
        }
        memory.base[count] = byte
        count += 1
    }

    /// As it stands; numbers come out as JSON has them.
    @inline(never) @_disfavoredOverload
    mutating func raw(_ text: Message) {
        for byte in text.bytes { append(byte) }
    }

    /// Without a message, which takes memory.
    @inline(never)
    mutating func raw(_ text: StaticString) {
        for i in 0..<text.utf8CodeUnitCount { append(text.utf8Start[i]) }
    }

    @inline(never)
    mutating func string(_ value: String) {
        append(UInt8(ascii: "\""))
        value.withBytes { for byte in $0 { appendInString(byte) } }
        append(UInt8(ascii: "\""))
    }

    mutating func string(_ value: borrowing JSONWriter) {
        append(UInt8(ascii: "\""))
        for byte in value.bytes { appendInString(byte) }
        append(UInt8(ascii: "\""))
    }

    private mutating func appendInString(_ byte: UInt8) {
        if byte < 0x20 {
            raw("\\u00")
            append(0x30 + byte >> 4)
            append(byte & 0xf < 10 ? 0x30 + byte & 0xf : 0x57 + byte & 0xf)
            return
        }
        if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { append(UInt8(ascii: "\\")) }
        append(byte)
    }
}

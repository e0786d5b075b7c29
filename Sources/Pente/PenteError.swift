import PenteKernels
import PenteSystem

/// What was refused, and why: "x is 32×7, but the layer takes 10 columns". Nothing has changed when it is thrown.
public struct PenteError: Error, Sendable, CustomStringConvertible {
    /// The kind of error; the raw values are those of C's `pente_status`.
    public struct Code: RawRepresentable, Hashable, Sendable {
        /// The number of C's `pente_status`.
        public let rawValue: Int32

        /// A code of your own, for what a `CustomLayer` throws: from 1000 (PENTE_USER) on they are never Pente's.
        public init(rawValue: Int32) { self.rawValue = rawValue }

        /// PENTE_INVALID_HANDLE: met in C alone.
        public static let invalidHandle = Code(rawValue: 1)
        /// PENTE_INVALID_ARGUMENT: a size, an option or a name out of range, or outputs that overlap.
        public static let invalidArgument = Code(rawValue: 2)
        /// PENTE_SHAPE_MISMATCH: two shapes that do not fit; the message names both.
        public static let shapeMismatch = Code(rawValue: 3)
        /// PENTE_DTYPE_MISMATCH: float32 where float64 was expected, or the reverse.
        public static let dtypeMismatch = Code(rawValue: 4)
        /// PENTE_INVALID_STATE: backward without a forward before it.
        public static let invalidState = Code(rawValue: 5)
        /// PENTE_BUSY: the object is in use by another call; met in C alone.
        public static let busy = Code(rawValue: 6)
        /// PENTE_OUT_OF_MEMORY: there is no memory for a parameter, a result or a workspace.
        public static let outOfMemory = Code(rawValue: 7)
        /// PENTE_NOT_FINITE: a training step's loss, or the norm of gradients to be clipped, is NaN or infinite.
        public static let notFinite = Code(rawValue: 8)
        /// PENTE_FILE_ERROR: a file could not be opened, read or written; `systemError` says why.
        public static let fileError = Code(rawValue: 9)
        /// PENTE_INVALID_FILE: a file's contents are not what they should be.
        public static let invalidFile = Code(rawValue: 10)
    }

    /// The kind of error.
    public var code: Code { contents.code }
    /// Names the argument, what it was and what was expected.
    public var message: String { contents.message }
    /// The system's errno, of a `.fileError`; else 0.
    public var systemError: Int32 { contents.systemError }

    /// One word to pass on, in each of the many places that do.
    private final class Contents: Sendable {
        let code: Code
        let message: String
        let systemError: Int32

        init(_ code: Code, _ message: String, _ systemError: Int32) {
            self.code = code
            self.message = message
            self.systemError = systemError
        }
    }

    private let contents: Contents

    @inline(__always)
    package init(_ code: Code, _ message: Message) { self.init(code, message.start, message.end) }

    @inline(never)
    private init(_ code: Code, _ start: Text?, _ end: UnsafePointer<UInt8>?) {
        contents = Contents(code, Message(start, end).text, 0)
    }

    @inline(never)
    package init(_ code: Code, _ message: Message, systemError: Int32) {
        contents = Contents(code, message.text, systemError)
    }

    /// An error of your own, for a ``CustomLayer`` to throw.
    public init(code: Code, message: String) { contents = Contents(code, message, 0) }

    /// The message: what `print(error)` shows.
    public var description: String { message }

    package static var outOfMemory: PenteError {
        @inline(never) get { PenteError(code: .outOfMemory, message: "out of memory") }
    }
}

@inline(never)
package func requireNotNegative(_ value: Double, _ name: StaticString) throws(PenteError) {
    if !(value >= 0 && value.isFinite) {
        throw PenteError(.invalidArgument, "\(name) is \(value); it must be finite and not negative")
    }
}

/// The text of an error. A string interpolation like any other, but of few pieces, none of which is inlined: there
/// are many messages, and the library is to stay small. So a literal has no call of its own: it goes with the next one.
package struct Message: ExpressibleByStringInterpolation {
    fileprivate let start: Text?
    /// A literal that comes after it.
    fileprivate let end: UnsafePointer<UInt8>?

    fileprivate init(_ start: Text?, _ end: UnsafePointer<UInt8>?) {
        self.start = start
        self.end = end
    }

    /// Text in UTF-8. What appends to a string has 10 KB for strings that are not.
    package var bytes: [UInt8] {
        @inline(never) get { Text.add(end, to: start).bytes }
    }

    package var text: String { String(validBytes: bytes) }

    @inline(__always)
    package init(stringLiteral value: StaticString) { self.init(nil, value.utf8Start) }

    @inline(__always)
    package init(stringInterpolation interpolation: StringInterpolation) {
        self.init(interpolation.text, interpolation.literal)
    }

    package struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var text: Text?
        fileprivate var literal: UnsafePointer<UInt8>?

        @inline(__always)
        package init(literalCapacity: Int, interpolationCount: Int) {}

        @inline(__always)
        package mutating func appendLiteral(_ literal: StaticString) {
            if self.literal != nil { text = Text.add(self.literal, to: text) }
            self.literal = literal.utf8Start
        }

        @inline(__always)
        package mutating func appendInterpolation(_ string: StaticString) {
            text = Text.add(takeLiteral(), string, to: text)
        }
        @inline(__always)
        package mutating func appendInterpolation(_ string: String) {
            text = Text.add(takeLiteral(), string, to: text)
        }
        @inline(__always)
        package mutating func appendInterpolation(_ message: Message) {
            text = Text.add(takeLiteral(), message, to: text)
        }
        @inline(__always)
        package mutating func appendInterpolation(_ number: Int) {
            text = Text.add(takeLiteral(), number, to: text)
        }
        @inline(__always)
        package mutating func appendInterpolation(_ number: Int64) { appendInterpolation(Int(number)) }
        @inline(__always)
        package mutating func appendInterpolation(_ number: Int32) { appendInterpolation(Int(number)) }
        /// In as few digits as read back as the same number.
        @inline(__always)
        package mutating func appendInterpolation(_ number: Double) {
            text = Text.add(takeLiteral(), number, to: text)
        }
        /// A shape, as "3×4".
        @inline(__always)
        package mutating func appendInterpolation(_ rows: Int, _ columns: Int) {
            text = Text.add(takeLiteral(), rows, columns, to: text)
        }
        @inline(__always)
        package mutating func appendInterpolation<Element>(_ view: MatrixView<Element>) {
            appendInterpolation(view.rows, view.columns)
        }
        @inline(__always)
        package mutating func appendInterpolation<Element>(_ view: MutableMatrixView<Element>) {
            appendInterpolation(view.rows, view.columns)
        }

        /// The literal that is to go before what is appended now.
        @inline(__always)
        private mutating func takeLiteral() -> UnsafePointer<UInt8>? {
            defer { literal = nil }
            return literal
        }
    }
}

/// What a message is made of, as it grows: passed on from call to call, and none at first. A pointer to a literal is the
/// least that a call can be given: a string of Swift's is two long constants.
private struct Text {
    var bytes: [UInt8] = []

    @inline(never)
    private mutating func append(_ byte: UInt8) { bytes.append(byte) }

    private mutating func append(_ characters: UnsafePointer<UInt8>) {
        var next = characters
        while next.pointee != 0 {
            append(next.pointee)
            next += 1
        }
    }

    @inline(never)
    private mutating func append(_ text: UnsafeBufferPointer<UInt8>) {
        for byte in text { append(byte) }
    }

    @inline(never)
    static func add(_ literal: UnsafePointer<UInt8>?, to start: consuming Text?) -> Text {
        var text = start ?? Text()
        // Room for most texts at once: reserves give nothing back before all is free.
        if text.bytes.isEmpty { text.bytes.reserveCapacity(64) }
        if let literal { text.append(literal) }
        return text
    }

    @inline(never)
    static func add(_ literal: UnsafePointer<UInt8>?, _ string: StaticString, to start: consuming Text?) -> Text {
        add(string.utf8Start, to: add(literal, to: start))
    }

    @inline(never)
    static func add(_ literal: UnsafePointer<UInt8>?, _ string: String, to start: consuming Text?) -> Text {
        var text = add(literal, to: start)
        string.withBytes { text.append($0) }
        return text
    }

    @inline(never)
    static func add(_ literal: UnsafePointer<UInt8>?, _ message: Message, to start: consuming Text?) -> Text {
        var text = add(literal, to: start)
        message.bytes.withUnsafeBufferPointer { text.append($0) }
        return text
    }

    @inline(never)
    static func add(_ literal: UnsafePointer<UInt8>?, _ number: Int, to start: consuming Text?) -> Text {
        var text = add(literal, to: start)
        if number < 0 { text.append(UInt8(ascii: "-")) }
        let magnitude = number.magnitude
        if magnitude > 9 { text = add(nil, Int(magnitude / 10), to: text) }
        text.append(UInt8(ascii: "0") + UInt8(magnitude % 10))
        return text
    }

    @inline(never)
    static func add(_ literal: UnsafePointer<UInt8>?, _ number: Double, to start: consuming Text?) -> Text {
        var text = add(literal, to: start)
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { buffer in
            let characters = buffer.baseAddress!
            pente_format_double(number, UnsafeMutableRawPointer(characters).assumingMemoryBound(to: CChar.self), 32)
            text.append(characters)
        }
        return text
    }

    @inline(never)
    static func add(_ literal: UnsafePointer<UInt8>?, _ rows: Int, _ columns: Int, to start: consuming Text?) -> Text {
        let times: StaticString = "×"
        return add(times.utf8Start, columns, to: add(literal, rows, to: start))
    }
}

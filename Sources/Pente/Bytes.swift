import PenteSystem

extension String {
    /// U+FFFD stands for what is not UTF-8. `String(decoding:)` would bring what appends to strings and repairs them.
    @inline(never)
    package init(bytes: UnsafeBufferPointer<UInt8>) {
        var valid: [UInt8] = []
        var rest = bytes.makeIterator()
        var parser = Unicode.UTF8.ForwardParser()
        while true {
            switch parser.parseScalar(from: &rest) {
            case .valid(let scalar): for byte in scalar { valid.append(byte) }
            case .error: for byte in UTF8.encodedReplacementCharacter { valid.append(byte) }
            case .emptyInput:
                self.init(validBytes: valid)
                return
            }
        }
    }

    /// A C string, or its beginning.
    package init(characters: UnsafePointer<CChar>, upTo count: Int) {
        let start = UnsafeRawPointer(characters).assumingMemoryBound(to: UInt8.self)
        self.init(bytes: UnsafeBufferPointer(start: start, count: strnlen(characters, count)))
    }

    @inline(never)
    package init(validBytes: [UInt8]) {
        self.init(copying: UTF8Span(unchecked: validBytes.span))
    }

    /// Runs `body` with the text's bytes. They are always at hand: what comes here is no bridged string. A loop over
    /// `utf8` would bring what the standard library has for those.
    @inline(__always)
    package func withBytes<Result>(_ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result {
        var result: Result?
        read { result = body($0) }
        return result!
    }

    /// Short strings have their bytes in themselves, so there is code for two kinds.
    @inline(never)
    private func read(_ body: (UnsafeBufferPointer<UInt8>) -> Void) { utf8.withContiguousStorageIfAvailable(body)! }

    /// Whether both have the same bytes; == compares characters, of which some can be written in several ways.
    @inline(never)
    package func hasSameBytes(as other: String) -> Bool {
        withBytes { (bytes) in
            other.withBytes { (others) in
                bytes.count == others.count && zip(bytes, others).allSatisfy { $0 == $1 }
            }
        }
    }
}

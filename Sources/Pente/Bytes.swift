extension String {
    /// Runs `body` with the text's bytes. They are always at hand: what comes here is no bridged string. A loop over
    /// `utf8` would bring what the standard library has for those.
    package func withBytes<Result>(_ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result {
        utf8.withContiguousStorageIfAvailable(body)!
    }

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

import PenteSystem

/// The Mersenne Twister MT19937 (Matsumoto and Nishimura, 1998), seeded and drawn from as PyTorch's CPU generator.
package struct MersenneTwister: ~Copyable {
    private static var length: Int { 624 }
    private var state = InlineArray<624, UInt32>(repeating: 0)
    /// What is drawn, from `next` on.
    private var words = InlineArray<624, UInt32>(repeating: 0)
    private var next = 624

    /// The low 32 bits of the seed count, as in PyTorch.
    package init(seed: UInt64) {
        state[0] = UInt32(truncatingIfNeeded: seed)
        for i in 1..<Self.length {
            state[i] = 1_812_433_253 &* (state[i &- 1] ^ (state[i &- 1] >> 30)) &+ UInt32(truncatingIfNeeded: i)
        }
    }

    @inline(__always)
    package mutating func draw32() -> UInt32 {
        if next == Self.length { refill() }
        defer { next &+= 1 }
        return words[next]
    }

    /// Two draws, the first the high word.
    package mutating func draw64() -> UInt64 {
        let high = UInt64(draw32())
        return high << 32 | UInt64(draw32())
    }

    @inline(never) @_optimize(speed)
    private mutating func refill() {
        /// `i` with the next word, and with the one 397 further on; both cyclic.
        func twist(_ i: Int, _ following: Int, _ distant: Int) {
            let mixed = (state[i] & 0x8000_0000) | (state[following] & 0x7fff_ffff)
            state[i] = state[distant] ^ (mixed >> 1) ^ ((0 &- (mixed & 1)) & 0x9908_b0df)
        }
        for i in 0..<227 { twist(i, i &+ 1, i &+ 397) }
        for i in 227..<623 { twist(i, i &+ 1, i &- 227) }
        twist(623, 0, 396)
        for i in 0..<Self.length {
            var word = state[i]
            word ^= word >> 11
            word ^= (word << 7) & 0x9d2c_5680
            word ^= (word << 15) & 0xefc6_0000
            words[i] = word ^ (word >> 18)
        }
        next = 0
    }

    /// One of U(−bound, bound), as torch.Tensor.uniform_ draws it: as many random bits as the type has digits.
    package mutating func uniform<Element: Scalar>(bound: Double, as _: Element.Type) -> Element {
        let bits = Element.significandBitCount + 1
        let word = (bits > 32 ? draw64() : UInt64(draw32())) & (1 << bits - 1)
        let u = Element(word) / Element(1 << bits)
        let low = Element(-bound)
        return low.addingProduct(u, Element(bound) - low)
    }

    /// Writes a permutation of 0..<count: torch.randperm's.
    @_optimize(speed)
    package mutating func permute<Index: FixedWidthInteger>(_ indices: UnsafeMutableBufferPointer<Index>) {
        let count = indices.count
        for i in 0..<count { indices[i] = Index(truncatingIfNeeded: i) }
        if count < Int(UInt32.max / 20) {
            for i in 0..<max(count &- 1, 0) {
                indices.swapAt(i, i &+ Int(draw32() % UInt32(truncatingIfNeeded: count &- i)))
            }
        } else {
            // 32 bits would favour the low indices; PyTorch fills from the front then.
            for i in 0..<count {
                let other = Int(draw64() % UInt64(i &+ 1))
                indices[i] = indices[other]
                indices[other] = Index(truncatingIfNeeded: i)
            }
        }
    }
}

/// Fused multiply-add for processors without the instruction, so that they get the same bits, slowly, and the shared
/// library needs no libm. Boldo and Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using
/// rounding to odd", 2008.

/// a + b as a rounded sum and its exact error (Knuth).
@inline(__always)
func twoSum(_ a: Double, _ b: Double) -> (sum: Double, error: Double) {
    let sum = a + b
    let part = sum - a
    return (sum, (a - (sum - part)) + (b - part))
}

/// a · b as a rounded product and its exact error (Dekker, Veltkamp), for factors of moderate size.
@inline(__always)
func twoProduct(_ a: Double, _ b: Double) -> (product: Double, error: Double) {
    func split(_ x: Double) -> (Double, Double) {
        let scaled = 134_217_729 * x  // 2²⁷ + 1
        let high = scaled - (scaled - x)
        return (high, x - high)
    }
    let product = a * b
    let (aHigh, aLow) = split(a), (bHigh, bLow) = split(b)
    return (product, ((aHigh * bHigh - product) + aHigh * bLow + aLow * bHigh) + aLow * bLow)
}

/// sum + error, rounded to odd: exact, or the neighbour whose last bit is 1. A later rounding to nearest, to fewer
/// digits, then comes out as if nothing had been rounded before.
@inline(__always)
func roundToOdd(_ sum: Double, _ error: Double) -> Double {
    if error == 0 || !sum.isFinite || sum.bitPattern & 1 == 1 { return sum }
    return Double(bitPattern: (error > 0) == (sum > 0) ? sum.bitPattern + 1 : sum.bitPattern - 1)
}

package func softwareFMA(_ a: Float, _ b: Float, _ c: Float) -> Float {
    let (sum, error) = twoSum(Double(a) * Double(b), Double(c))
    return Float(roundToOdd(sum, error))
}

/// Correctly rounded, but for results below the normal range, where it may be one unit off.
package func softwareFMA(_ a: Double, _ b: Double, _ c: Double) -> Double {
    guard a.isFinite, b.isFinite, c.isFinite, a != 0, b != 0, c != 0 else { return a * b + c }
    // With factors in 1..<2 nothing can overflow on the way; c far above or below the product only breaks ties.
    let exponent = a.exponent + b.exponent
    let distance = c.exponent - exponent
    if distance > 110 { return c }
    let scaled = Double(sign: c.sign, exponent: max(distance, -200), significand: c.significand)
    let (uHigh, uLow) = twoProduct(
        Double(sign: a.sign, exponent: 0, significand: a.significand),
        Double(sign: b.sign, exponent: 0, significand: b.significand))
    let (tHigh, tLow) = twoSum(scaled, uLow)
    let (vHigh, vLow) = twoSum(uHigh, tHigh)
    let (low, error) = twoSum(tLow, vLow)
    let result = vHigh + roundToOdd(low, error)
    return Double(sign: .plus, exponent: exponent, significand: result)
}

#if hasFeature(Embedded)
    /// libm's function, which Embedded Swift calls where the processor has no such instruction.
    @_cdecl("fmaf")
    public func fmaf(_ a: Float, _ b: Float, _ c: Float) -> Float { softwareFMA(a, b, c) }

    /// The same for float64.
    @_cdecl("fma")
    public func fma(_ a: Double, _ b: Double, _ c: Double) -> Double { softwareFMA(a, b, c) }
#endif

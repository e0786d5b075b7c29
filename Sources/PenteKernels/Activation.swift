/// An activation, or a gradient times its derivative, element by element.
///
/// Built from e^a for a ≤ 0 alone, which cannot overflow: see `Exponential`.
public struct ActivationPass<T: KernelScalar>: BitwiseCopyable {
    public enum Function: UInt8, BitwiseCopyable {
        case relu, leakyReLU, tanh, sigmoid, softplus

        /// Whether the derivative is computed from y, and not from x.
        public var derivesFromOutput: Bool { self == .tanh || self == .sigmoid }
    }

    public var function: Function
    public var negativeSlope: T
    /// x; or for a derivative what `derivesFromOutput` says.
    public var input: MatrixView<T>
    /// nil for the function itself; else what its derivative is multiplied by.
    public var gradOutput: MatrixView<T>?
    public var output: MutableMatrixView<T>

    @inlinable
    public init(
        _ function: Function, negativeSlope: T, input: MatrixView<T>, gradOutput: MatrixView<T>?,
        output: MutableMatrixView<T>
    ) {
        self.function = function
        self.negativeSlope = negativeSlope
        self.input = input
        self.gradOutput = gradOutput
        self.output = output
    }

    @_alwaysEmitIntoClient @_transparent
    func run() {
        // Contiguous rows are one long row.
        let isFlat =
            input.isContiguous && output.rowStride == output.columns && (gradOutput == nil || gradOutput!.isContiguous)
        let rows = isFlat ? 1 : input.rows
        let columns = isFlat ? input.rows &* input.columns : input.columns
        for row in 0..<rows {
            let from = input.base + row &* input.rowStride
            let to = output.base + row &* output.rowStride
            var upstream: UnsafePointer<T>?
            if let gradOutput { upstream = gradOutput.base + row &* gradOutput.rowStride }
            var e = 0
            while e < columns {
                let left = columns &- e
                let v = T.load(from + e, upTo: left)
                var result = element(v, isDerivative: upstream != nil)
                if let upstream {
                    let g = T.load(upstream + e, upTo: left)
                    // 0, and not 0 times whatever came.
                    result = function == .relu ? T._choose(v, g, T.Vector.zero) : result * g
                }
                T.store(result, to + e, upTo: left)
                e &+= T.lanes
            }
        }
    }

    /// f(v), or its derivative.
    @_alwaysEmitIntoClient @_transparent
    func element(_ v: T.Vector, isDerivative: Bool) -> T.Vector {
        let zero = T.Vector.zero
        let one = T.Vector(repeating: 1)
        switch function {
        case .relu: return isDerivative ? T._choose(v, one, zero) : T._choose(zero - v, zero, v)
        case .leakyReLU:
            let slope = T.Vector(repeating: negativeSlope)
            return T._choose(v, isDerivative ? one : v, isDerivative ? slope : v * slope)
        case .tanh where isDerivative: return T._fma(zero - v, v, one)
        case .sigmoid where isDerivative: return v * (one - v)
        default: break
        }
        let minusAbs = T._choose(v, zero - v, v)
        let power = Exponential<T>(function == .tanh ? minusAbs + minusAbs : minusAbs)
        if function == .tanh {
            // With u = e^(−2|v|) − 1: tanh |v| = −u / (2 + u), without cancellation at small v.
            let u = power.minusOne
            let result = T._choose(v, zero - u, u) / (one + one + u)
            return T._choose(v, result, T._choose(zero - v, result, v))  // ±0 as it is
        }
        let z = power.value
        // The sigmoid is the derivative of softplus.
        if function == .sigmoid || isDerivative { return T._choose(v, one, z) / (one + z) }
        return T._choose(v, v, zero) + logOnePlus(z)
    }

    /// log(1 + z) for z in 0...1: with w = z / (2 + z) it is 2 artanh w = 2 (w + w³/3 + w⁵/5 + …), and w ≤ 1/3.
    @_alwaysEmitIntoClient @_transparent
    func logOnePlus(_ z: T.Vector) -> T.Vector {
        let w = z / (T.Vector(repeating: 2) + z)
        let square = w * w
        var i = T._artanhTerms
        var sum = T.Vector(repeating: 1 / T(2 &* i &+ 1))
        while i > 0 {
            i &-= 1
            sum = T._fma(sum, square, T.Vector(repeating: 1 / T(2 &* i &+ 1)))
        }
        return (w + w) * sum
    }
}

/// e^a for a ≤ 0, NaN for NaN: a = k ln 2 + r with a whole k, and e^a = 2^k e^r. Right to about a unit in the last place.
public struct Exponential<T: KernelScalar> {
    /// e^r − 1.
    @usableFromInline var part: T.Vector
    /// Two powers of 2, whose product is 2^k: so that k may go beyond the normal range.
    @usableFromInline var scale: T.Vector
    @usableFromInline var secondScale: T.Vector

    @_alwaysEmitIntoClient @_transparent
    init(_ exponent: T.Vector) {
        let magic = T.Vector(repeating: T._roundingShift)
        let lowest = T.Vector(repeating: T._lowestExponent)
        let a = T._choose(lowest - exponent, lowest, exponent)
        // What is added to so large a number keeps its whole part alone.
        let k = T._fma(a, T.Vector(repeating: T._log2e), magic) - magic
        var r = T._fma(k, T.Vector(repeating: -T._ln2.high), a)
        r = T._fma(k, T.Vector(repeating: -T._ln2.low), r)
        let half = T._fma(k, T.Vector(repeating: 0.5), magic)
        scale = T._powerOfTwo(half)
        secondScale = T._powerOfTwo(k - (half - magic) + magic)
        // Taylor: e^r − 1 = r (1 + r/2 (1 + r/3 (1 + …))), |r| ≤ ln 2 / 2.
        let one = T.Vector(repeating: 1)
        var n = T._exponentialTerms
        var sum = one
        while n > 1 {
            sum = T._fma(r * T.Vector(repeating: 1 / T(n)), sum, one)
            n &-= 1
        }
        part = r * sum
    }

    /// e^a.
    @_alwaysEmitIntoClient @_transparent
    var value: T.Vector { (T.Vector(repeating: 1) + part) * scale * secondScale }

    /// e^a − 1.
    @_alwaysEmitIntoClient @_transparent
    var minusOne: T.Vector {
        let power = scale * secondScale
        return T._fma(power, part, power - T.Vector(repeating: 1))
    }
}

/// y = (x − mean) / scale for each column; without a mean, x / scale, which is its gradient.
public struct Standardization<T: KernelScalar>: BitwiseCopyable {
    public var input: MatrixView<T>
    public var mean: UnsafePointer<T>?
    public var scale: UnsafePointer<T>
    public var output: MutableMatrixView<T>

    @inlinable
    public init(
        input: MatrixView<T>, mean: UnsafePointer<T>?, scale: UnsafePointer<T>, output: MutableMatrixView<T>
    ) {
        self.input = input
        self.mean = mean
        self.scale = scale
        self.output = output
    }

    @_alwaysEmitIntoClient @_transparent
    func run() {
        let columns = input.columns
        for row in 0..<input.rows {
            let from = input.base + row &* input.rowStride
            let to = output.base + row &* output.rowStride
            var e = 0
            while e < columns {
                let left = columns &- e
                var x = T.load(from + e, upTo: left)
                if let mean { x -= T.load(mean + e, upTo: left) }
                T.store(x / T.load(scale + e, upTo: left), to + e, upTo: left)
                e &+= T.lanes
            }
        }
    }
}

/// An activation, or a gradient times its derivative, element by element.
///
/// Built from e^a for a ≤ 0 alone, which cannot overflow: see `Exponential`.
public struct ActivationPass<T: KernelScalar>: BitwiseCopyable {
    /// f; `Pente.ActivationFunction` says which is which.
    public enum Function: UInt8, BitwiseCopyable {
        case relu, leakyReLU, tanh, sigmoid, softplus

        /// Whether the derivative is computed from y, and not from x.
        public var derivesFromOutput: Bool { self == .tanh || self == .sigmoid }
    }

    /// f.
    public var function: Function
    /// Of a leaky relu.
    public var negativeSlope: T
    /// x; or for a derivative what `derivesFromOutput` says.
    public var input: MatrixView<T>
    /// nil for the function itself; else what its derivative is multiplied by.
    public var gradOutput: MatrixView<T>?
    /// y, or x's gradient.
    public var output: MutableMatrixView<T>

    /// All of one shape; the output may be the input.
    @inlinable
    public init(
        _ function: Function, negativeSlope: T, input: MatrixView<T>, gradOutput: MatrixView<T>?,
        output: MutableMatrixView<T>
    ) {
        assert(input.rows == output.rows && input.columns == output.columns, "shapes of an activation")
        self.function = function
        self.negativeSlope = negativeSlope
        self.input = input
        self.gradOutput = gradOutput
        self.output = output
    }

    @_alwaysEmitIntoClient @_transparent
    func run<V: KernelVector<T>>(_ vector: V.Type) {
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
                let v = V._load(from + e, upTo: left)
                var result = element(v, isDerivative: upstream != nil)
                if let upstream {
                    let g = V._load(upstream + e, upTo: left)
                    if function == .relu {
                        // 0, and not 0 times whatever came; where y is NaN, what came.
                        result = V._choose(v, g, V._choose(V(repeating: 1) - result, V(repeating: 0), g))
                    } else {
                        result = result * g
                    }
                }
                V._store(result, to + e, upTo: left)
                e &+= V._lanes
            }
        }
    }

    /// f(v), or its derivative, except for relu.
    @_alwaysEmitIntoClient @_transparent
    func element<V: KernelVector<T>>(_ v: V, isDerivative: Bool) -> V {
        let zero = V(repeating: 0)
        let one = V(repeating: 1)
        switch function {
        case .relu: return V._choose(zero - v, zero, v)  // `run` has the derivative
        case .leakyReLU:
            let slope = V(repeating: negativeSlope)
            return V._choose(v, isDerivative ? one : v, isDerivative ? slope : v * slope)
        case .tanh where isDerivative: return V._fma(zero - v, v, one)
        case .sigmoid where isDerivative: return v * (one - v)
        default: break
        }
        let minusAbs = V._choose(v, zero - v, v)
        let power = Exponential(function == .tanh ? minusAbs + minusAbs : minusAbs)
        if function == .tanh {
            // With u = e^(−2|v|) − 1: tanh |v| = −u / (2 + u), without cancellation at small v.
            let u = power.minusOne
            let result = V._choose(v, zero - u, u) / (one + one + u)
            return V._choose(v, result, V._choose(zero - v, result, v))  // ±0 as it is
        }
        let z = power.value
        // The sigmoid is the derivative of softplus.
        if function == .sigmoid || isDerivative { return V._choose(v, one, z) / (one + z) }
        return V._choose(v, v, zero) + logOnePlus(z)
    }

    /// log(1 + z) for z in 0...1: with w = z / (2 + z) it is 2 artanh w = 2 (w + w³/3 + w⁵/5 + …), and w ≤ 1/3.
    @_alwaysEmitIntoClient @_transparent
    func logOnePlus<V: KernelVector<T>>(_ z: V) -> V {
        let w = z / (V(repeating: 2) + z)
        let square = w * w
        var i = T._artanhTerms
        var sum = V(repeating: 1 / T(2 &* i &+ 1))
        while i > 0 {
            i &-= 1
            sum = V._fma(sum, square, V(repeating: 1 / T(2 &* i &+ 1)))
        }
        return (w + w) * sum
    }
}

/// e^a for a ≤ 0, NaN for NaN: a = k ln 2 + r with a whole k, and e^a = 2^k e^r. Right to about a unit in the last place.
public struct Exponential<V: KernelVector> {
    /// e^r − 1.
    @usableFromInline var part: V
    /// Two powers of 2, whose product is 2^k: so that k may go beyond the normal range.
    @usableFromInline var scale: V
    @usableFromInline var secondScale: V

    @_alwaysEmitIntoClient @_transparent
    init(_ exponent: V) {
        let magic = V(repeating: V.Scalar._roundingShift)
        let lowest = V(repeating: V.Scalar._lowestExponent)
        let a = V._choose(lowest - exponent, lowest, exponent)
        // What is added to so large a number keeps its whole part alone.
        let k = V._fma(a, V(repeating: V.Scalar._log2e), magic) - magic
        var r = V._fma(k, V(repeating: -V.Scalar._ln2.high), a)
        r = V._fma(k, V(repeating: -V.Scalar._ln2.low), r)
        let half = V._fma(k, V(repeating: 0.5), magic)
        scale = V._powerOfTwo(half)
        secondScale = V._powerOfTwo(k - (half - magic) + magic)
        // Taylor: e^r − 1 = r (1 + r/2 (1 + r/3 (1 + …))), |r| ≤ ln 2 / 2.
        let one = V(repeating: 1)
        var n = V.Scalar._exponentialTerms
        var sum = one
        while n > 1 {
            sum = V._fma(r * V(repeating: 1 / V.Scalar(n)), sum, one)
            n &-= 1
        }
        part = r * sum
    }

    /// e^a.
    @_alwaysEmitIntoClient @_transparent
    var value: V { (V(repeating: 1) + part) * scale * secondScale }

    /// e^a − 1.
    @_alwaysEmitIntoClient @_transparent
    var minusOne: V {
        let power = scale * secondScale
        return V._fma(power, part, power - V(repeating: 1))
    }
}

/// y = (x − mean) / scale for each column; without a mean, x / scale, which is its gradient.
public struct Standardization<T: KernelScalar>: BitwiseCopyable {
    /// x, or y's gradient.
    public var input: MatrixView<T>
    /// A number for each column.
    public var mean: UnsafePointer<T>?
    /// A number for each column.
    public var scale: UnsafePointer<T>
    /// y, or x's gradient.
    public var output: MutableMatrixView<T>

    /// The input and the output are of one shape.
    @inlinable
    public init(
        input: MatrixView<T>, mean: UnsafePointer<T>?, scale: UnsafePointer<T>, output: MutableMatrixView<T>
    ) {
        assert(input.rows == output.rows && input.columns == output.columns, "shapes of a scaler")
        self.input = input
        self.mean = mean
        self.scale = scale
        self.output = output
    }

    @_alwaysEmitIntoClient @_transparent
    func run<V: KernelVector<T>>(_ vector: V.Type) {
        let columns = input.columns
        for row in 0..<input.rows {
            let from = input.base + row &* input.rowStride
            let to = output.base + row &* output.rowStride
            var e = 0
            while e < columns {
                let left = columns &- e
                var x = V._load(from + e, upTo: left)
                if let mean { x = x - V._load(mean + e, upTo: left) }
                V._store(x / V._load(scale + e, upTo: left), to + e, upTo: left)
                e &+= V._lanes
            }
        }
    }
}

/// One step of stochastic gradient descent for one parameter: torch.optim.SGD's formula, each update of which is one
/// fused multiply-add in the parameter's type.
public struct Update<T: KernelScalar>: BitwiseCopyable {
    public var parameter: UnsafeMutablePointer<T>
    public var gradient: UnsafeMutablePointer<T>
    public var source: Source
    /// nil without momentum.
    public var momentumBuffer: UnsafeMutablePointer<T>?
    public var count: Int
    /// The buffer has not been written yet: it becomes a copy of the gradient.
    public var isFirst: Bool
    public var learningRate: T
    public var momentum: T
    /// 1 − dampening.
    public var gradientShare: T
    public var weightDecay: T
    public var nesterov: Bool
    public var maximize: Bool

    /// Where the gradient comes from, if it is not there yet.
    public enum Source: BitwiseCopyable {
        case gradient, zero
        case sums(UnsafePointer<T>)
        case wide(UnsafePointer<Double>)
    }

    @inlinable @inline(__always)
    public init(
        parameter: UnsafeMutablePointer<T>, gradient: UnsafeMutablePointer<T>, source: Source,
        momentumBuffer: UnsafeMutablePointer<T>?, count: Int, isFirst: Bool, learningRate: T, momentum: T,
        gradientShare: T, weightDecay: T, nesterov: Bool,
        maximize: Bool
    ) {
        self.parameter = parameter
        self.gradient = gradient
        self.source = source
        self.momentumBuffer = momentumBuffer
        self.count = count
        self.isFirst = isFirst
        self.learningRate = learningRate
        self.momentum = momentum
        self.gradientShare = gradientShare
        self.weightDecay = weightDecay
        self.nesterov = nesterov
        self.maximize = maximize
    }

    @_alwaysEmitIntoClient @_transparent
    func run() {
        var e = 0
        while e < count {
            element(e, count &- e)
            e &+= T.lanes
        }
    }

    /// A vector's elements from `e` on, or the `left` that there still are.
    @_alwaysEmitIntoClient @_transparent
    func element(_ e: Int, _ left: Int) {
        let value = T.load(parameter + e, upTo: left)
        var g = T.Vector.zero
        switch source {
        case .gradient: g = T.load(gradient + e, upTo: left)
        // As if 0 had been there, and these been added.
        case .sums(let sums): g += T.load(sums + e, upTo: left)
        case .wide(let sums): g += T._narrow(sums + e, left)
        case .zero: break
        }
        if case .gradient = source {} else { T.store(g, gradient + e, upTo: left) }
        if maximize { g *= T.Vector(repeating: -1) }
        if weightDecay != 0 { g = T._fma(T.Vector(repeating: weightDecay), value, g) }
        if let momentumBuffer {
            var buffer = g
            if !isFirst {
                buffer = T.load(momentumBuffer + e, upTo: left) * T.Vector(repeating: momentum)
                buffer = T._fma(T.Vector(repeating: gradientShare), g, buffer)
            }
            T.store(buffer, momentumBuffer + e, upTo: left)
            if nesterov { g = T._fma(T.Vector(repeating: momentum), buffer, g) } else { g = buffer }
        }
        T.store(T._fma(T.Vector(repeating: -learningRate), g, value), parameter + e, upTo: left)
    }
}

/// to[e] += from[e], between the parameter's type and float64, in which sums over many rows are kept.
public struct Accumulation<T: KernelScalar>: BitwiseCopyable {
    public enum Direction: BitwiseCopyable {
        case add(UnsafePointer<T>, to: UnsafeMutablePointer<T>)
        case widen(UnsafePointer<T>, to: UnsafeMutablePointer<Double>)
        case narrow(UnsafePointer<Double>, to: UnsafeMutablePointer<T>)
    }

    @usableFromInline var direction: Direction
    @usableFromInline var count: Int

    @inlinable @inline(__always)
    public init(_ direction: Direction, count: Int) {
        self.direction = direction
        self.count = count
    }

    @_alwaysEmitIntoClient @_transparent
    func run() {
        switch direction {
        case .add(let from, let to): for e in 0..<count { to[e] += from[e] }
        case .widen(let from, let to): for e in 0..<count { to[e] += Double(from[e]) }
        case .narrow(let from, let to): for e in 0..<count { to[e] += T(from[e]) }
        }
    }
}

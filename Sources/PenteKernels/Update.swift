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
    func run<V: KernelVector<T>>(_ vector: V.Type) {
        var e = 0
        while e < count {
            element(e, count &- e, vector)
            e &+= V._lanes
        }
    }

    /// A vector's elements from `e` on, or the `left` that there still are.
    @_alwaysEmitIntoClient @_transparent
    func element<V: KernelVector<T>>(_ e: Int, _ left: Int, _ vector: V.Type) {
        let value = V._load(parameter + e, upTo: left)
        var g = V(repeating: 0)
        switch source {
        case .gradient: g = V._load(gradient + e, upTo: left)
        // As if 0 had been there, and these been added.
        case .sums(let sums): g = g + V._load(sums + e, upTo: left)
        case .wide(let sums): g = g + V._narrow(sums + e, left)
        case .zero: break
        }
        if case .gradient = source {} else { V._store(g, gradient + e, upTo: left) }
        if maximize { g = g * V(repeating: -1) }
        if weightDecay != 0 { g = V._fma(V(repeating: weightDecay), value, g) }
        if let momentumBuffer {
            var buffer = g
            if !isFirst {
                buffer = V._load(momentumBuffer + e, upTo: left) * V(repeating: momentum)
                buffer = V._fma(V(repeating: gradientShare), g, buffer)
            }
            V._store(buffer, momentumBuffer + e, upTo: left)
            if nesterov { g = V._fma(V(repeating: momentum), buffer, g) } else { g = buffer }
        }
        V._store(V._fma(V(repeating: -learningRate), g, value), parameter + e, upTo: left)
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
    func run<V: KernelVector<T>>(_ vector: V.Type) {
        var e = 0
        while e < count {
            let left = count &- e
            switch direction {
            case .add(let from, let to):
                V._store(V._load(to + e, upTo: left) + V._load(from + e, upTo: left), to + e, upTo: left)
            case .widen(let from, let to):
                V._add(V._load(from + e, upTo: left), to: to + e, left)
            case .narrow(let from, let to):
                V._store(V._load(to + e, upTo: left) + V._narrow(from + e, left), to + e, upTo: left)
            }
            e &+= V._lanes
        }
    }
}

/// One step of stochastic gradient descent for one parameter: torch.optim.SGD's formula, each update of which is one
/// fused multiply-add in the parameter's type.
public struct Update<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var parameter: UnsafeMutablePointer<T>
    /// Of `count` numbers, as the parameter.
    public let gradient: UnsafeMutablePointer<T>
    /// nil without momentum.
    @usableFromInline var momentumBuffer: UnsafeMutablePointer<T>?
    /// How many numbers the parameter has.
    public let count: Int
    /// The buffer has not been written yet: it becomes a copy of the gradient.
    @usableFromInline var isFirst: Bool
    @usableFromInline var learningRate: T
    @usableFromInline var momentum: T
    /// 1 − dampening.
    @usableFromInline var gradientShare: T
    @usableFromInline var weightDecay: T
    @usableFromInline var nesterov: Bool
    @usableFromInline var maximize: Bool

    /// `count` numbers each; without a momentum buffer there is no momentum.
    @inlinable @inline(__always)
    public init(
        parameter: UnsafeMutablePointer<T>, gradient: UnsafeMutablePointer<T>,
        momentumBuffer: UnsafeMutablePointer<T>?, count: Int, isFirst: Bool, learningRate: T, momentum: T,
        gradientShare: T, weightDecay: T, nesterov: Bool, maximize: Bool
    ) {
        self.parameter = parameter
        self.gradient = gradient
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
}

/// The step for all parameters of an optimizer.
public struct Updates<T: KernelScalar>: BitwiseCopyable {
    @usableFromInline var updates: UnsafePointer<Update<T>>
    @usableFromInline var count: Int
    /// Where each one's gradient begins in the batch's sums; negative: it is 0. nil: the gradients are there already.
    @usableFromInline var offsets: UnsafePointer<Int>?
    @usableFromInline var sums: Sums
    /// Which part of each parameter it is for, and of how many.
    public var part = 0
    /// How many parts there are.
    public var parts = 1

    /// The gradients of a batch, for the places that `offsets` names; or none: the parameters have theirs.
    public enum Sums: BitwiseCopyable {
        case narrow(UnsafePointer<T>)
        case wide(UnsafePointer<Double>)
        case none
    }

    /// `offsets` has a place in the sums for each of the updates.
    @inlinable @inline(__always)
    public init(
        _ updates: UnsafePointer<Update<T>>, count: Int, offsets: UnsafePointer<Int>? = nil, sums: Sums = .none
    ) {
        self.updates = updates
        self.count = count
        self.offsets = offsets
        self.sums = sums
    }

    @_alwaysEmitIntoClient @_transparent
    func run<V: KernelVector<T>>(_ vector: V.Type) {
        for u in 0..<count {
            let update = updates[u]
            var sums = Sums.none
            if let offsets, offsets[u] >= 0 {
                switch self.sums {
                case .narrow(let numbers): sums = .narrow(numbers + offsets[u])
                case .wide(let numbers): sums = .wide(numbers + offsets[u])
                case .none: break
                }
            }
            var (e, end) = (0, update.count)
            if parts > 1 {
                // Whole cache lines, and vectors.
                let perPart = (update.count / parts / 64 &+ 1) &* 64
                e = part &* perPart
                end = min(e &+ perPart, update.count)
            }
            while e < end {
                element(update, sums, e, end &- e, vector)
                e &+= V._lanes
            }
        }
    }

    /// A vector's elements from `e` on, or the `left` that there still are.
    @_alwaysEmitIntoClient @_transparent
    func element<V: KernelVector<T>>(_ update: Update<T>, _ sums: Sums, _ e: Int, _ left: Int, _ vector: V.Type) {
        let value = V._load(update.parameter + e, upTo: left)
        var g = V(repeating: 0)
        if offsets == nil {
            g = V._load(update.gradient + e, upTo: left)
        } else {
            // As if 0 had been there, and these been added.
            switch sums {
            case .narrow(let sums): g = g + V._load(sums + e, upTo: left)
            case .wide(let sums): g = g + V._narrow(sums + e, left)
            case .none: break
            }
            V._store(g, update.gradient + e, upTo: left)
        }
        if update.maximize { g = g * V(repeating: -1) }
        if update.weightDecay != 0 { g = V._fma(V(repeating: update.weightDecay), value, g) }
        if let momentumBuffer = update.momentumBuffer {
            var buffer = g
            if !update.isFirst {
                buffer = V._load(momentumBuffer + e, upTo: left) * V(repeating: update.momentum)
                buffer = V._fma(V(repeating: update.gradientShare), g, buffer)
            }
            V._store(buffer, momentumBuffer + e, upTo: left)
            if update.nesterov { g = V._fma(V(repeating: update.momentum), buffer, g) } else { g = buffer }
        }
        V._store(V._fma(V(repeating: -update.learningRate), g, value), update.parameter + e, upTo: left)
    }
}

/// to[e] += from[e], between the parameter's type and float64, in which sums over many rows are kept.
public struct Accumulation<T: KernelScalar>: BitwiseCopyable {
    /// From where to where.
    public enum Direction: BitwiseCopyable {
        case add(UnsafePointer<T>, to: UnsafeMutablePointer<T>)
        case widen(UnsafePointer<T>, to: UnsafeMutablePointer<Double>)
        case narrow(UnsafePointer<Double>, to: UnsafeMutablePointer<T>)
    }

    @usableFromInline var direction: Direction
    @usableFromInline var count: Int

    /// `count` numbers.
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

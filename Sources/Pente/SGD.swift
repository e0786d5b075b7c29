import PenteKernels

/// Options of `torch.optim.SGD`.
///
/// For each parameter θ with gradient g: maximize: g = −g; weight decay λ: g = g + λθ; momentum μ: buf = g on the first
/// step, then buf = μ·buf + (1 − dampening)·g; nesterov: g = g + μ·buf, else g = buf; θ = θ − lr·g. The same with its
/// derivation is in docs/gradients.md, section 9.
public struct SGDOptions: Sendable, Equatable {
    /// The learning rate: finite and not negative, as are momentum and weight decay.
    public var lr = 1e-3
    /// μ: the share of a parameter's buffer that the next step keeps.
    public var momentum = 0.0
    /// The share of the gradient that is left out of the buffer from the second step on: finite.
    public var dampening = 0.0
    /// λ: the share of a parameter that is added to its gradient.
    public var weightDecay = 0.0
    /// Wants a momentum above 0 and no dampening.
    public var nesterov = false
    /// Goes up and not down.
    public var maximize = false

    /// They are checked where an optimizer takes them: what is out of range is `.invalidArgument` there.
    public init(
        lr: Double = 1e-3, momentum: Double = 0, dampening: Double = 0, weightDecay: Double = 0, nesterov: Bool = false,
        maximize: Bool = false
    ) {
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.weightDecay = weightDecay
        self.nesterov = nesterov
        self.maximize = maximize
    }

    package func validate() throws(PenteError) {
        try requireNotNegative(lr, "lr")
        try requireNotNegative(momentum, "momentum")
        try requireNotNegative(weightDecay, "weight_decay")
        if !dampening.isFinite {
            throw PenteError(.invalidArgument, "dampening is \(dampening); it must be finite")
        }
        if nesterov && (momentum == 0 || dampening != 0) {
            throw PenteError(
                .invalidArgument,
                "nesterov wants a momentum above 0 and no dampening, but momentum is \(momentum) and dampening is \(dampening)"
            )
        }
    }
}

/// Stochastic gradient descent over layers in groups, each group with options of its own. Like its layers it belongs to
/// one thread, or actor, at a time.
public final class SGD<Element: Scalar> {
    package final class Group {
        package let layers: [Layer<Element>]
        package internal(set) var options: SGDOptions
        /// In the order of the layers' trained parameters.
        package let states: [State]

        fileprivate init(_ layers: [Layer<Element>], _ options: SGDOptions, index: Int) {
            self.layers = layers
            self.options = options
            self.states = layers.flatMap { $0.trained.map { State($0, group: index) } }
        }
    }

    /// A parameter and its momentum buffer, which it has from its first step with momentum on.
    package final class State {
        package let parameter: Parameter<Element>
        package let group: Int
        package fileprivate(set) var buffer = Buffer<Element>()
        package fileprivate(set) var hasStepped = false

        fileprivate init(_ parameter: Parameter<Element>, group: Int) {
            self.parameter = parameter
            self.group = group
        }

        /// Its step as the kernels take it, and on to the next one's place.
        @inline(never)
        fileprivate func write(to update: inout UnsafeMutablePointer<Update<Element>>, _ options: SGDOptions) {
            update.pointee = Update(
                parameter: parameter.values, gradient: parameter.gradients,
                momentumBuffer: options.momentum != 0 ? buffer.base : nil, count: parameter.count,
                isFirst: !hasStepped, learningRate: Element(options.lr), momentum: Element(options.momentum),
                gradientShare: Element(1 - options.dampening), weightDecay: Element(options.weightDecay),
                nesterov: options.nesterov, maximize: options.maximize)
            update += 1
        }

        package func requireBuffer() throws(PenteError) {
            if buffer.isEmpty { buffer = try Buffer(count: parameter.count) }
        }

        /// nil until the first step with momentum on.
        package var bufferView: MatrixView<Element>? {
            hasStepped ? MatrixView(buffer.base, rows: parameter.rows, columns: parameter.columns) : nil
        }

        /// Copies `value` to the buffer, which is there then; nil: the next step with momentum is the first.
        func setBuffer(_ value: MatrixView<Element>?) {
            hasStepped = value != nil
            if let value {
                MutableMatrixView(buffer.base, rows: parameter.rows, columns: parameter.columns).copy(value)
            }
        }
    }

    package private(set) var groups: [Group] = []
    /// Of all groups in turn.
    package private(set) var states: [State] = []

    /// A step of each state, as the kernels take it, and whether it is so still.
    private(set) var updates = Buffer<Update<Element>>()
    private var isPrepared = false
    /// How many numbers a step changes.
    private var numberCount = 0
    /// For steps on several threads, once there has been one.
    private var parallel: ParallelUpdate<Element>?
    /// Whether the next step is the first of some buffer.
    private var beginsBuffers = false

    private var isInStep = false

    /// How many steps it has made, its trainers' among them.
    public private(set) var stepCount = 0

    /// An optimizer whose group 0 is `layers`: at least one, each parameter once, and at least one to train.
    ///
    /// Throws `.invalidArgument` for others, and for options out of range.
    public init(_ layers: [Layer<Element>], options: SGDOptions = SGDOptions()) throws(PenteError) {
        try addGroup(layers, options: options)
    }

    private init() {}

    package static func make(_ layers: [Layer<Element>], options: SGDOptions) throws(PenteError) -> SGD {
        let sgd = SGD()
        try sgd.addGroup(layers, options: options)
        return sgd
    }

    /// Adds a group of further layers, with options of its own. Throws as `init(_:options:)` does, and for a parameter
    /// that another group has.
    public func addGroup(_ layers: [Layer<Element>], options: SGDOptions = SGDOptions()) throws(PenteError) {
        if layers.isEmpty { throw PenteError(.invalidArgument, "layers is empty; a group takes at least one") }
        try options.validate()
        if layers.allSatisfy({ $0.trained.isEmpty }) {
            throw PenteError(.invalidArgument, "layers has no parameters to train")
        }
        for (i, layer) in layers.enumerated() {
            for parameter in layer.trained where holds(parameter) || layers[..<i].contains(where: { $0.has(parameter) })
            {
                throw PenteError(
                    .invalidArgument,
                    "layers[\(i)] has the parameter \(parameter.name), which is in the optimizer already")
            }
        }
        let group = Group(layers, options, index: groups.count)
        groups.append(group)
        states.append(contentsOf: group.states)
        isPrepared = false
    }

    package func requireParameters(of layer: Layer<Element>) throws(PenteError) {
        if let parameter = layer.trained.first(where: { !holds($0) }) {
            throw PenteError(.invalidArgument, "sgd does not hold the layer's \(parameter.name)")
        }
    }

    package func holds(_ parameter: Parameter<Element>) -> Bool {
        states.contains { $0.parameter.isSame(as: parameter) }
    }

    /// Groups are numbered from 0, in the order in which they came.
    public var groupCount: Int { groups.count }

    /// The options of a group. Throws `.invalidArgument` if there is none of that number.
    public func options(group: Int = 0) throws(PenteError) -> SGDOptions {
        try requireGroup(group)
        return groups[group].options
    }

    /// Replaces the options of a group, from the next step on. Throws `.invalidArgument` if there is no group of that
    /// number, and for options out of range.
    public func setOptions(_ options: SGDOptions, group: Int = 0) throws(PenteError) {
        try requireGroup(group)
        try options.validate()
        groups[group].options = options
        isPrepared = false
    }

    /// Which of the states have made a step, and the groups' options, as they were before, or in a file.
    package func restore(stepCount: Int, hasStepped: [Bool], options: [SGDOptions]) {
        self.stepCount = stepCount
        for (state, hasStepped) in zip(states, hasStepped) { state.hasStepped = hasStepped }
        for (group, options) in zip(groups, options) { group.options = options }
        isPrepared = false
    }

    private func requireGroup(_ group: Int) throws(PenteError) {
        if group < 0 || group >= groups.count {
            throw PenteError(.invalidArgument, "group is \(group), but the optimizer has \(groups.count)")
        }
    }

    /// Sets the gradients of all layers to 0.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    public func zeroGradients() {
        for state in states { state.parameter.zeroGradients() }
    }

    /// One step for every parameter, from its gradient. Throws `.outOfMemory`, before anything changes, if there is no
    /// room for the momentum buffers of a first step, and `.busy` within a trainer's step.
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    public func step() throws(PenteError) {
        try requireIdle()
        try prepare()
        update()
    }

    /// A trainer's step, in which a user's code may come back here, begins and ends.
    @inline(__always)
    package func begin() throws(PenteError) {
        try requireIdle()
        isInStep = true
    }

    @inline(__always)
    package func end() { isInStep = false }

    @inline(__always)
    private func requireIdle() throws(PenteError) {
        #if !hasFeature(Embedded)  // C's handles are locked
            if isInStep { throw PenteError(.busy, "sgd is in the middle of a trainer's step") }
        #endif
    }

    /// Makes ready for a step: all that can fail in it.
    @inline(__always)
    package func prepare() throws(PenteError) {
        if !isPrepared { try collectUpdates() }
    }

    @inline(never)
    @specialized(where Element == Float)
    @specialized(where Element == Double)
    private func collectUpdates() throws(PenteError) {
        numberCount = states.reduce(0) { $0 + $1.parameter.count }
        if updates.count != states.count { updates = try Buffer(count: states.count) }
        beginsBuffers = false
        var next = updates.base
        for state in states {
            let options = groups[state.group].options
            let hasMomentum = options.momentum != 0
            if hasMomentum { try state.requireBuffer() }
            if hasMomentum && !state.hasStepped { beginsBuffers = true }
            state.write(to: &next, options)
        }
        isPrepared = true
    }

    /// The step that is prepared: from the parameters' gradients, or from those of a batch, of which `offsets` has a
    /// place for each state's.
    @inline(__always)
    package func update(offsets: UnsafePointer<Int>? = nil, sums: Updates<Element>.Sums = .none) {
        let updates = Updates(updates.base, count: updates.count, offsets: offsets, sums: sums)
        if numberCount < Self.leastShared || !updateInParallel(updates) { Element._perform(updates) }
        if beginsBuffers { endFirstStep() }
        if stepCount < Int.max { stepCount += 1 }
    }

    /// So many numbers take some 50 microseconds, in which each passes through the processor alone.
    private static var leastShared: Int { 1 << 17 }

    @inline(never)
    private func updateInParallel(_ updates: Updates<Element>) -> Bool {
        if Threads.count == 1 { return false }
        // A number takes the time of some ten multiply-adds.
        let threads = Pool.take(threads: Threads.count, work: 10 &* numberCount)
        if threads == 1 { return false }
        let parallel = self.parallel ?? ParallelUpdate(updates)
        self.parallel = parallel
        parallel.run(updates, threads: threads)
        return true
    }

    @inline(never)
    private func endFirstStep() {
        for state in states where groups[state.group].options.momentum != 0 { state.hasStepped = true }
        isPrepared = false
    }
}

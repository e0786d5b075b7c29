import PenteKernels

/// All that an optimizer's next steps depend on, beside the parameters and their gradients.
public struct SGDState<Element: Scalar>: Sendable, Equatable {
    /// Of each group in turn.
    public var options: [SGDOptions]
    /// Of each parameter in turn, in its shape; nil: it has none, and its next step with momentum is its first.
    public var momentumBuffers: [Matrix<Element>?]
    /// How many steps the optimizer has made.
    public var stepCount: Int

    /// A state of these options, buffers and step count, which `SGD.setState` checks.
    public init(options: [SGDOptions], momentumBuffers: [Matrix<Element>?], stepCount: Int) {
        self.options = options
        self.momentumBuffers = momentumBuffers
        self.stepCount = stepCount
    }
}

extension SGD {
    /// The parameters that it trains: group after group, in each those of its layers in turn.
    public var parameters: [Parameter<Element>] { states.map { $0.parameter } }

    /// A copy of its state, with which `setState` makes another optimizer of the same groups go on as this one.
    public var state: SGDState<Element> {
        SGDState(
            options: groups.map { $0.options },
            momentumBuffers: states.map { $0.bufferView.map { Matrix(copying: $0) } }, stepCount: stepCount)
    }

    /// Sets the state, or throws and changes nothing: it must be of as many groups and parameters, with valid options
    /// and buffers of the parameters' shapes.
    public func setState(_ state: SGDState<Element>) throws(PenteError) {
        try setState(
            groupCount: state.options.count, parameterCount: state.momentumBuffers.count, stepCount: state.stepCount,
            options: { (i) throws(PenteError) in state.options[i] },
            withBuffer: { (i, body) throws(PenteError) in try state.momentumBuffers[i].withView(body) })
    }

    /// The same, from wherever the options and the buffers are. It asks twice: to check all of them, and to take them.
    package func setState(
        groupCount: Int, parameterCount: Int, stepCount: Int, options: (Int) throws(PenteError) -> SGDOptions,
        withBuffer: (Int, (MatrixView<Element>?) throws(PenteError) -> Void) throws(PenteError) -> Void
    ) throws(PenteError) {
        guard groupCount == groups.count, parameterCount == states.count else {
            throw PenteError(
                .invalidArgument,
                "group_count and parameter_count are \(groupCount) and \(parameterCount), but the optimizer has \(groups.count) and \(states.count)"
            )
        }
        if stepCount < 0 {
            throw PenteError(.invalidArgument, "step_count is \(stepCount); it must not be negative")
        }
        for i in 0..<groupCount { try options(i).validate() }
        for (i, state) in states.enumerated() {
            try withBuffer(i) { (value) throws(PenteError) in
                guard let value else { return }
                try state.parameter.requireShape(of: value, "momentum_buffers[\(i)]")
                try state.requireBuffer()
            }
        }
        for (i, group) in groups.enumerated() { group.options = try options(i) }
        for (i, state) in states.enumerated() {
            try withBuffer(i) { (value) throws(PenteError) in state.setBuffer(value) }
        }
        restore(stepCount: stepCount, hasStepped: [], options: [])
    }

    /// A parameter's state, by its number.
    package func state(_ index: Int) throws(PenteError) -> State {
        if index < 0 || index >= states.count {
            throw PenteError(.invalidArgument, "index is \(index), but the optimizer has \(states.count) parameters")
        }
        return states[index]
    }
}

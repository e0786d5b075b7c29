// The functions are documented in pente.h.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

import CPente
import PenteSystem

/// A trainer of either dtype. The layer and the optimizer are held.
class TrainerResource: Resource {
    fileprivate final let layer: LayerResource
    fileprivate final let sgd: SGDResource
    /// What the layer and the optimizer's layers lock.
    fileprivate private(set) final var locks = Locks()
    /// How many of them are the optimizer's, which may get further layers.
    private final var optimizerLocks = 0
    /// Where all that a step writes lies, but for its own memory.
    fileprivate private(set) final var memory = AddressRange()

    fileprivate init(_ layer: LayerResource, _ sgd: SGDResource) {
        self.layer = layer
        self.sgd = sgd
        super.init()
        layer.slot.hold()
        sgd.slot.hold()
    }

    @inline(never)
    fileprivate final func collectLocks() throws(PenteError) {
        var all = Locks()
        try all.add(sgd.locks)
        try layer.addLocks(to: &all)
        all.removeRepeats()
        locks = all
        optimizerLocks = sgd.locks.count
        memory = layer.memory.union(sgd.memory)
    }

    /// Runs `body` while no other call uses the optimizer or a layer, but for what `body` itself lets in.
    @inline(__always)
    fileprivate final func withAll<Result>(_ body: () throws(PenteError) -> Result) throws(PenteError) -> Result {
        try sgd.slot.withWrite("sgd") { () throws(PenteError) in
            if sgd.locks.count != optimizerLocks { try collectLocks() }
            return try locks.with(.write, "a layer of the trainer", body)
        }
    }

    /// Lets others read the layers and use the optimizer while `callback` runs. `process`: in which the run began.
    fileprivate final func letIn(_ process: Int32, _ callback: () -> Bool) throws(PenteError) -> Bool {
        for i in 0..<locks.count { locks[i].downgrade() }
        sgd.isFitting = true
        sgd.slot.end(.write)
        let result = callback()
        let isWhole = sgd.slot.beginWaiting(isReader: false, process: process)
        sgd.isFitting = false
        // Nobody writes them meanwhile.
        for i in 0..<locks.count { _ = locks[i].beginWaiting(isReader: true, process: process) }
        if !isWhole { throw HandleTable.busy("sgd") }
        return result
    }

    fileprivate func setMaxGradientNorm(_ maxNorm: Double) throws(PenteError) { fatalError() }
    fileprivate func step(_ data: ExampleMatrices) throws(PenteError) -> Double { fatalError() }
    fileprivate func accumulate(_ data: ExampleMatrices) throws(PenteError) { fatalError() }
    fileprivate var sumCount: Int { fatalError() }
    fileprivate func requireSumCount(_ count: Int) throws(PenteError) { fatalError() }
    fileprivate func getSums(_ sums: UnsafeMutablePointer<Double>, _ count: Int) throws(PenteError) { fatalError() }
    fileprivate func setSums(_ sums: UnsafeBufferPointer<Double>) throws(PenteError) { fatalError() }
    fileprivate func applySums() throws(PenteError) -> Double { fatalError() }
    /// Of a source, or of matrices.
    fileprivate func fit(
        _ source: SourceResource?, _ data: ExampleMatrices, _ options: pente_fit_options
    ) throws(PenteError) -> FitRun {
        fatalError()
    }

    deinit {
        sgd.slot.unhold()
        layer.slot.unhold()
    }
}

/// x, y and sample weights as C gives them.
private struct ExampleMatrices {
    let x: UnsafePointer<pente_matrix>?
    let y: UnsafePointer<pente_matrix>?
    let sampleWeight: UnsafePointer<pente_matrix>?

    /// None of them may lie in what a step writes.
    @inline(__always)
    func examplesOfStep<Element: Scalar>(
        for trainer: Trainer<Element>, in memory: AddressRange
    ) throws(PenteError) -> Examples<Element> {
        let examples: Examples<Element> = try views("x", "y")
        if !memory.isApart(from: examples) { try require(examples, apartFrom: trainer, "x", "y") }
        return examples
    }

    /// The same for a whole run, without a range's addresses: what has no element's size in it is there once for both types.
    func examples<Element: Scalar>(
        for trainer: Trainer<Element>, _ xName: StaticString = "x", _ yName: StaticString = "y"
    ) throws(PenteError) -> Examples<Element> {
        let examples: Examples<Element> = try views(xName, yName)
        try require(examples, apartFrom: trainer, xName, yName)
        return examples
    }

    @inline(__always)
    private func views<Element>(_ xName: StaticString, _ yName: StaticString) throws(PenteError) -> Examples<Element> {
        Examples(
            x: try x.view(xName), y: try y.view(yName), sampleWeight: try sampleWeight.viewIfAny("sample_weight"))
    }

    @inline(never)
    private func require<Element>(
        _ examples: Examples<Element>, apartFrom trainer: Trainer<Element>, _ xName: StaticString,
        _ yName: StaticString
    ) throws(PenteError) {
        try require(examples, apartFrom: trainer.layer, xName, yName)
        for group in trainer.sgd.groups {
            for layer in group.layers where layer !== trainer.layer {
                try require(examples, apartFrom: layer, xName, yName)
            }
        }
    }

    private func require<Element>(
        _ examples: Examples<Element>, apartFrom layer: Layer<Element>, _ xName: StaticString, _ yName: StaticString
    ) throws(PenteError) {
        try examples.x.requireApart(from: layer, xName)
        try examples.y.requireApart(from: layer, yName)
        try examples.sampleWeight?.requireApart(from: layer, "sample_weight")
    }
}

extension AddressRange {
    @inline(__always)
    fileprivate func isApart<Element>(from examples: Examples<Element>) -> Bool {
        if let sampleWeight = examples.sampleWeight, !isApart(from: sampleWeight) { return false }
        return isApart(from: examples.x) && isApart(from: examples.y)
    }
}

private final class TypedTrainer<Element: Scalar>: TrainerResource {
    private let trainer: Trainer<Element>

    private init(_ trainer: Trainer<Element>, _ layer: LayerResource, _ sgd: SGDResource) {
        self.trainer = trainer
        super.init(layer, sgd)
    }

    static func make(_ layer: LayerResource, _ mse: MSE, _ sgd: SGDResource) throws(PenteError) -> TypedTrainer {
        let trainer = try Trainer.make(
            layer: unsafeDowncast(layer, to: TypedLayer<Element>.self).layer, mse: mse,
            sgd: unsafeDowncast(sgd, to: TypedSGD<Element>.self).sgd)
        let resource = TypedTrainer(trainer, layer, sgd)
        try resource.collectLocks()
        return resource
    }

    override func setMaxGradientNorm(_ maxNorm: Double) throws(PenteError) {
        try trainer.setMaxGradientNorm(maxNorm)
    }

    @_optimize(speed)
    override func step(_ data: ExampleMatrices) throws(PenteError) -> Double {
        try trainer.step(data.examplesOfStep(for: trainer, in: memory))!
    }

    override func accumulate(_ data: ExampleMatrices) throws(PenteError) {
        try trainer.accumulate(data.examples(for: trainer))
    }

    override var sumCount: Int { trainer.sumCount }

    override func requireSumCount(_ count: Int) throws(PenteError) { try trainer.requireSumCount(count) }

    override func getSums(_ sums: UnsafeMutablePointer<Double>, _ count: Int) throws(PenteError) {
        try trainer.getSums(sums, count: count)
    }

    override func setSums(_ sums: UnsafeBufferPointer<Double>) throws(PenteError) { try trainer.setSums(sums) }

    override func applySums() throws(PenteError) -> Double { try trainer.applySums() }

    override func fit(
        _ source: SourceResource?, _ data: ExampleMatrices, _ options: pente_fit_options
    ) throws(PenteError) -> FitRun {
        let fitData = try self.data(source, data)
        if (options.validation_x == nil) != (options.validation_y == nil) {
            throw PenteError(.invalidArgument, "validation_x and validation_y go together, but one of them is NULL")
        }
        let validation: Examples<Element>? =
            options.validation_x == nil
            ? nil
            : try ExampleMatrices(x: options.validation_x, y: options.validation_y, sampleWeight: nil)
                .examples(for: trainer, "validation_x", "validation_y")
        if options.on_epoch != nil { try Callbacks.requireNone("on_epoch") }
        return try trainer.fit(
            fitData, validation: validation, options: FitOptions(options), checkpointPath: options.checkpoint_path,
            schedule: try schedule(options), FitCallbacks(options, self))
    }

    private func data(_ source: SourceResource?, _ data: ExampleMatrices) throws(PenteError) -> FitData<Element> {
        guard let source else { return .examples(try data.examples(for: trainer)) }
        if data.sampleWeight != nil {
            throw PenteError(
                .invalidArgument, "options has sample_weight, but those of a source come from it; it must be NULL")
        }
        if source.dtype != Element.dtype {
            throw PenteError(.dtypeMismatch, "the source's rows are not \(Element.dtypeName), as the layer is")
        }
        return .source(unsafeDowncast(source, to: TypedSource<Element>.self).source)
    }

    private func schedule(
        _ options: pente_fit_options
    ) throws(PenteError) -> UnsafeMutableBufferPointer<Double>? {
        if options.schedule_count < 0 || options.schedule_count > 1 << 40 {
            throw PenteError(
                .invalidArgument, "schedule_count is \(Int(options.schedule_count)); it must be from 0 to 2^40")
        }
        if options.schedule_count > 0 && options.schedule == nil {
            throw PenteError(
                .invalidArgument, "schedule is NULL, but schedule_count is \(Int(options.schedule_count))")
        }
        return options.schedule.map { UnsafeMutableBufferPointer(start: $0, count: Int(options.schedule_count)) }
    }
}

/// A C program's callbacks.
private final class FitCallbacks: FitObserver {
    private let options: pente_fit_options
    private let trainer: TrainerResource
    /// In which the run began.
    private let process = getpid()

    init(_ options: pente_fit_options, _ trainer: TrainerResource) {
        self.options = options
        self.trainer = trainer
        super.init(isOneOfSeveral: options.reduce != nil)
    }

    /// The user may read the layers and use the optimizer meanwhile.
    override func onEpoch(_ epoch: Epoch) throws(PenteError) -> Bool {
        guard let callback = options.on_epoch else { return false }
        var epoch = pente_epoch(
            struct_size: MemoryLayout<pente_epoch>.size, epoch: Int64(epoch.epoch), epochs: Int64(epoch.epochs),
            training_loss: epoch.trainingLoss, validation_loss: epoch.validationLoss)
        return try trainer.letIn(process) { callback(&epoch, options.user_data) != 0 }
    }

    override func onProgress(_ progress: Progress) {
        guard let callback = options.on_progress else { return }
        var progress = pente_progress(
            struct_size: MemoryLayout<pente_progress>.size, epoch: Int64(progress.epoch),
            epochs: Int64(progress.epochs), row: Int64(progress.row), rows: Int64(progress.rows ?? -1),
            loss: progress.loss, rows_per_second: progress.rowsPerSecond, seconds_left: progress.secondsLeft)
        callback(&progress, options.user_data)
    }

    override func shouldStop() -> Bool { options.should_stop.map { $0(options.user_data) != 0 } ?? false }

    override func reduce(_ sums: UnsafeMutableBufferPointer<Double>) throws(PenteError) {
        let status = options.reduce(sums.baseAddress, Int64(sums.count), options.user_data)
        if status != 0 { throw PenteError(PenteError.Code(rawValue: status), "the reduce callback returned \(status)") }
    }
}

extension FitOptions {
    fileprivate init(_ options: pente_fit_options) throws(PenteError) {
        self.init(
            epochs: Int(options.epochs), batchSize: Int(options.batch_size), shuffle: options.shuffle != 0,
            seed: options.seed, firstEpoch: Int(options.first_epoch), patience: Int(options.patience),
            minDelta: options.min_delta, shuffleWindow: Int(options.shuffle_window))
        if options.checkpoint_path != nil {
            checkpoint = Checkpoint(
                path: "", epochs: Int(options.checkpoint_epochs), seconds: options.checkpoint_seconds,
                resumes: options.resume != 0)
        } else if options.resume != 0 {
            throw PenteError(.invalidArgument, "resume is \(Int(options.resume)), but checkpoint_path is NULL")
        }
    }
}

@inline(__always)
private func withTrainer<Result>(
    _ handle: OpaquePointer?, _ body: (TrainerResource) throws(PenteError) -> Result
) throws(PenteError) -> Result {
    try HandleTable.with(handle, .trainer, .write, "trainer") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: TrainerResource.self))
    }
}

@_cdecl("pente_trainer_new") @implementation
public func pente_trainer_new(
    _ layer: OpaquePointer!, _ mse: OpaquePointer!, _ sgd: OpaquePointer!,
    _ trainer: UnsafeMutablePointer<OpaquePointer?>!
) -> pente_status {
    status("pente_trainer_new") { () throws(PenteError) in
        try withLayer(layer, .read) { (layer) throws(PenteError) in
            try withMSE(mse) { (mse) throws(PenteError) in
                try withSGD(sgd, .read) { (sgd) throws(PenteError) in
                    let trainer = try require(trainer, "trainer")
                    if layer.dtype != sgd.dtype {
                        throw PenteError(
                            .invalidArgument, "sgd does not hold the layer's parameters, whose dtype is another")
                    }
                    let resource: TrainerResource =
                        layer.dtype == Float.dtype
                        ? try TypedTrainer<Float>.make(layer, mse, sgd) : try TypedTrainer<Double>.make(layer, mse, sgd)
                    trainer.pointee = try HandleTable.insert(resource, .trainer)
                }
            }
        }
    }
}

@_cdecl("pente_trainer_free") @implementation
public func pente_trainer_free(_ trainer: OpaquePointer!) -> pente_status {
    freeing("pente_trainer_free", trainer, .trainer, "trainer")
}

@_cdecl("pente_trainer_set_max_gradient_norm") @implementation
public func pente_trainer_set_max_gradient_norm(_ trainer: OpaquePointer!, _ max_norm: Double) -> pente_status {
    status("pente_trainer_set_max_gradient_norm") { () throws(PenteError) in
        try HandleTable.withResource(trainer, .trainer, .write, "trainer") { (trainer) throws(PenteError) in
            try unsafeDowncast(trainer, to: TrainerResource.self).setMaxGradientNorm(max_norm)
        }
    }
}

@_cdecl("pente_trainer_step") @implementation
public func pente_trainer_step(
    _ trainer: OpaquePointer!, _ x: UnsafePointer<pente_matrix>!, _ y: UnsafePointer<pente_matrix>!,
    _ sample_weight: UnsafePointer<pente_matrix>!, _ loss: UnsafeMutablePointer<Double>!
) -> pente_status {
    statusOfStep("pente_trainer_step") { () throws(PenteError) in
        try withTrainer(trainer) { (trainer) throws(PenteError) in
            try trainer.withAll { () throws(PenteError) in
                let value = try trainer.step(ExampleMatrices(x: x, y: y, sampleWeight: sample_weight))
                loss?.pointee = value
            }
        }
    }
}

/// For what does not write the layers.
private func withTrainer(
    _ handle: OpaquePointer?, _ access: Access, _ body: (TrainerResource) throws(PenteError) -> Void
) throws(PenteError) {
    try HandleTable.withResource(handle, .trainer, access, "trainer") { (resource) throws(PenteError) in
        try body(unsafeDowncast(resource, to: TrainerResource.self))
    }
}

@_cdecl("pente_trainer_accumulate") @implementation
public func pente_trainer_accumulate(
    _ trainer: OpaquePointer!, _ x: UnsafePointer<pente_matrix>!, _ y: UnsafePointer<pente_matrix>!,
    _ sample_weight: UnsafePointer<pente_matrix>!
) -> pente_status {
    status("pente_trainer_accumulate") { () throws(PenteError) in
        try withTrainer(trainer) { (trainer) throws(PenteError) in
            try trainer.withAll { () throws(PenteError) in
                try trainer.accumulate(ExampleMatrices(x: x, y: y, sampleWeight: sample_weight))
            }
        }
    }
}

@_cdecl("pente_trainer_get_sum_count") @implementation
public func pente_trainer_get_sum_count(
    _ trainer: OpaquePointer!, _ count: UnsafeMutablePointer<Int64>!
) -> pente_status {
    status("pente_trainer_get_sum_count") { () throws(PenteError) in
        try withTrainer(trainer, .read) { (trainer) throws(PenteError) in
            try require(count, "count").pointee = Int64(trainer.sumCount)
        }
    }
}

@_cdecl("pente_trainer_get_sums") @implementation
public func pente_trainer_get_sums(
    _ trainer: OpaquePointer!, _ sums: UnsafeMutablePointer<Double>!, _ count: Int64
) -> pente_status {
    status("pente_trainer_get_sums") { () throws(PenteError) in
        try withTrainer(trainer, .read) { (trainer) throws(PenteError) in
            try trainer.requireSumCount(Int(count))
            try trainer.getSums(require(sums, "sums"), Int(count))
        }
    }
}

@_cdecl("pente_trainer_set_sums") @implementation
public func pente_trainer_set_sums(
    _ trainer: OpaquePointer!, _ sums: UnsafePointer<Double>!, _ count: Int64
) -> pente_status {
    status("pente_trainer_set_sums") { () throws(PenteError) in
        try withTrainer(trainer, .write) { (trainer) throws(PenteError) in
            if sums == nil && count == 0 { return try trainer.setSums(UnsafeBufferPointer(start: nil, count: 0)) }
            try trainer.requireSumCount(Int(count))
            try trainer.setSums(UnsafeBufferPointer(start: require(sums, "sums"), count: Int(count)))
        }
    }
}

@_cdecl("pente_trainer_apply_sums") @implementation
public func pente_trainer_apply_sums(
    _ trainer: OpaquePointer!, _ loss: UnsafeMutablePointer<Double>!
) -> pente_status {
    status("pente_trainer_apply_sums") { () throws(PenteError) in
        try withTrainer(trainer) { (trainer) throws(PenteError) in
            try trainer.withAll { () throws(PenteError) in
                let value = try trainer.applySums()
                loss?.pointee = value
            }
        }
    }
}

@_cdecl("pente_trainer_fit") @implementation
public func pente_trainer_fit(
    _ trainer: OpaquePointer!, _ x: UnsafePointer<pente_matrix>!, _ y: UnsafePointer<pente_matrix>!,
    _ options: UnsafePointer<pente_fit_options>!, _ report: UnsafeMutablePointer<pente_fit_report>!
) -> pente_status {
    status("pente_trainer_fit") { () throws(PenteError) in
        try fit(trainer, nil, x, y, options, report)
    }
}

@_cdecl("pente_trainer_fit_source") @implementation
public func pente_trainer_fit_source(
    _ trainer: OpaquePointer!, _ source: OpaquePointer!, _ options: UnsafePointer<pente_fit_options>!,
    _ report: UnsafeMutablePointer<pente_fit_report>!
) -> pente_status {
    status("pente_trainer_fit_source") { () throws(PenteError) in
        try withSource(source, .write) { (source) throws(PenteError) in
            try fit(trainer, source, nil, nil, options, report)
        }
    }
}

private func fit(
    _ trainer: OpaquePointer?, _ source: SourceResource?, _ x: UnsafePointer<pente_matrix>?,
    _ y: UnsafePointer<pente_matrix>?, _ options: UnsafePointer<pente_fit_options>?,
    _ report: UnsafeMutablePointer<pente_fit_report>?
) throws(PenteError) {
    try withTrainer(trainer) { (trainer) throws(PenteError) in
        let chosen = try sized(options, "options") ?? pente_fit_options.defaults
        try requireSized(report, "report")
        let data = ExampleMatrices(x: x, y: y, sampleWeight: chosen.sample_weight)
        let run = try trainer.withAll { () throws(PenteError) in try trainer.fit(source, data, chosen) }
        for i in 0..<min(run.epochs, Int(chosen.epochs)) {
            chosen.training_losses?[i] = run.trainingLoss(i)
            chosen.validation_losses?[i] = run.validationLoss(i)
            chosen.learning_rates?[i] = run.learningRate(i)
        }
        report?.pointee = pente_fit_report(
            struct_size: MemoryLayout<pente_fit_report>.size, epochs: Int64(run.epochs),
            best_epoch: Int64(run.bestEpoch), stop_reason: run.stopReason.rawValue)
    }
}

extension pente_fit_options {
    fileprivate static var defaults: pente_fit_options {
        let options = FitOptions()
        var defaults = pente_fit_options()
        defaults.epochs = Int64(options.epochs)
        defaults.batch_size = Int64(options.batchSize)
        defaults.shuffle = options.shuffle ? 1 : 0
        defaults.checkpoint_epochs = 1
        return defaults
    }
}

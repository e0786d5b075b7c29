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

    fileprivate func setMaxGradientNorm(_ maxNorm: Double) throws(PenteError) { fatalError() }
    fileprivate func step(_ data: ExampleMatrices) throws(PenteError) -> Double { fatalError() }
    fileprivate func fit(_ data: ExampleMatrices, _ options: pente_fit_options, _ losses: inout Losses)
        throws(PenteError) -> FitSummary
    {
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

/// The losses of a run, until it is known that it did not fail.
private struct Losses: ~Copyable {
    private var values = Buffer<Double>()
    private(set) var count = 0

    mutating func append(_ training: Double, _ validation: Double) throws(PenteError) {
        if 2 * count == values.count {
            let larger = try Buffer<Double>(count: max(64, 2 * values.count))
            larger.base.copy(values.base, count: values.count)
            values = larger
        }
        values.base[2 * count] = training
        values.base[2 * count + 1] = validation
        count += 1
    }

    func copy(_ part: Int, to numbers: UnsafeMutablePointer<Double>?) {
        guard let numbers else { return }
        for i in 0..<count { numbers[i] = values.base[2 * i + part] }
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

    override func fit(_ data: ExampleMatrices, _ options: pente_fit_options, _ losses: inout Losses) throws(PenteError)
        -> FitSummary
    {
        let examples = try data.examples(for: trainer)
        if (options.validation_x == nil) != (options.validation_y == nil) {
            throw PenteError(.invalidArgument, "validation_x and validation_y go together, but one of them is NULL")
        }
        let validation: Examples<Element>? =
            options.validation_x == nil
            ? nil
            : try ExampleMatrices(x: options.validation_x, y: options.validation_y, sampleWeight: nil)
                .examples(for: trainer, "validation_x", "validation_y")
        if options.on_epoch != nil { try Callbacks.requireNone("on_epoch") }
        let process = getpid()
        func onEpoch(_ epoch: Epoch) throws(PenteError) -> Bool {
            if options.training_losses != nil || options.validation_losses != nil {
                try losses.append(epoch.trainingLoss, epoch.validationLoss)
            }
            return try report(epoch, options, process)
        }
        return try trainer.fit(
            examples, validation: validation, options: FitOptions(options), onEpoch: onEpoch,
            shouldStop: { options.should_stop.map { $0(options.user_data) != 0 } ?? false })
    }

    /// Calls the user, who may read the layers and use the optimizer meanwhile. `process`: in which the run began.
    private func report(_ epoch: Epoch, _ options: pente_fit_options, _ process: Int32) throws(PenteError) -> Bool {
        guard let callback = options.on_epoch else { return false }
        for i in 0..<locks.count { locks[i].downgrade() }
        sgd.isFitting = true
        sgd.slot.end(.write)
        var epoch = pente_epoch(
            struct_size: MemoryLayout<pente_epoch>.size, epoch: Int64(epoch.epoch), epochs: Int64(epoch.epochs),
            training_loss: epoch.trainingLoss, validation_loss: epoch.validationLoss)
        let stops = callback(&epoch, options.user_data) != 0
        let isWhole = sgd.slot.beginWaiting(isReader: false, process: process)
        sgd.isFitting = false
        // Nobody writes them meanwhile.
        for i in 0..<locks.count { _ = locks[i].beginWaiting(isReader: true, process: process) }
        if !isWhole { throw HandleTable.busy("sgd") }
        return stops
    }
}

extension FitOptions {
    fileprivate init(_ options: pente_fit_options) {
        self.init(
            epochs: Int(options.epochs), batchSize: Int(options.batch_size), shuffle: options.shuffle != 0,
            seed: options.seed, firstEpoch: Int(options.first_epoch), patience: Int(options.patience),
            minDelta: options.min_delta)
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

@_cdecl("pente_trainer_fit") @implementation
public func pente_trainer_fit(
    _ trainer: OpaquePointer!, _ x: UnsafePointer<pente_matrix>!, _ y: UnsafePointer<pente_matrix>!,
    _ options: UnsafePointer<pente_fit_options>!, _ report: UnsafeMutablePointer<pente_fit_report>!
) -> pente_status {
    status("pente_trainer_fit") { () throws(PenteError) in
        try withTrainer(trainer) { (trainer) throws(PenteError) in
            let chosen = try sized(options, "options") ?? pente_fit_options.defaults
            try requireSized(report, "report")
            var losses = Losses()
            let data = ExampleMatrices(x: x, y: y, sampleWeight: chosen.sample_weight)
            let summary = try trainer.withAll { () throws(PenteError) in
                try trainer.fit(data, chosen, &losses)
            }
            losses.copy(0, to: chosen.training_losses)
            losses.copy(1, to: chosen.validation_losses)
            report?.pointee = pente_fit_report(
                struct_size: MemoryLayout<pente_fit_report>.size, epochs: Int64(summary.epochs),
                best_epoch: Int64(summary.bestEpoch), stop_reason: summary.stopReason.rawValue)
        }
    }
}

extension pente_fit_options {
    fileprivate static var defaults: pente_fit_options {
        let options = FitOptions()
        var defaults = pente_fit_options()
        defaults.epochs = Int64(options.epochs)
        defaults.batch_size = Int64(options.batchSize)
        defaults.shuffle = options.shuffle ? 1 : 0
        return defaults
    }
}

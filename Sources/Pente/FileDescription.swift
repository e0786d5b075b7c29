/// What a file's metadata says: how the layer is built, of which dtype, an optimizer's state but for its buffers, and how far
/// a run is.
struct FileDescription {
    let architecture: Architecture
    let isFloat64: Bool
    private(set) var optimizer: SavedOptimizer?
    private(set) var run: SavedRun?

    /// Bounds the memory and time that a file can take before it is found to be wrong.
    private static var longest: Int { 1 << 20 }
    /// Each chain has names of its own for its parameters: what a file asks for would else be many times its size.
    private static var mostNames: Int { 500_000 }

    /// What is to be said of a layer and its optimizer.
    static func json<Element>(
        of layer: Layer<Element>, optimizer: SavedOptimizer?, run: SavedRun?
    ) throws(PenteError) -> JSONWriter {
        var json = JSONWriter(limit: longest)
        json.raw("{\"dtype\":\"\(Element.dtypeName)\",\"layer\":")
        layer.describe(to: &json)
        if let optimizer {
            json.raw(",\"sgd\":")
            optimizer.write(to: &json)
        }
        if let run {
            json.raw(",\"fit\":")
            run.write(to: &json)
        }
        json.raw("}")
        if json.isFull || layer.nameCount > mostNames {
            throw PenteError(
                .invalidArgument, "layer takes more than 1 MB, or 500,000 names, to describe: no file has more")
        }
        try json.requireComplete()
        return json
    }

    /// The optimizer, which must have the same parameters in the same groups.
    func requireOptimizer(groups: [SavedOptimizer.Group]) throws(PenteError) -> SavedOptimizer {
        guard let optimizer else { throw PenteError(.invalidFile, "it holds no optimizer") }
        var isSame = optimizer.groups.count == groups.count
        for (saved, group) in zip(optimizer.groups, groups) where isSame {
            isSame = saved.parameters.count == group.parameters.count
            for (a, b) in zip(saved.parameters, group.parameters) where !a.hasSameBytes(as: b) { isSame = false }
        }
        if !isSame { throw PenteError(.invalidFile, "its optimizer has other groups, or other parameters in them") }
        for group in optimizer.groups { try group.options.validate() }
        return optimizer
    }

    /// Without a description, a file of a "weight" and perhaps a "bias" alone is one of a linear layer.
    init(_ file: borrowing TensorFile) throws(PenteError) {
        guard let text = file.description else {
            guard let weight = file.tensor(named: "weight"), weight.rank == 2 else {
                throw PenteError(
                    .invalidFile,
                    "it does not say how its layer is built, and has no weight of two dimensions; make the layer and load its parameters"
                )
            }
            architecture = .linear(
                inputs: weight.columns, outputs: weight.rows, bias: file.tensor(named: "bias") != nil)
            isFloat64 = weight.isFloat64
            return
        }
        let decoded = try Buffer<UInt8>(count: min(text.capacity, Self.longest) + 1, isZeroed: false)
        var count = 0
        var bytes = text.bytes
        while let byte = bytes.next() {
            if count == Self.longest { throw PenteError(.invalidFile, "its description is longer than 1 MB") }
            decoded.base[count] = byte
            count += 1
        }
        var json = JSONReader(UnsafeBufferPointer(start: decoded.base, count: count))
        self = try FileDescription(from: &json)
        try json.expectEnd()
    }

    private init(from json: inout JSONReader) throws(PenteError) {
        var architecture: Architecture?
        var isFloat64: Bool?
        try json.beginObject()
        while let key = try json.nextKey() {
            if key == "dtype" {
                let dtype = try json.string()
                isFloat64 = dtype == "float64"
                guard dtype == "float64" || dtype == "float32" else { throw json.fail("there is an unknown dtype") }
            } else if key == "layer" {
                architecture = try Architecture(from: &json)
            } else if key == "sgd" {
                optimizer = try SavedOptimizer(from: &json)
            } else if key == "fit" {
                run = try SavedRun(from: &json)
            } else {
                throw json.fail("there is an unknown entry")
            }
        }
        guard let architecture, let isFloat64 else { throw json.fail("there is no layer, or no dtype") }
        if architecture.nameCount() > Self.mostNames { throw json.fail("there are more than 500,000 names") }
        self.architecture = architecture
        self.isFloat64 = isFloat64
    }
}

struct SavedOptimizer {
    struct Group {
        var options = SGDOptions()
        var parameters: [String] = []
    }

    private(set) var stepCount = 0
    private(set) var groups: [Group] = []

    init(stepCount: Int, groups: [Group]) {
        self.stepCount = stepCount
        self.groups = groups
    }

    func write(to json: inout JSONWriter) {
        json.raw("{\"step_count\":\(stepCount),\"groups\":[")
        for (i, group) in groups.enumerated() {
            if i > 0 { json.raw(",") }
            group.write(to: &json)
        }
        json.raw("]}")
    }

    init(from json: inout JSONReader) throws(PenteError) {
        try json.beginObject()
        while let key = try json.nextKey() {
            if key == "step_count" {
                stepCount = try json.integer()
            } else if key == "groups" {
                try json.beginArray()
                while try json.nextElement() { groups.append(try Group(from: &json)) }
            } else {
                throw json.fail("the optimizer has an unknown entry")
            }
        }
    }
}

extension SavedOptimizer.Group {
    func write(to json: inout JSONWriter) {
        json.raw("{\"lr\":\(options.lr),\"momentum\":\(options.momentum),\"dampening\":\(options.dampening)")
        json.raw(",\"weight_decay\":\(options.weightDecay),\"nesterov\":")
        json.raw(options.nesterov ? "true" : "false")
        json.raw(",\"maximize\":")
        json.raw(options.maximize ? "true" : "false")
        json.raw(",\"parameters\":[")
        for (i, name) in parameters.enumerated() {
            if i > 0 { json.raw(",") }
            json.string(name)
        }
        json.raw("]}")
    }

    init(from json: inout JSONReader) throws(PenteError) {
        try json.beginObject()
        while let key = try json.nextKey() {
            if key == "lr" {
                options.lr = try json.number()
            } else if key == "momentum" {
                options.momentum = try json.number()
            } else if key == "dampening" {
                options.dampening = try json.number()
            } else if key == "weight_decay" {
                options.weightDecay = try json.number()
            } else if key == "nesterov" {
                options.nesterov = try json.bool()
            } else if key == "maximize" {
                options.maximize = try json.bool()
            } else if key == "parameters" {
                try json.beginArray()
                while try json.nextElement() { parameters.append(try json.string().whole) }
            } else {
                throw json.fail("a group has an unknown entry")
            }
        }
    }
}

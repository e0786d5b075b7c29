import PenteKernels
import PenteSystem

// Layers in safetensors files: the parameters by their names, an optimizer's momentum as "sgd.<name>.momentum_buffer",
// and in the metadata, as "pente", a description in JSON of how the layer and the optimizer are built.

/// A parameter, or its momentum, as files know it: of either dtype.
struct NamedTensor {
    let name: String
    let isFloat64: Bool
    let rank: Int
    let rows: Int
    let columns: Int
    let memory: UnsafeMutableRawPointer

    init<Element: Scalar>(
        _ parameter: Parameter<Element>, name: String, memory: UnsafeMutablePointer<Element>
    ) {
        self.name = name
        isFloat64 = Element.isFloat64
        rank = parameter.rank
        rows = parameter.rows
        columns = parameter.columns
        self.memory = UnsafeMutableRawPointer(memory)
    }

    /// Of float64, and no parameter.
    init(_ name: String, rank: Int, rows: Int, columns: Int, _ memory: UnsafeMutablePointer<Double>) {
        self.name = name
        isFloat64 = true
        self.rank = rank
        self.rows = rows
        self.columns = columns
        self.memory = UnsafeMutableRawPointer(memory)
    }

    var size: Int { rows * columns * (isFloat64 ? 8 : 4) }
}

extension Scalar {
    static var isFloat64: Bool { MemoryLayout<Self>.size == 8 }
}

/// A layer of either dtype, as a file has it.
package enum LoadedLayer {
    case float32(Layer<Float>)
    case float64(Layer<Double>)
}

// MARK: Writing

extension Layer {
    /// Writes the layer to a safetensors file, and with `sgd`, which must hold the layer's parameters and no others, its
    /// options, momentum buffers and step count. The file takes the place of an old one only when it is on the disk.
    ///
    /// The parameters have the names and shapes that torch.nn.Linear and nn.Sequential give them. Throws `.fileError`,
    /// with `systemError`, if the file cannot be written, and `.invalidArgument` if `sgd` holds other parameters; an
    /// old file is there as it was then.
    public final func save(to path: String, sgd: SGD<Element>? = nil) throws(PenteError) {
        try path.withPath { (path) throws(PenteError) in try save(to: path, sgd: sgd) }
    }

    package final func save(to path: UnsafePointer<CChar>, sgd: SGD<Element>?) throws(PenteError) {
        try withMemoryForNames { () throws(PenteError) in try write(to: path, sgd, nil, []) }
    }

    /// With a run and the tensors that belong to it.
    final func save(
        to path: UnsafePointer<CChar>, sgd: SGD<Element>, run: SavedRun, tensors: () -> [NamedTensor]
    ) throws(PenteError) {
        try withMemoryForNames { () throws(PenteError) in try write(to: path, sgd, run, tensors()) }
    }

    private final func write(
        to path: UnsafePointer<CChar>, _ sgd: SGD<Element>?, _ run: SavedRun?, _ runTensors: [NamedTensor]
    ) throws(PenteError) {
        var tensors = namedParameters
        var optimizer: SavedOptimizer?
        if let sgd {
            try requireSameParameters(sgd)
            optimizer = SavedOptimizer(stepCount: sgd.stepCount, groups: groups(of: sgd))
            for state in sgd.states where state.hasStepped { tensors.append(namedMomentum(state)) }
        }
        tensors.append(contentsOf: runTensors)
        try writeTensors(tensors, FileDescription.json(of: self, optimizer: optimizer, run: run), to: path)
    }

    /// About what the names of the parameters and the descriptions of their layers take.
    private final func withMemoryForNames(_ body: () throws(PenteError) -> Void) throws(PenteError) {
        try Reserve.with(count: parameters.count, bytesEach: 2048, body)
    }

    private final var namedParameters: [NamedTensor] {
        parameters.map { NamedTensor($0, name: $0.name, memory: $0.values) }
    }

    final func name(of state: SGD<Element>.State) -> String {
        parameters.first { $0.isSame(as: state.parameter) }!.name
    }

    private final func namedMomentum(_ state: SGD<Element>.State) -> NamedTensor {
        NamedTensor(state.parameter, name: momentumName(name(of: state)), memory: state.buffer.base)
    }

    private final func groups(of sgd: SGD<Element>) -> [SavedOptimizer.Group] {
        sgd.groups.map { group in
            SavedOptimizer.Group(options: group.options, parameters: group.states.map { name(of: $0) })
        }
    }

    final func requireSameParameters(_ sgd: SGD<Element>) throws(PenteError) {
        try sgd.requireParameters(of: self)
        for state in sgd.states where !has(state.parameter) {
            throw PenteError(
                .invalidArgument, "sgd holds a parameter, \(state.parameter.name), that is not the layer's")
        }
    }
}

private func momentumName(_ parameter: String) -> String { Message("sgd.\(parameter).momentum_buffer").text }

private func writeTensors(
    _ tensors: [NamedTensor], _ description: borrowing JSONWriter, to path: UnsafePointer<CChar>
) throws(PenteError) {
    var json = JSONWriter()
    json.raw("{\"__metadata__\":{\"format\":\"pt\",\"pente\":")
    json.string(description)
    json.raw("}")
    var offset = 0
    for tensor in tensors {
        json.raw(",")
        json.string(tensor.name)
        json.raw(tensor.isFloat64 ? ":{\"dtype\":\"F64\",\"shape\":[" : ":{\"dtype\":\"F32\",\"shape\":[")
        if tensor.rank == 2 { json.raw("\(tensor.rows),") }
        json.raw("\(tensor.columns)],\"data_offsets\":[\(offset),\(offset + tensor.size)]}")
        offset += tensor.size
    }
    json.raw("}")
    try json.requireComplete()
    let padding = 7 & -json.count  // so that the data is aligned

    var writer = try FileWriter(path)
    var length = UInt64(json.count + padding).littleEndian
    var spaces: UInt64 = 0x2020_2020_2020_2020
    try writer.write(&length, 8)
    try writer.write(json.bytes.baseAddress!, json.count)
    try writer.write(&spaces, padding)
    for tensor in tensors { try writer.write(tensor.memory, tensor.size) }
    try writer.commit()
}

// MARK: Reading

extension Layer {
    /// The layer that a file holds: one that `save` wrote, without custom layers in it, or any file of a "weight" and
    /// perhaps a "bias" alone, which is a linear layer.
    ///
    /// Throws `.fileError`, with `systemError`, if the file cannot be read, `.invalidFile` if it is damaged or holds no
    /// such layer, and `.dtypeMismatch` if its numbers are not of the type `Element`. The size of the
    /// file bounds the memory that it takes.
    public static func load(from path: String) throws(PenteError) -> Layer {
        try path.withPath { (path) throws(PenteError) in
            var layer: Layer?
            try withFile(path) { (file) throws(PenteError) in
                let description = try FileDescription(file)
                if description.isFloat64 != Element.isFloat64 {
                    throw PenteError(.dtypeMismatch, "its layer is not \(Element.dtypeName)")
                }
                layer = try make(description.architecture, file)
            }
            return layer!
        }
    }

    fileprivate static func make(
        _ architecture: Architecture, _ file: borrowing TensorFile
    ) throws(PenteError) -> Layer {
        let layer = try make(architecture, file, prefix: "")
        try file.read(layer.namedParameters, ignoring: ["sgd.", "fit."])
        return layer
    }

    /// Nothing is made that the file's tensors are not there for, so its size bounds the memory.
    private static func make(
        _ architecture: Architecture, _ file: borrowing TensorFile, prefix: String
    ) throws(PenteError) -> Layer {
        switch architecture {
        case .linear(let inputs, let outputs, let bias):
            try file.require(Message("\(prefix)weight").text, rank: 2, rows: outputs, columns: inputs)
            return try Linear.make(inputs: inputs, outputs: outputs, bias: bias)
        case .activation(let function):
            return try Activation.make(function)
        case .scaler(let features):
            try file.require(Message("\(prefix)mean").text, rank: 1, rows: 1, columns: features)
            return try Scaler.make(features: features)
        case .chain(let architectures):
            var layers: [Layer] = []
            for (i, architecture) in architectures.enumerated() {
                layers.append(try make(architecture, file, prefix: Message("\(prefix)\(i).").text))
            }
            return try Chain.make(layers)
        case .custom:
            throw PenteError(
                .invalidFile,
                "its layer \(prefix)custom is not in the file, but the user's own; make the layer and load its parameters"
            )
        }
    }

    /// Sets the parameters of this layer, of any kind, from a file with the same names, shapes and dtype; with `sgd` also
    /// all that `save` wrote of one whose groups have the same parameters.
    ///
    /// A run that is resumed so, with ``FitOptions/firstEpoch``, goes on to the same bits as one that was never
    /// interrupted. Throws as `load(from:)` does, and `.shapeMismatch` for a parameter of another shape; neither the
    /// layer nor `sgd` has changed then.
    public final func loadParameters(from path: String, sgd: SGD<Element>? = nil) throws(PenteError) {
        try path.withPath { (path) throws(PenteError) in try loadParameters(from: path, sgd: sgd) }
    }

    package final func loadParameters(from path: UnsafePointer<CChar>, sgd: SGD<Element>?) throws(PenteError) {
        if let sgd { try requireSameParameters(sgd) }
        try withMemoryForNames { () throws(PenteError) in
            if let sgd { return try read(path, sgd, isRun: false) { _ in [] } }
            try withFile(path) { (file) throws(PenteError) in
                try file.read(namedParameters, ignoring: ["sgd.", "fit."])
            }
        }
    }

    /// With the tensors that `body` names for the run that the file is to hold.
    final func loadParameters(
        from path: UnsafePointer<CChar>, sgd: SGD<Element>,
        runTensors: (SavedRun) throws(PenteError) -> [NamedTensor]
    ) throws(PenteError) {
        try withMemoryForNames { () throws(PenteError) in try read(path, sgd, isRun: true, runTensors) }
    }

    private final func read(
        _ path: UnsafePointer<CChar>, _ sgd: SGD<Element>, isRun: Bool,
        _ runTensors: (SavedRun) throws(PenteError) -> [NamedTensor]
    ) throws(PenteError) {
        try withFile(path) { (file) throws(PenteError) in
            let description = try FileDescription(file)
            let saved = try description.requireOptimizer(groups: groups(of: sgd))
            var tensors = namedParameters
            if isRun {
                guard let run = description.run else { throw PenteError(.invalidFile, "it holds no run") }
                // The file's size bounds the memory for them.
                if run.epochs > 0 { try file.require("fit.losses", rank: 2, rows: run.epochs, columns: 3) }
                tensors.append(contentsOf: try runTensors(run))
            }
            // Which of the buffers are in the file: the others' parameters have made no step with momentum yet.
            let isThere = sgd.states.map { file.tensor(named: momentumName(name(of: $0))) != nil }
            for (state, isThere) in zip(sgd.states, isThere) where isThere {
                try state.requireBuffer()
                tensors.append(namedMomentum(state))
            }
            try file.read(tensors, ignoring: isRun ? [] : ["fit."])
            sgd.restore(stepCount: saved.stepCount, hasStepped: isThere, options: saved.groups.map { $0.options })
        }
    }
}

extension TensorFile {
    @discardableResult @inline(never)
    fileprivate func require(_ name: String, rank: Int, rows: Int, columns: Int) throws(PenteError) -> Int {
        guard let index = index(of: name) else { throw PenteError(.invalidFile, "it has no \(name)") }
        let tensor = tensors[index]
        guard tensor.rank == rank, tensor.rows == rows, tensor.columns == columns else {
            throw PenteError(
                .shapeMismatch,
                "its \(name) has \(tensor.rank) dimensions and is \(tensor.rows, tensor.columns), but the layer's has \(rank) and is \(rows, columns)"
            )
        }
        return index
    }

    /// Reads just these tensors; none of them has changed if one is not there, or another is whose name does not begin with one
    /// of `ignored`.
    fileprivate func read(_ targets: [NamedTensor], ignoring ignored: [StaticString]) throws(PenteError) {
        let found = try Buffer<Int>(rows: targets.count, columns: 1)
        let isFound = try Buffer<Bool>(rows: count, columns: 1)
        var size = 0
        for (i, target) in targets.enumerated() {
            let index = try require(target.name, rank: target.rank, rows: target.rows, columns: target.columns)
            if tensors[index].isFloat64 != target.isFloat64 {
                throw PenteError(
                    .dtypeMismatch,
                    "its \(target.name) is \(tensors[index].isFloat64 ? "float64" : "float32"), and the layer's is not")
            }
            found.base[i] = index
            isFound.base[index] = true
            size += target.size
        }
        for i in 0..<count where !isFound.base[i] {
            let name = tensors[i].name
            if ignored.contains(where: { name.hasPrefix($0) }) { continue }
            throw PenteError(.invalidFile, "it has \(name.text), which the layer has not")
        }
        let staged = try Buffer<UInt8>(rows: 1, columns: size)
        var offset = 0
        for (i, target) in targets.enumerated() {
            try read(tensors[found.base[i]], into: staged.base + offset)
            offset += target.size
        }
        offset = 0
        for target in targets {
            memcpy(target.memory, staged.base + offset, target.size)
            offset += target.size
        }
    }
}

/// The layer of either dtype that a file holds.
package func loadLayer(from path: UnsafePointer<CChar>) throws(PenteError) -> LoadedLayer {
    var layer: LoadedLayer?
    try withFile(path, isLayerFromFile: true) { (file) throws(PenteError) in
        // What comes of the description takes more than its text, but not so much more.
        try Reserve.with(count: file.description?.capacity ?? 0, bytesEach: 100) { () throws(PenteError) in
            let description = try FileDescription(file)
            layer =
                description.isFloat64
                ? .float64(try Layer<Double>.make(description.architecture, file))
                : .float32(try Layer<Float>.make(description.architecture, file))
        }
    }
    return layer!
}

/// How many epochs the run of a file has done in all, and rows of the next one.
package func savedRun(at path: UnsafePointer<CChar>) throws(PenteError) -> (epochs: Int, row: Int) {
    var saved: SavedRun?
    try withFile(path, isLayerFromFile: true) { (file) throws(PenteError) in
        try Reserve.with(count: file.description?.capacity ?? 0, bytesEach: 100) { () throws(PenteError) in
            saved = try FileDescription(file).run
        }
        if saved == nil { throw PenteError(.invalidFile, "it holds no run") }
    }
    return (saved!.firstEpoch &+ saved!.epochs, saved!.row)
}

/// Errors in the file name it. If all that there is of the layer is from the file, whatever is wrong is wrong in the file.
@inline(never)
private func withFile(
    _ path: UnsafePointer<CChar>, isLayerFromFile: Bool = false,
    _ body: (borrowing TensorFile) throws(PenteError) -> Void
) throws(PenteError) {
    do throws(PenteError) {
        try body(TensorFile(path))
    } catch {
        if error.code == .fileError || error.code == .outOfMemory { throw error }
        let code = isLayerFromFile || error.code == .invalidArgument ? .invalidFile : error.code
        throw PenteError(code, "\(PenteError.shown(path)): \(error.message)")
    }
}

extension [String] {
    /// All of them, in the system's encoding.
    func withPaths<Result>(
        _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        var characters: [CChar] = []
        var starts: [Int] = []
        for path in self {
            starts.append(characters.count)
            try path.withPath { (path) throws(PenteError) in
                for i in 0...strlen(path) { characters.append(path[i]) }
            }
        }
        return try characters.withUnsafeBufferPointer { (characters) throws(PenteError) in
            let paths: [UnsafePointer<CChar>?] = starts.map { characters.baseAddress! + $0 }
            return try paths.withUnsafeBufferPointer { (paths) throws(PenteError) in try body(paths) }
        }
    }
}

extension String {
    func withPath<Result>(
        _ body: (UnsafePointer<CChar>) throws(PenteError) -> Result
    ) throws(PenteError) -> Result {
        if withBytes({ $0.contains(0) }) { throw PenteError(.invalidArgument, "path has a NUL in it") }
        var bytes = withBytes { $0.map { CChar(bitPattern: $0) } }
        bytes.append(0)
        return try bytes.withUnsafeMutableBufferPointer { (bytes) throws(PenteError) in try body(bytes.baseAddress!) }
    }
}

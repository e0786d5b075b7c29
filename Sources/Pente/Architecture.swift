/// How a layer is built: what a file says of it beside its parameters.
indirect enum Architecture {
    case linear(inputs: Int, outputs: Int, bias: Bool)
    case activation(ActivationFunction)
    case scaler(features: Int)
    case chain([Architecture])
    /// A layer of the user's own, of which a file can say no more.
    case custom
}

extension Architecture {
    /// The names of its parameters: each has one in every chain that it is in.
    func nameCount(depth: Int = 0) -> Int {
        switch self {
        case .linear(_, _, let bias): bias ? 2 * depth : depth
        case .scaler: 2 * depth
        case .chain(let layers): layers.reduce(0) { $0 + $1.nameCount(depth: depth + 1) }
        default: 0
        }
    }
}

// From JSON: {"type": "chain", "layers": [{"type": "linear", "in_features": 64, ...}, {"type": "relu"}]}. A layer's `describe`
// writes it.
extension Architecture {
    /// What may stand in a layer's object; its type decides what must.
    private struct Fields {
        var type: JSONString?
        var inputs: Int?
        var outputs: Int?
        var features: Int?
        var bias: Bool?
        var negativeSlope: Double?
        var layers: [Architecture]?
    }

    init(from json: inout JSONReader, depth: Int = 1) throws(PenteError) {
        if depth > Chain<Float>.deepest + 1 { throw json.fail("layers nest too deep") }
        var fields = Fields()
        try json.beginObject()
        while let key = try json.nextKey() {
            if key == "type" {
                fields.type = try json.string()
            } else if key == "in_features" {
                fields.inputs = try json.integer()
            } else if key == "out_features" {
                fields.outputs = try json.integer()
            } else if key == "features" {
                fields.features = try json.integer()
            } else if key == "bias" {
                fields.bias = try json.bool()
            } else if key == "negative_slope" {
                fields.negativeSlope = try json.number()
            } else if key == "layers" {
                fields.layers = try Self.layers(from: &json, depth: depth)
            } else {
                throw json.fail("a layer has an unknown entry")
            }
        }
        guard let architecture = Self.make(fields) else {
            throw json.fail("a layer has an unknown type, or lacks an entry")
        }
        self = architecture
    }

    private static func layers(from json: inout JSONReader, depth: Int) throws(PenteError) -> [Architecture] {
        var layers: [Architecture] = []
        try json.beginArray()
        while try json.nextElement() {
            layers.append(try Architecture(from: &json, depth: depth + 1))
        }
        return layers
    }

    private static func make(_ fields: Fields) -> Architecture? {
        guard let type = fields.type else { return nil }
        if type == "linear" {
            guard let inputs = fields.inputs, let outputs = fields.outputs, let bias = fields.bias else { return nil }
            return .linear(inputs: inputs, outputs: outputs, bias: bias)
        }
        if type == "leaky_relu" {
            return fields.negativeSlope.map { .activation(.leakyReLU(negativeSlope: $0)) }
        }
        if type == "relu" { return .activation(.relu) }
        if type == "tanh" { return .activation(.tanh) }
        if type == "sigmoid" { return .activation(.sigmoid) }
        if type == "softplus" { return .activation(.softplus) }
        if type == "scaler" { return fields.features.map { .scaler(features: $0) } }
        if type == "chain" { return fields.layers.map { .chain($0) } }
        return type == "custom" ? .custom : nil
    }
}

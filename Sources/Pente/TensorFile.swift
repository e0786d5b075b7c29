import PenteSystem

/// A safetensors file that is read: an 8-byte little-endian length, a JSON header of that length, the raw data. All that
/// the format asks of one is checked before any of it is used, in memory that the file's own size bounds.
struct TensorFile: ~Copyable {
    struct Tensor: BitwiseCopyable {
        let name: JSONString
        let isFloat64: Bool
        /// rows × columns: of rank 1 one row; of another rank than 1 and 2 neither means anything.
        let rank: Int
        let rows: Int
        let columns: Int
        let begin: Int
        let end: Int
    }

    private let reader: FileReader
    /// What the names and `description` lie in.
    private let header: Buffer<UInt8>
    /// By their names.
    private let memory: Buffer<Tensor>
    let count: Int
    /// What "pente" in the metadata says.
    let description: JSONString?

    private static var longestHeader: Int { 100_000_000 }  // the format's own limit
    /// No entry is shorter than {"":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}, without the braces.
    private static var shortestEntry: Int { 50 }

    init(_ path: UnsafePointer<CChar>) throws(PenteError) {
        let reader = try FileReader(path)
        let header = try Self.readHeader(reader)
        let memory = try Buffer<Tensor>(count: header.count / Self.shortestEntry + 1)
        var json = JSONReader(UnsafeBufferPointer(start: header.base, count: header.count))
        var count = 0
        let description = try Self.read(&json, into: memory, &count)
        let tensors = UnsafeMutableBufferPointer(start: memory.base, count: count)
        try Self.requireCoverage(tensors, size: reader.size - 8 - header.count)
        try Self.requireDistinctNames(tensors)
        self.reader = reader
        self.header = header
        self.memory = memory
        self.count = count
        self.description = description
    }

    private static func readHeader(_ reader: borrowing FileReader) throws(PenteError) -> Buffer<UInt8> {
        guard reader.size >= 8 else {
            throw PenteError(.invalidFile, "it has \(reader.size) bytes, too few for the header's length")
        }
        var length: UInt64 = 0
        try reader.read(8, at: 0, into: &length)
        length = UInt64(littleEndian: length)
        if length > UInt64(longestHeader) || length > UInt64(reader.size - 8) {
            throw PenteError(.invalidFile, "its header is longer than the file, or than the format allows")
        }
        guard length > 0 else { throw PenteError(.invalidFile, "its header is empty") }
        let header = try Buffer<UInt8>(count: Int(length))
        try reader.read(header.count, at: 8, into: header.base)
        guard header.base[0] == UInt8(ascii: "{") else {
            throw PenteError(.invalidFile, "its header does not begin with an object")
        }
        return header
    }

    /// Returns the description, if there is one.
    private static func read(
        _ json: inout JSONReader, into tensors: borrowing Buffer<Tensor>, _ count: inout Int
    ) throws(PenteError) -> JSONString? {
        var description: JSONString?
        var hasMetadata = false
        try json.beginObject()
        while let name = try json.nextKey() {
            if name == "__metadata__" {
                if hasMetadata { throw PenteError(.invalidFile, "it has __metadata__ twice") }
                hasMetadata = true
                description = try readMetadata(&json)
            } else {
                guard count < tensors.count else { throw json.fail("there is an impossible entry") }
                tensors.base[count] = try readTensor(&json, name)
                count += 1
            }
        }
        try json.expectEnd()
        return description
    }

    private static func readMetadata(_ json: inout JSONReader) throws(PenteError) -> JSONString? {
        var description: JSONString?
        try json.beginObject()
        while let key = try json.nextKey() {
            let value = try json.string()
            if key == "pente" {
                if description != nil { throw PenteError(.invalidFile, "its metadata has pente twice") }
                description = value
            }
        }
        return description
    }

    private static func readTensor(_ json: inout JSONReader, _ name: JSONString) throws(PenteError) -> Tensor {
        var dtype: JSONString?
        var shape: Shape?
        var offsets: (begin: Int, end: Int)?
        try json.beginObject()
        while let key = try json.nextKey() {
            if key == "dtype", dtype == nil {
                dtype = try json.string()
            } else if key == "shape", shape == nil {
                shape = try Shape(from: &json)
            } else if key == "data_offsets", offsets == nil {
                offsets = try readOffsets(&json)
            } else {
                throw PenteError(.invalidFile, "\(name.text) has the entry \(key.text), twice or unknown")
            }
        }
        guard let dtype, let shape, let offsets else {
            throw PenteError(.invalidFile, "\(name.text) lacks its dtype, its shape or its data_offsets")
        }
        let isFloat64 = dtype == "F64"
        guard isFloat64 || dtype == "F32" else {
            throw PenteError(.invalidFile, "\(name.text) has dtype \(dtype.text), but F32 or F64 was expected")
        }
        let (size, overflow) = shape.count.multipliedReportingOverflow(by: isFloat64 ? 8 : 4)
        guard !overflow, offsets.begin <= offsets.end, offsets.end - offsets.begin == size else {
            throw PenteError(
                .invalidFile,
                "\(name.text) has the data_offsets \(offsets.begin) and \(offsets.end), which do not fit its shape")
        }
        return Tensor(
            name: name, isFloat64: isFloat64, rank: shape.rank, rows: shape.rank == 1 ? 1 : shape.sizes.0,
            columns: shape.rank == 1 ? shape.sizes.0 : shape.sizes.1, begin: offsets.begin, end: offsets.end)
    }

    private struct Shape {
        var rank = 0
        /// The first two.
        var sizes = (1, 1)
        var count = 1

        init(from json: inout JSONReader) throws(PenteError) {
            try json.beginArray()
            while try json.nextElement() {
                let size = try json.integer()
                if rank == 0 { sizes.0 = size } else if rank == 1 { sizes.1 = size }
                rank += 1
                let (product, overflow) = count.multipliedReportingOverflow(by: size)
                if overflow { throw json.fail("there is too large a shape") }
                count = product
            }
        }
    }

    private static func readOffsets(_ json: inout JSONReader) throws(PenteError) -> (begin: Int, end: Int) {
        var offsets = (begin: 0, end: 0)
        var count = 0
        try json.beginArray()
        while try json.nextElement() {
            let offset = try json.integer()
            if count == 0 { offsets.begin = offset } else { offsets.end = offset }
            count += 1
        }
        if count != 2 { throw json.fail("data_offsets are not two") }
        return offsets
    }

    /// The tensors lie end to end, from the data's first byte to its last.
    private static func requireCoverage(
        _ tensors: UnsafeMutableBufferPointer<Tensor>, size: Int
    ) throws(PenteError) {
        sort(tensors) { a, b in
            let (a, b) = (a!.load(as: Tensor.self), b!.load(as: Tensor.self))
            return a.begin != b.begin ? (a.begin < b.begin ? -1 : 1) : a.end < b.end ? -1 : a.end > b.end ? 1 : 0
        }
        var position = 0
        for tensor in tensors {
            if tensor.begin != position {
                throw PenteError(
                    .invalidFile,
                    "\(tensor.name.text) begins at byte \(tensor.begin) of the data, but must at \(position)")
            }
            position = tensor.end
        }
        if position != size {
            throw PenteError(.invalidFile, "its header tells of \(position) bytes of data, but there are \(size)")
        }
    }

    private static func sort(
        _ tensors: UnsafeMutableBufferPointer<Tensor>,
        _ compare: @convention(c) (UnsafeRawPointer?, UnsafeRawPointer?) -> Int32
    ) {
        qsort(tensors.baseAddress!, tensors.count, MemoryLayout<Tensor>.stride, compare)
    }

    private static func requireDistinctNames(_ tensors: UnsafeMutableBufferPointer<Tensor>) throws(PenteError) {
        sort(tensors) { a, b in
            Int32(truncatingIfNeeded: JSONString.compare(a!.load(as: Tensor.self).name, b!.load(as: Tensor.self).name))
        }
        for i in tensors.indices.dropFirst() where JSONString.compare(tensors[i - 1].name, tensors[i].name) == 0 {
            throw PenteError(.invalidFile, "it has \(tensors[i].name.text) twice")
        }
    }

    // MARK: What is in it

    var tensors: UnsafeBufferPointer<Tensor> { UnsafeBufferPointer(start: memory.base, count: count) }

    /// nil if there is none of that name. The tensors are in the order of their names.
    func tensor(named name: String) -> Tensor? { index(of: name).map { tensors[$0] } }

    func index(of name: String) -> Int? {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if tensors[middle].name.isBefore(name) { low = middle + 1 } else { high = middle }
        }
        return low < count && tensors[low].name == name ? low : nil
    }

    /// Reads a tensor's numbers.
    func read(_ tensor: Tensor, into memory: UnsafeMutableRawPointer) throws(PenteError) {
        try reader.read(tensor.end - tensor.begin, at: 8 + header.count + tensor.begin, into: memory)
    }
}

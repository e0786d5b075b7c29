import PenteSystem

/// A file that is open to be read.
struct FileReader: ~Copyable {
    private let path: UnsafePointer<CChar>
    private let descriptor: Int32
    let size: Int

    /// The path, in the system's encoding, must outlive it.
    init(_ path: UnsafePointer<CChar>) throws(PenteError) {
        let descriptor = pente_open_to_read(path)
        if descriptor < 0 { throw .file(path) }
        let size = pente_file_size(descriptor)
        if size < 0 {
            let error = PenteError.file(path)
            close(descriptor)
            throw error
        }
        self.path = path
        self.descriptor = descriptor
        self.size = Int(size)
    }

    deinit { close(descriptor) }

    /// Reads all of `count` bytes.
    func read(_ count: Int, at offset: Int, into memory: UnsafeMutableRawPointer) throws(PenteError) {
        let done = try read(upTo: count, at: offset, into: memory)
        if done < count {
            throw PenteError(.invalidFile, "it ends at byte \(offset + done), in the middle of a tensor")
        }
    }

    /// Reads `count` bytes, or those that there are before the file's end, and returns how many.
    func read(upTo count: Int, at offset: Int, into memory: UnsafeMutableRawPointer) throws(PenteError) -> Int {
        var done = 0
        while done < count {
            let step = pread(descriptor, memory + done, min(count - done, 1 << 30), off_t(offset + done))
            if step == 0 { break }
            if step > 0 { done += step } else if pente_errno() != EINTR { throw .file(path) }
        }
        return done
    }

    /// The system is to read them from the disk meanwhile.
    func willRead(_ count: Int, at offset: Int) {
        _ = posix_fadvise(descriptor, off_t(offset), off_t(count), POSIX_FADV_WILLNEED)
    }
}

/// A file that takes the place of the one at its path when all of it is on the disk; if anything fails, it never was. The
/// new one has the old one's permissions; where the path is a link, it is the link's target that is replaced.
struct FileWriter: ~Copyable {
    private let path: UnsafePointer<CChar>
    private let target: Buffer<CChar>
    private var temporary: TemporaryFile

    /// The path, in the system's encoding, must outlive it.
    init(_ path: UnsafePointer<CChar>) throws(PenteError) {
        let mode = pente_file_mode(path)
        if mode < -1 || mode < 0 && pente_errno() != ENOENT { throw .file(path) }
        let target = try mode < 0 ? Self.copy(path) : Self.resolve(path)
        let temporary = try TemporaryFile(beside: target.base, path)
        if mode >= 0 && fchmod(temporary.descriptor, mode_t(mode)) != 0 { throw .file(path) }
        self.path = path
        self.target = target
        self.temporary = temporary
    }

    private static func copy(_ path: UnsafePointer<CChar>) throws(PenteError) -> Buffer<CChar> {
        let copy = try Buffer<CChar>(count: strlen(path) + 1)
        strcpy(copy.base, path)
        return copy
    }

    /// The path without links.
    private static func resolve(_ path: UnsafePointer<CChar>) throws(PenteError) -> Buffer<CChar> {
        guard let resolved = realpath(path, nil) else { throw .file(path) }
        defer { free(resolved) }
        return try copy(resolved)
    }

    func write(_ memory: UnsafeRawPointer, _ count: Int) throws(PenteError) {
        var done = 0
        while done < count {
            let step = pente_write(temporary.descriptor, memory + done, min(count - done, 1 << 30))
            if step > 0 {
                done += step
            } else if step == 0 || pente_errno() != EINTR {
                if step == 0 { pente_set_errno(EIO) }  // no error of the system, nor progress
                throw .file(path)
            }
        }
    }

    mutating func commit() throws(PenteError) {
        if pente_sync(temporary.descriptor) != 0 || !temporary.move(to: target.base) { throw .file(path) }
        syncDirectory()
    }

    /// So that the new name is on the disk too. There are file systems that cannot; then it comes there in its time.
    private func syncDirectory() {
        // The target's name has served; it becomes its directory's.
        if let slash = strrchr(target.base, 0x2f) {
            slash[1] = 0
        } else {
            strcpy(target.base, ".")
        }
        let descriptor = pente_open_directory(target.base)
        if descriptor < 0 { return }
        _ = pente_sync(descriptor)
        close(descriptor)
    }
}

/// A new file, which goes unless it is moved.
private struct TemporaryFile: ~Copyable {
    private let name: Buffer<CChar>
    private(set) var descriptor: Int32
    private var isMoved = false

    /// In the same directory, so that the file can move; under a name of its own, since the target's may be as long as
    /// names may.
    init(beside target: UnsafePointer<CChar>, _ path: UnsafePointer<CChar>) throws(PenteError) {
        let directory = strrchr(target, 0x2f).map { UnsafePointer($0) + 1 - target } ?? 0
        let name = try Buffer<CChar>(count: directory + 32)
        name.base.copy(target, count: directory)
        var descriptor: Int32
        repeat {
            var number: UInt64 = 0
            if getentropy(&number, 8) != 0 { throw .file(path) }
            Self.writeName(number, to: name.base + directory)
            descriptor = pente_open_new(name.base)
        } while descriptor < 0 && pente_errno() == EEXIST
        if descriptor < 0 { throw .file(path) }
        self.name = name
        self.descriptor = descriptor
    }

    /// ".pente-" and sixteen letters.
    private static func writeName(_ number: UInt64, to text: UnsafeMutablePointer<CChar>) {
        strcpy(text, ".pente-")
        for i in 0..<16 { text[7 + i] = 0x61 + CChar(number >> (4 * UInt64(i)) & 0xf) }
        text[23] = 0
    }

    /// false, with errno, if it cannot be closed or moved.
    mutating func move(to target: UnsafePointer<CChar>) -> Bool {
        // Its bytes are on the disk, and an interrupted close is one, too.
        let closed = close(descriptor) == 0 || pente_errno() == EINTR
        descriptor = -1
        isMoved = closed && rename(name.base, target) == 0
        return isMoved
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        if !isMoved { unlink(name.base) }
    }
}

extension PenteError {
    /// What the system says of its last failure with a file.
    @inline(never)
    static func file(_ path: UnsafePointer<CChar>) -> PenteError {
        let number = pente_errno()
        if number == ENOMEM { return .outOfMemory }
        return PenteError(.fileError, "\(shown(path)): \(shown(strerror(number)))", systemError: number)
    }

    /// What is wrong with the file at a path, as an error that names it.
    @inline(never)
    func of(_ path: UnsafePointer<CChar>) -> PenteError {
        code == .fileError || code == .outOfMemory ? self : PenteError(code, "\(Self.shown(path)): \(message)")
    }

    /// For a message, of which no more is seen.
    @inline(never)
    static func shown(_ path: UnsafePointer<CChar>) -> String {
        String(characters: path, upTo: 200)
    }
}

// One job by the Swift package and by the shared library, in one process: by one and then by the other, by both side by
// side, and with threads of both. Their lines must be the same; they are printed once.
// consumer FOLDER

import CPente
import Foundation
import Pente

/// Of this process.
func threadCount() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count }

func require(_ isTrue: Bool, _ what: String) {
    if isTrue { return }
    FileHandle.standardError.write(Data("consumer: it is not so that \(what)\n".utf8))
    exit(1)
}

func run(in folder: String) throws {
    let (package, library) = ("\(folder)/package.safetensors", "\(folder)/library.safetensors")
    let lines = try runWithPackage(saving: package)
    require(try runWithLibrary(saving: library) == lines, "the library's numbers are the package's")

    // A thread for each, of which the other knows nothing.
    let alone = try threadCount()
    try Threads.setCount(2)
    require(try runWithPackage(saving: package) == lines, "with threads the package's numbers are the same")
    require(try threadCount() == alone + 1, "the package starts a thread, and it alone does")
    require(pente_threads_get() == 1 && pente_threads_set(2) == PENTE_OK, "the library has a count of its own")
    require(try runWithLibrary(saving: library) == lines, "with threads the library's numbers are the same")
    require(try threadCount() == alone + 2, "the library starts a thread of its own")

    let done = DispatchSemaphore(value: 0)
    let other = Thread {
        for _ in 0..<5 {
            let isSame = (try? runWithLibrary(saving: library)) == lines
            require(isSame, "beside the package the library's numbers are the same")
        }
        done.signal()
    }
    other.start()
    for _ in 0..<5 {
        let isSame = try runWithPackage(saving: package) == lines
        require(isSame, "beside the library the package's numbers are the same")
    }
    done.wait()
    print(lines.joined(separator: "\n"))
    // The threads of both are waiting for work when the process ends.
}

try run(in: CommandLine.arguments[1])

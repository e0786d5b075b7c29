// Pente from Swift. The protocol is worker.c's; see benchmarks/README.md.

import Foundation
import Pente

func say(_ text: String) {
    print(text)
    fflush(nil)
}

let threads = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) ?? 1 : 1
try Threads.setCount(threads)
var worker = Worker()
say("ready \(threads) Pente's Swift package")
while let line = readLine() {
    do {
        say(try worker.answer(line.split(separator: " ")))
    } catch let refused as Refused {
        say("refused \(refused.reason)")
    } catch {
        say("failed \(error)")
    }
}

// A Swift program with Swift's own runtime, in which libpente.a is linked: neither meets the other's swift_* functions.
final class Box {
    let value: Int
    init(_ value: Int) { self.value = value }
}

var boxes = (0..<1000).map { Box($0) }
var layer: OpaquePointer?
guard pente_linear_new(4, 1, nil, &layer) == PENTE_OK, pente_layer_free(layer) == PENTE_OK else {
    fatalError(String(cString: pente_last_error()))
}
boxes.removeFirst(500)
print(boxes.reduce(0) { $0 + $1.value })

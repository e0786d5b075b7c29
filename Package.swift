// swift-tools-version: 6.3
import PackageDescription

// What Swift's users build. The shared library is compiled from the same sources by the Makefile, as Embedded Swift.

// The kernels' one source, compiled again for each level of processor that the library chooses from at run time.
#if arch(x86_64)
    let levels = [
        "PenteKernelsAVX2": ["-march=haswell"],
        "PenteKernelsAVX512": ["-march=skylake-avx512", "-mprefer-vector-width=512"],
    ]
#else
    let levels: [String: [String]] = [:]
#endif
let levelTargets = levels.sorted { $0.key < $1.key }.map { name, flags in
    Target.target(
        name: name, dependencies: ["PenteKernels", "PenteVectors"],
        swiftSettings: [.unsafeFlags(flags.flatMap { ["-Xcc", $0] })])
}

let package = Package(
    name: "pente",
    products: [.library(name: "Pente", targets: ["Pente"])],
    targets: [
        .systemLibrary(name: "PenteSystem"),
        .systemLibrary(name: "PenteVectors"),
        .target(name: "PenteKernels", dependencies: ["PenteVectors"]),
        .target(
            name: "Pente",
            dependencies: ["PenteKernels", "PenteSystem"] + levelTargets.map { .byName(name: $0.name) },
            linkerSettings: [.linkedLibrary("m")]),  // its fused multiply-add, where the processor has none
        .target(name: "ExampleTable", dependencies: ["Pente"], path: "bindings/swift/table"),
        .executableTarget(name: "loop-swift", dependencies: ["ExampleTable", "Pente"], path: "bindings/swift/loop"),
        .executableTarget(name: "train-swift", dependencies: ["ExampleTable", "Pente"], path: "bindings/swift/train"),
        .executableTarget(
            name: "digits-swift", dependencies: ["ExampleTable", "Pente"], path: "bindings/swift/digits"),
        .testTarget(name: "PenteTests", dependencies: ["Pente", "PenteKernels", "PenteSystem"]),
    ] + levelTargets,
    swiftLanguageModes: [.v6]
)

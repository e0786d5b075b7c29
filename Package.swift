// swift-tools-version: 6.3
import PackageDescription

// PENTE_EMBEDDED=1 compiles the same sources as Embedded Swift: the self-contained libpente.so (see the Makefile). Its
// runtime checks no exclusivity: the calls that would ask it to are left out.
let isEmbedded = Context.environment["PENTE_EMBEDDED"] == "1"
let embedded: [SwiftSetting] =
    isEmbedded
    ? [
        .enableExperimentalFeature("Embedded"),
        .unsafeFlags([
            "-wmo", "-enforce-exclusivity=unchecked", "-Xfrontend", "-function-sections", "-Xfrontend",
            "-mergeable-traps",
        ]),
        // Nothing may unwind the stack through the library: see the rule on callbacks in pente.h.
        .unsafeFlags(["-Xcc", "-fno-unwind-tables", "-Xcc", "-fno-asynchronous-unwind-tables"]),
    ] : []
// A function is compiled once, and not again for each closure that it is called with; and functions that differ in a
// few constants alone, as those for Float and Double may, become one.
let small: [SwiftSetting] =
    isEmbedded
    ? [
        .unsafeFlags([
            "-Osize", "-Xllvm", "-sil-disable-pass=closure-specialize", "-Xllvm", "-swiftmergefunc-threshold=5",
            "-Xllvm", "-enable-global-merge-func",
        ])
    ] : []
// Processors without a fused multiply-add call libm's; the shared library brings its own.
let libm: [LinkerSetting] = isEmbedded ? [] : [.linkedLibrary("m")]

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
        swiftSettings: embedded + [.unsafeFlags(flags.flatMap { ["-Xcc", $0] } + ["-Xllvm", "-unroll-runtime=false"])])
}

// The shared library has the Swift library and its C interface in one module: what both specialize is there once.
let otherSources = [
    "PenteC/exports.map", "PenteKernels", "PenteKernelsAVX2", "PenteKernelsAVX512", "PenteSystem", "PenteVectors",
]

let package = Package(
    name: "pente",
    products: isEmbedded
        ? [.library(name: "pente", type: .dynamic, targets: ["Pente"])] : [.library(name: "Pente", targets: ["Pente"])],
    targets: [
        .systemLibrary(name: "CPente", path: "include"),
        .systemLibrary(name: "PenteSystem"),
        .systemLibrary(name: "PenteVectors"),
        .target(name: "PenteKernels", dependencies: ["PenteVectors"], swiftSettings: embedded + small),
        .target(
            name: "Pente",
            dependencies: ["PenteKernels", "PenteSystem"] + (isEmbedded ? ["CPente"] : [])
                + levelTargets.map { .byName(name: $0.name) },
            path: isEmbedded ? "Sources" : nil, exclude: isEmbedded ? otherSources : [],
            sources: isEmbedded ? ["Pente", "PenteC"] : nil,
            swiftSettings: embedded + small, linkerSettings: libm),
        .target(name: "ExampleTable", dependencies: ["Pente"], path: "bindings/swift/table"),
        .executableTarget(name: "loop-swift", dependencies: ["ExampleTable", "Pente"], path: "bindings/swift/loop"),
        .executableTarget(name: "train-swift", dependencies: ["ExampleTable", "Pente"], path: "bindings/swift/train"),
        .executableTarget(
            name: "digits-swift", dependencies: ["ExampleTable", "Pente"], path: "bindings/swift/digits"),
        .testTarget(name: "PenteTests", dependencies: ["Pente", "PenteKernels", "PenteSystem"]),
    ] + levelTargets,
    swiftLanguageModes: [.v6]
)

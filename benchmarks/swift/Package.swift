// swift-tools-version: 6.3
import PackageDescription

// The benchmark's worker in Swift: a package of its own, as any program that uses Pente is.
let package = Package(
    name: "bench-swift",
    dependencies: [.package(name: "pente", path: "../..")],
    targets: [
        .executableTarget(name: "worker", dependencies: [.product(name: "Pente", package: "pente")])
    ],
    swiftLanguageModes: [.v6]
)

// swift-tools-version: 6.3
import PackageDescription

// A program of somebody else's: it has Pente's package by its version, and links libpente.so by its header besides.
// check.sh copies it out of the tree, puts a clone of the repository and the library beside it, says which version, and
// leads git from the address to the clone: SwiftPM is stricter with what comes from elsewhere than with files.
let here = Context.packageDirectory
let version = Version(stringLiteral: Context.environment["PENTE_VERSION"]!)

let package = Package(
    name: "consumer",
    dependencies: [.package(url: "https://pente.invalid/pente.git", exact: version)],
    targets: [
        .executableTarget(
            name: "consumer",
            dependencies: [.product(name: "Pente", package: "pente")],
            swiftSettings: [.unsafeFlags(["-I", "\(here)/../../pente/include"])],
            linkerSettings: [.unsafeFlags(["-L\(here)/../../lib", "-lpente", "-Xlinker", "-rpath=\(here)/../../lib"])])
    ],
    swiftLanguageModes: [.v6]
)

// swift-tools-version: 5.9
import PackageDescription

// The networks are copied as they are, so that each file can be held against its hash; Core ML compiles a network on
// the device when it is first opened.
let package = Package(
    name: "@NAME@",
    platforms: [.iOS("@IOS@"), .macOS("@MACOS@")],
    products: [
        .library(name: "@NAME@", targets: ["@NAME@"]),
        .executable(name: "@NAME@Benchmark", targets: ["@NAME@Benchmark"]),
    ],
    dependencies: [@DEPENDENCIES@],
    targets: [
        .target(name: "@NAME@", dependencies: [@PRODUCTS@], resources: [.copy("Models")]),
        .executableTarget(name: "@NAME@Benchmark", dependencies: ["@NAME@"]),
        .testTarget(name: "@NAME@Tests", dependencies: ["@NAME@"], resources: [.copy("Vectors")]),
    ]
)

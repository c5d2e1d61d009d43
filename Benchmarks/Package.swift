// swift-tools-version: 6.2
// Benchmarks of single rooms, on the host. A package of its own, so that the kernel's build pays nothing for the harness.
// A target below is a folder here; `Benchmarks/run.sh` (part of `make bench`) builds and runs all of them.
import PackageDescription

extension Target {
  /// An executable `name` in the folder of that name, with the rooms of the kernel and the harness.
  static func benchmark(_ name: String, needs: [String] = [], products: [Target.Dependency] = []) -> Target {
    .executableTarget(
      name: "\(name)Benchmarks",
      dependencies: needs.map { .byName(name: $0) } + products + [
        .product(name: "Rooms", package: "Apus"), .product(name: "Benchmark", package: "benchmark"),
      ],
      path: name,
      plugins: [.plugin(name: "BenchmarkPlugin", package: "benchmark")])
  }
}

let package = Package(
  name: "Benchmarks",
  dependencies: [
    .package(name: "Apus", path: ".."),
    .package(url: "https://github.com/ordo-one/benchmark", exact: "1.38.1", traits: []),
    .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
  ],
  targets: [
    // The limit to compare with: the same structure in C.
    .target(name: "CRadixTree", path: "CRadixTree", cSettings: [.unsafeFlags(["-O2"])]),
    .benchmark(
      "RadixTree",
      needs: ["CRadixTree"],
      products: [.product(name: "HashTreeCollections", package: "swift-collections")]),
  ]
)

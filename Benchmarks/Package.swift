// swift-tools-version: 6.2
// Benchmarks of single rooms, on the host. A package of its own, so that the kernel's build pays nothing for what we compare
// with. A target below is a folder here; `Benchmarks/run.sh` (part of `make bench`) builds and runs all of them.
import PackageDescription

let rooms = Target.Dependency.product(name: "Rooms", package: "Apus")
let timing = Target.Dependency.product(name: "Benchmark", package: "swift-benchmark")

extension Target {
  /// An executable in the folder `name`, with the rooms of the kernel.
  static func benchmark(_ name: String, needs: [String] = [], products: [Target.Dependency] = []) -> Target {
    .executableTarget(
      name: "\(name)Benchmarks",
      dependencies: (needs + ["Figures"]).map { .byName(name: $0) } + products + [rooms, timing],
      path: name)
  }
}

let package = Package(
  name: "Benchmarks",
  dependencies: [
    .package(name: "Apus", path: ".."),
    .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
    .package(url: "https://github.com/google/swift-benchmark", exact: "0.1.2"),
  ],
  targets: [
    .target(name: "Figures", dependencies: [rooms, timing], path: "Figures"),
    // The limit to compare with: the same structure in C.
    .target(name: "CRadixTree", path: "CRadixTree", cSettings: [.unsafeFlags(["-O2"])]),
    .benchmark(
      "RadixTree",
      needs: ["CRadixTree"],
      products: [.product(name: "HashTreeCollections", package: "swift-collections")]),
    .benchmark("Frames"),
    .benchmark("Objects"),
    .benchmark("Overhead"),
    .benchmark("Fragmentation"),
  ],
  swiftLanguageModes: [.v5]
)

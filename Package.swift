// swift-tools-version: 6.2
// The layer diagram of Apus. Every room is one `kernelModule` line; `needs` lists the arrows that may leave it,
// and arrows point down only. The same targets are built twice: for the host (unit tests) and, with
// kernel.toolset.json, freestanding into kernel.elf.
import Foundation
import PackageDescription

let strict: [SwiftSetting] = [
  .strictMemorySafety(),
  .enableUpcomingFeature("MemberImportVisibility"),
]

/// Locks check their order in debug builds, and in any with LOCK_ORDER=1 in the environment (`make checked-image`).
let lockOrder: SwiftSetting =
  Context.environment["LOCK_ORDER"] == nil
  ? .define("LOCK_ORDER", .when(configuration: .debug)) : .define("LOCK_ORDER")

/// A room of the kernel: `Sources/Kernel/<path>`, tested on the host by `Tests/<name>Tests`.
struct Room: Sendable {
  var name: String
  var path: String
  var needs: [String]
}
var rooms: [Room] = []
@MainActor func kernelModule(_ name: String, path: String? = nil, needs: [String]) {
  rooms.append(Room(name: name, path: "Sources/Kernel/\(path ?? name)", needs: needs))
}

// Bottom to top.
kernelModule("LinuxABI", needs: ["CLinuxABI"])
kernelModule("DataStructures", needs: [])
kernelModule("KernelCore", needs: ["LinuxABI", "DataStructures", "Machine"])
kernelModule("PhysicalMemory", needs: ["KernelCore", "LinuxABI", "DataStructures", "Machine"])
kernelModule("Identity", needs: ["LinuxABI"])
kernelModule("Scheduling", needs: ["PhysicalMemory", "KernelCore", "LinuxABI", "DataStructures", "Machine"])
let scheduling = ["Scheduling", "Identity", "PhysicalMemory", "KernelCore", "LinuxABI", "DataStructures", "Machine"]
kernelModule("VirtualMemory", needs: scheduling)
kernelModule("FileSystem", needs: scheduling + ["VirtualMemory"])
let files = scheduling + ["VirtualMemory", "FileSystem"]
kernelModule("Virtio", path: "Drivers/Virtio", needs: scheduling)
kernelModule("Console", path: "Drivers/Console", needs: files + ["Virtio"])
kernelModule("Tmpfs", path: "FileSystems/Tmpfs", needs: files)
kernelModule("Devtmpfs", path: "FileSystems/Devtmpfs", needs: files)
kernelModule("Overlay", path: "FileSystems/Overlay", needs: files)
kernelModule("VirtioFS", path: "FileSystems/VirtioFS", needs: files + ["Virtio", "CLinuxABI"])
kernelModule("Sysfs", path: "FileSystems/Sysfs", needs: files)
kernelModule("Block", needs: files)
kernelModule("VirtioBlock", path: "Drivers/VirtioBlock", needs: files + ["Block", "Virtio"])
kernelModule("Sockets", path: "Network/Sockets", needs: files)
kernelModule("LocalSockets", path: "Network/Local", needs: files + ["Sockets"])
kernelModule("Process", needs: files)
kernelModule("Procfs", path: "FileSystems/Procfs", needs: files + ["Block", "Process", "Sockets"])
kernelModule("SystemCalls", needs: files + ["Block", "Process", "Sockets"])
kernelModule(
  "Boot",
  needs: files + [
    "Virtio", "Console", "Tmpfs", "Devtmpfs", "Overlay", "VirtioFS", "Sysfs", "Block", "VirtioBlock", "Process",
    "LocalSockets", "Procfs", "SystemCalls",
  ])

/// What tests need besides their room.
let testNeeds = ["Overlay": ["Tmpfs"], "Process": ["Tmpfs"]]
// `APUS_ROOMS=Tmpfs,Overlay swift test` builds and tests only these rooms and what they need.
let only = Context.environment["APUS_ROOMS"].map { Set($0.split(separator: ",").map(String.init)) }
func wanted(_ name: String) -> Bool { only?.contains(name) ?? true }
/// The rooms that are built: those wanted and all below them.
let built: Set<String> = {
  guard let only else { return Set(rooms.map(\.name)) }
  var result = only.union(["PhysicalMemory", "KernelCore"])
  for room in rooms.reversed() where result.contains(room.name) {
    result.formUnion(room.needs + (testNeeds[room.name] ?? []))
  }
  return result
}()
/// Drivers whose tests have the monitor's devices on the other side.
let testedWithDevices = ["Virtio", "VirtioFS", "VirtioBlock"]

var targets: [Target] = [
  .target(name: "CLinuxABI", path: "Sources/Kernel/CLinuxABI"),
  .target(name: "CMachine", path: "Sources/Machine/C"),
  .target(
    name: "Machine", dependencies: ["CMachine"], path: "Sources/Machine/Swift", exclude: ["README.md"],
    swiftSettings: strict),
]
for room in rooms where built.contains(room.name) {
  targets.append(
    .target(
      name: room.name, dependencies: room.needs.map { .byName(name: $0) }, path: room.path, exclude: ["README.md"],
      swiftSettings: ["KernelCore", "Scheduling"].contains(room.name) ? strict + [lockOrder] : strict))
  let tests = "Tests/\(room.name)Tests"
  if wanted(room.name), hasTests(tests) {
    targets.append(
      .testTarget(
        name: "\(room.name)Tests",
        dependencies: (room.needs + [room.name, "TestSupport"]
          + (testedWithDevices.contains(room.name) ? ["Devices", "DeviceTestSupport"] : [])
          + (testNeeds[room.name] ?? []))
          .map { .byName(name: $0) },
        path: tests))
  }
}

/// The monitor: ordinary Swift on the host.
let hostTargets: [Target] = [
  .target(name: "CUserMachine", dependencies: ["CMachine"], path: "Sources/Monitor/CUserMachine"),
  .target(name: "CMonitor", dependencies: ["CUserMachine", "CMachine"], path: "Sources/Monitor/CMonitor"),
  .target(
    name: "UserMachine", dependencies: ["CUserMachine", "CMachine"], path: "Sources/Monitor/UserMachine",
    exclude: ["README.md"], swiftSettings: strict),
  .target(name: "CDevices", dependencies: ["CLinuxABI"], path: "Sources/Monitor/CDevices"),
  .target(
    name: "Devices", dependencies: ["CDevices", "CLinuxABI", "CUserMachine", "CMachine"],
    path: "Sources/Monitor/Devices",
    exclude: ["README.md"],
    swiftSettings: strict),
  .target(
    name: "Monitor", dependencies: ["UserMachine", "Devices", "CDevices", "CMonitor", "CUserMachine", "CMachine"],
    path: "Sources/Monitor/Boot",
    exclude: ["README.md"], swiftSettings: strict),
  .executableTarget(
    name: "apus",
    dependencies: [
      "Monitor", "Devices", "UserMachine", .product(name: "ArgumentParser", package: "swift-argument-parser"),
    ],
    path: "Sources/apus", swiftSettings: strict),
]
// The rooms below the monitor build without it.
let monitorWanted = only == nil || !only!.isDisjoint(with: ["Monitor", "apus"])
if monitorWanted {
  targets += hostTargets
} else {
  let below =
    ["CUserMachine"] + (wanted("UserMachine") ? ["UserMachine"] : [])
    + (wanted("Devices") || testedWithDevices.contains(where: wanted) ? ["CDevices", "Devices"] : [])
  if below.count > 1 { targets += hostTargets.filter { below.contains($0.name) } }
}
/// What the tests of all rooms share.
targets.append(.target(name: "TestSupport", path: "Tests/TestSupport"))
if testedWithDevices.contains(where: wanted) {
  targets.append(
    .target(
      name: "DeviceTestSupport", dependencies: ["Devices", "PhysicalMemory", "KernelCore", "Machine"],
      path: "Tests/DeviceTestSupport"))
}
if wanted("UserMachine") {
  targets.append(
    .target(
      name: "UserMachineTestSupport", dependencies: ["CUserMachine", "CMachine"], path: "Tests/UserMachineTestSupport"))
}
for name in ["UserMachine", "Devices", "Monitor", "apus"] where wanted(name) && hasTests("Tests/\(name)Tests") {
  targets.append(
    .testTarget(
      name: "\(name)Tests",
      dependencies: [.byName(name: name), "TestSupport", "CUserMachine", "CMachine"]
        + (name == "UserMachine" ? ["UserMachineTestSupport"] : [])
        + (name == "Devices" ? ["CDevices", "CLinuxABI"] : []) + (name == "Monitor" ? ["CDevices"] : [])
        + (name == "apus" ? ["Devices"] : []),
      path: "Tests/\(name)Tests"))
}

/// Prints the system-call table for Documentation/coverage.md.
if built.contains("SystemCalls") {
  targets.append(
    .executableTarget(
      name: "apus-coverage", dependencies: ["SystemCalls"], path: "Sources/coverage", swiftSettings: strict))
}

let package = Package(
  name: "Apus",
  products: (built.contains("Boot") ? [.library(name: "KernelImage", type: .static, targets: ["Boot"])] : [])
    // What Benchmarks/, a package of its own, measures.
    + [
      .library(
        name: "Rooms",
        targets: ["Machine"]
          + ["LinuxABI", "DataStructures", "KernelCore", "PhysicalMemory", "Identity", "Scheduling", "VirtualMemory"]
          .filter(built.contains))
    ]
    + (monitorWanted ? [.executable(name: "apus", targets: ["apus"])] : []),
  dependencies: monitorWanted
    ? [.package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")] : [],
  targets: targets,
  swiftLanguageModes: [.v5]
)

/// A test target appears with its first file, so that a room can be started without an empty test.
func hasTests(_ path: String) -> Bool {
  FileManager.default.fileExists(atPath: Context.packageDirectory + "/" + path)
}

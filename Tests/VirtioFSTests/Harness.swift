// The kernel's VirtioFS and the monitor's file server in one process, connected by the fake machine.

import DeviceTestSupport
import Devices
import FileSystem
import Foundation
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import VirtualMemory

@testable import VirtioFS

/// A host directory of its own, removed at the end.
final class HostDirectory {
  let path: String

  init() {
    path = NSTemporaryDirectory() + "apus-virtiofs-\(UUID().uuidString)"
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { path + "/" + name }
  func write(_ name: String, _ text: String) { write(name, Array(text.utf8)) }
  func write(_ name: String, _ bytes: [UInt8]) {
    let stream = fopen(file(name), "w")!; fwrite(bytes, 1, bytes.count, stream); fclose(stream)
  }
  func read(_ name: String) -> String? {
    (try? Data(contentsOf: URL(fileURLWithPath: file(name)))).map { String(decoding: $0, as: UTF8.self) }
  }
  func makeDirectory(_ name: String) {
    try! FileManager.default.createDirectory(atPath: file(name), withIntermediateDirectories: true)
  }
}

enum Harness {
  private static let lock = NSLock()
  nonisolated(unsafe) private static var nextTag = 0

  /// Serves `directory` and mounts it.
  static func mount(
    _ directory: String, isReadOnly: Bool = false, validSeconds: UInt64 = 0, descriptorLimit: Int? = nil,
    caching: VirtioFSCaching = .asServerSays
  ) throws -> VirtioFSSuperblock {
    lock.lock()
    defer { lock.unlock() }
    nextTag += 1
    var options = FileServer.Options(isReadOnly: isReadOnly)
    options.validSeconds = validSeconds
    options.descriptorLimit = descriptorLimit
    options.requestQueues = 2
    var failure: Int32 = 0
    guard let server = FileServer(tag: "tag\(nextTag)", directory: directory, options: options, failure: &failure)
    else { throw Errno(rawValue: failure) }
    DeviceBus.add(server)
    return try VirtioFSSuperblock(tag: ByteString("tag\(nextTag)"), isReadOnly: isReadOnly, caching: caching)
  }
}

extension Superblock {
  var rootInode: Inode { root.inode! }
}

extension Inode {
  func walk(_ path: String) throws -> Inode {
    var place = self
    for part in path.split(separator: "/") { place = try place.lookup(ByteString(String(part))) }
    return place
  }

  func text() throws -> String {
    let size = Int(try attributes().size)
    let bytes = try KernelBuffer.collect(size + 10) { buffer throws(Errno) in try read(at: 0, &buffer) }
    return String(decoding: bytes, as: UTF8.self)
  }

  @discardableResult
  func put(_ text: String, at offset: UInt64 = 0) throws -> Int {
    try KernelBuffer.withBytes(of: Array(text.utf8)) { buffer throws(Errno) in try write(at: offset, &buffer) }
  }

  func names() throws -> [String] {
    var names: [String] = []
    try readDirectory(from: 0) {
      names.append($0.name.string)
      return true
    }
    return names.sorted()
  }
}

func errno<R>(_ body: () throws -> R) -> Errno? {
  do {
    _ = try body()
    return nil
  } catch { return error as? Errno }
}

// An overlay of two tmpfs, somebody who uses it, and a picture of the lower one that tells whether it was changed.

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import Testing
import Tmpfs

@testable import Overlay

/// A mounted file system and a superuser in it.
struct TestTree {
  let superblock: Superblock
  let namespace: MountNamespace
  let caller: Caller

  init(_ superblock: Superblock) {
    self.superblock = superblock
    namespace = MountNamespace(root: superblock)
    let root = namespace.rootPath
    caller = Caller(credentials: .root, umask: 0, root: root, workingDirectory: root)
  }

  static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(256 << 20))
    Tmpfs.register()
    return true
  }()

  static func tmpfs() throws -> TestTree {
    #expect(isPrepared)
    return TestTree(try TmpfsSuperblock(options: try TmpfsOptions("size=128m,mode=755")))
  }

  func open(_ path: String, _ flags: OpenFlags, _ mode: UInt32 = 0o644) throws(Errno) -> OpenFile {
    let file = try FileTree.open(ByteString(path), flags, permissions: mode, by: caller)
    file.acquire()
    return file
  }

  func place(_ path: String) throws(Errno) -> Path { try PathWalk.resolve(ByteString(path), .noFollow, by: caller) }
  func attributes(_ path: String) throws(Errno) -> Attributes { try place(path).inode.attributes() }
  func exists(_ path: String) -> Bool { (try? place(path)) != nil }

  func put(_ path: String, _ text: String, _ flags: OpenFlags = [.create, .writeOnly, .truncate]) throws(Errno) {
    let file = try open(path, flags)
    defer { file.release() }
    _ = try file.writeBytes(Array(text.utf8), at: nil)
  }

  func text(_ path: String) throws(Errno) -> String {
    let file = try open(path, .readOnly)
    defer { file.release() }
    return String(decoding: try file.readBytes(at: 0, count: 100_000), as: UTF8.self)
  }

  func makeDirectory(_ path: String, _ mode: UInt32 = 0o755) throws(Errno) {
    try FileTree.makeDirectory(ByteString(path), permissions: mode, by: caller)
  }

  func unlink(_ path: String) throws(Errno) { try FileTree.unlink(ByteString(path), by: caller) }
  func removeDirectory(_ path: String) throws(Errno) { try FileTree.removeDirectory(ByteString(path), by: caller) }
  func rename(_ old: String, _ new: String, _ flags: RenameFlags = []) throws(Errno) {
    try FileTree.rename(ByteString(old), to: ByteString(new), flags, by: caller)
  }
  func link(_ old: String, _ new: String) throws(Errno) {
    try FileTree.link(try place(old), to: ByteString(new), by: caller)
  }

  /// The entries besides "." and "..".
  func list(_ path: String) throws(Errno) -> [DirectoryEntry] {
    let directory = try open(path, .directory)
    defer { directory.release() }
    var entries: [DirectoryEntry] = []
    try directory.readDirectory { entry in
      if entry.name != ".", entry.name != ".." { entries.append(entry) }
      return true
    }
    return entries
  }

  func names(_ path: String) throws(Errno) -> [String] { try list(path).map { $0.name.string }.sorted() }

  /// Everything there is to see below a directory, as text.
  func picture(_ inode: Inode, _ path: String = "") throws -> [String] {
    let attributes = try inode.attributes()
    var line = "\(path) \(attributes)"
    for name in try inode.extendedAttributeNames() {
      line += " \(name.string)=\(try inode.extendedAttribute(name).string)"
    }
    switch inode.kind {
    case .symbolicLink: line += " -> \(try inode.readLink().string)"
    case .regular:
      let bytes = try KernelBuffer.collect(Int(attributes.size)) { buffer throws(Errno) in
        try inode.read(at: 0, &buffer)
      }
      line += " \(bytes.hashValue)"
    default: break
    }
    var lines = [line]
    guard inode.kind == .directory else { return lines }
    var names: [ByteString] = []
    try inode.readDirectory(from: 0) {
      names.append($0.name)
      return true
    }
    for name in names { lines += try picture(try inode.lookup(name), path + "/" + name.string) }
    return lines
  }
}

/// An overlay with its layers. The lower one is filled before the overlay is made.
struct OverlayTree {
  let upper: TestTree
  let lower: TestTree
  let tree: TestTree
  private let before: [String]

  init(_ fill: (TestTree) throws -> Void = { _ in }) throws {
    lower = try TestTree.tmpfs()
    upper = try TestTree.tmpfs()
    try fill(lower)
    let (above, below) = (upper.superblock.root.inode!, lower.superblock.root.inode!)
    tree = TestTree(try OverlaySuperblock(upper: above, lower: below, description: ""))
    before = try lower.picture(below)
  }

  /// Whether the upper layer has an entry of that name in its root; past the dentry cache, which knows nothing of what the
  /// overlay does there.
  func isAbove(_ name: ByteString) -> Bool { (try? upper.superblock.root.inode!.lookup(name)) != nil }

  /// Nothing ever changes the lower layer, not even an access time.
  func expectLowerUnchanged() throws {
    let after = try lower.picture(lower.superblock.root.inode!)
    for (old, new) in zip(before, after) where old != new { Issue.record("the lower layer had \(old), has \(new)") }
    #expect(before.count == after.count)
  }
}

func error(_ body: () throws(Errno) -> Void) -> Errno? {
  do throws(Errno) {
    try body()
    return nil
  } catch {
    return error
  }
}

import CLinuxABI
import Devices
import FileSystem
import Foundation
import KernelCore
import LinuxABI
import Testing

@testable import VirtioFS

/// What is asked of the server, and what is not asked twice.
@Suite(.serialized) struct RequestTests {
  private static func hostTree() -> HostDirectory {
    let host = HostDirectory()
    for index in 0..<200 { host.write("f\(index)", "content \(index)") }
    return host
  }

  private func requests(
    _ superblock: VirtioFSSuperblock, _ opcode: linux_fuse_opcode, _ body: () throws -> Void
  ) throws -> Int {
    let before = superblock.session.count(of: opcode)
    try body()
    return Int(superblock.session.count(of: opcode) - before)
  }

  @Test func `listings bring attributes along once entries are looked at, and no longer when they are not`() throws {
    let host = Self.hostTree()
    for directory in ["a", "b", "c"] {
      host.makeDirectory(directory)
      for index in 0..<200 { host.write("\(directory)/f\(index)", "") }
    }
    let superblock = try Harness.mount(host.path, isReadOnly: true, validSeconds: 60)
    let root = superblock.rootInode
    // The first listing cannot know; its look-ups ask one by one.
    var count = try requests(superblock, LINUX_FUSE_LOOKUP) {
      for name in try root.names() { _ = try root.walk(name) }
    }
    #expect(count == 203)
    // The next one does.
    let a = try root.walk("a")
    var sizes: Set<UInt64> = []
    count = try requests(superblock, LINUX_FUSE_LOOKUP) {
      for name in try a.names() { sizes.insert(try a.walk(name).attributes().size) }
    }
    #expect(count == 0 && sizes == [0])
    // Listings alone change that again.
    let (b, c) = (try root.walk("b"), try root.walk("c"))
    for _ in 0..<5 { _ = try b.names() }
    count = try requests(superblock, LINUX_FUSE_READDIRPLUS) { _ = try c.names() }
    #expect(count == 0)
    count = try requests(superblock, LINUX_FUSE_LOOKUP) { _ = try c.walk("f7") }
    #expect(count == 1)
  }

  @Test func `absent names are remembered for as long as the server says`() throws {
    let host = Self.hostTree()
    let superblock = try Harness.mount(host.path, validSeconds: 60)
    let root = superblock.rootInode
    var failures: [Errno?] = []
    let count = try requests(superblock, LINUX_FUSE_LOOKUP) {
      for _ in 0..<10 { failures.append(errno { try root.lookup("absent") }) }
    }
    #expect(count == 1 && failures.allSatisfy { $0 == .ENOENT })
    #expect(try root.revalidate("absent", nil))
    // Our own changes are seen at once.
    _ = try root.create("absent", permissions: 0o644, owner: .root)
    #expect(errno { try root.lookup("absent") } == nil)
    #expect(try !root.revalidate("absent", nil))
    // Those of others when the time is over.
    let impatient = try Harness.mount(host.path, validSeconds: 0).rootInode
    #expect(errno { try impatient.lookup("later") } == .ENOENT)
    host.write("later", "")
    #expect(errno { try impatient.lookup("later") } == nil)
  }

  @Test func `what everybody may read is opened without asking`() throws {
    let host = Self.hostTree()
    host.write("private", "secret")
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: host.file("private"))
    try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: host.file("f1"))
    let superblock = try Harness.mount(host.path, validSeconds: 60)
    let path = Path(mount: Mount(superblock: superblock, flags: []), dentry: superblock.root)
    let caller = Caller(credentials: .root, umask: 0, root: path, workingDirectory: path)
    for (name, expected) in [("/f1", 0), ("/private", 1), ("/private", 0)] {
      var length = 0
      let count = try requests(superblock, LINUX_FUSE_OPEN) {
        let file = try FileTree.open(ByteString(name), .readOnly, by: caller)
        length = try file.readBytes(at: 0, count: 100).count
      }
      #expect(count == expected && length > 0)
    }
  }

  @Test func `with cache=always the server is asked once`() throws {
    let host = Self.hostTree()
    try FileManager.default.createSymbolicLink(atPath: host.file("link"), withDestinationPath: "f1")
    let superblock = try Harness.mount(host.path, isReadOnly: true, validSeconds: 0, caching: .always)
    let root = superblock.rootInode
    let (file, link) = (try root.walk("f1"), try root.walk("link"))
    let opcodes = [LINUX_FUSE_GETATTR, LINUX_FUSE_READLINK, LINUX_FUSE_LISTXATTR, LINUX_FUSE_GETXATTR]
    let before = opcodes.map { superblock.session.count(of: $0) }
    for _ in 0..<5 {
      #expect(try file.attributes().size == 9)
      #expect(try link.readLink() == "f1")
      _ = errno { try file.extendedAttribute("user.none") }
      // Without a meaning here, or on a link: not asked at all.
      #expect(errno { try file.extendedAttribute("system.posix_acl_access") } == .EOPNOTSUPP)
      #expect(errno { try file.extendedAttribute("security.selinux") } == .ENODATA)
      #expect(errno { try link.extendedAttribute("security.capability") } == .ENODATA)
    }
    let asked = zip(opcodes, before).map { superblock.session.count(of: $0) - $1 }
    #expect(asked[0] == 0 && asked[1] == 1 && asked[3] == 0)
    // A host without extended attributes says so each time.
    #expect(asked[2] == 1 || asked[2] == 5)
  }
}

import FileSystem
import Identity
import KernelCore
import LinuxABI
import Testing

@testable import Tmpfs

@Suite(.serialized) struct TreeRuleTests {
  @Test func `forty links are followed and the next one is ELOOP`() throws {
    let tree = try TestTree()
    _ = try tree.open("/target", [.create, .writeOnly])
    var previous = "target"
    for index in 1...41 {
      try FileTree.makeSymbolicLink(ByteString("/l\(index)"), to: ByteString(previous), by: tree.caller)
      previous = "l\(index)"
    }
    #expect(error { () throws(Errno) in _ = try PathWalk.resolve("/l40", by: tree.caller) } == nil)
    #expect(error { () throws(Errno) in _ = try PathWalk.resolve("/l41", by: tree.caller) } == .ELOOP)
  }

  @Test func `names and paths have their limits`() throws {
    let tree = try TestTree()
    let long = ByteString([UInt8](repeating: 0x61, count: 256))
    #expect(error { () throws(Errno) in _ = try tree.open(long, [.create, .writeOnly]) } == .ENAMETOOLONG)
    let path = ByteString(Array([UInt8](repeating: 0x2f, count: 4096)))
    #expect(error { () throws(Errno) in _ = try PathWalk.resolve(path, by: tree.caller) } == .ENAMETOOLONG)
    #expect(error { () throws(Errno) in _ = try PathWalk.resolve("", by: tree.caller) } == .ENOENT)
  }

  @Test func `mounts are crossed in both directions and hide what is below`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/m", permissions: 0o755, by: tree.caller)
    _ = try tree.open("/m/hidden", [.create, .writeOnly])
    let inner = try TmpfsSuperblock(options: try TmpfsOptions("mode=755"))
    let point = try PathWalk.resolve("/m", by: tree.caller)
    try tree.namespace.attach(Mount(superblock: inner, flags: []), at: point)
    #expect(error { () throws(Errno) in _ = try PathWalk.resolve("/m/hidden", by: tree.caller) } == .ENOENT)
    try FileTree.makeDirectory("/m/d", permissions: 0o755, by: tree.caller)
    let up = try PathWalk.resolve("/m/d/../..", by: tree.caller)
    #expect(up == tree.namespace.rootPath)
    let deep = try PathWalk.resolve("/m/d", by: tree.caller)
    #expect(PathWalk.describe(deep, from: tree.caller.root).text == "/m/d")
    #expect(error { () throws(Errno) in try FileTree.removeDirectory("/m", by: tree.caller) } == .EBUSY)
    #expect(
      error { () throws(Errno) in try FileTree.rename("/m/d", to: "/d", by: tree.caller) } == .EXDEV)
    let file = try tree.open("/m/f", [.create, .writeOnly])
    file.acquire()
    let mounted = try PathWalk.resolve("/m", by: tree.caller)
    #expect(error { () throws(Errno) in try tree.namespace.unmount(mounted, flags: 0) } == .EBUSY)
    file.release()
    try tree.namespace.unmount(mounted, flags: 0)
    #expect(error { () throws(Errno) in _ = try PathWalk.resolve("/m/hidden", by: tree.caller) } == nil)
  }

  @Test func `a file system that cannot be attached or is not wanted goes`() throws {
    let tree = try TestTree()
    _ = try tree.open("/file", [.create, .writeOnly])
    let point = try PathWalk.resolve("/file", by: tree.caller)
    weak var refused: Superblock?
    weak var discarded: Superblock?
    do {
      let (first, second) = (
        try TmpfsSuperblock(options: TmpfsOptions("")), try TmpfsSuperblock(options: TmpfsOptions(""))
      )
      (refused, discarded) = (first, second)
      let mount = Mount(superblock: first, flags: [])
      #expect(error { () throws(Errno) in try tree.namespace.attach(mount, at: point) } == .ENOTDIR)
      second.discard()
    }
    #expect(refused == nil && discarded == nil)
  }

  @Test func `a bind mount shows the same files and may be read-only`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/a", permissions: 0o755, by: tree.caller)
    try FileTree.makeDirectory("/b", permissions: 0o755, by: tree.caller)
    try tree.namespace.bind(
      try PathWalk.resolve("/a", by: tree.caller), at: try PathWalk.resolve("/b", by: tree.caller), .single)
    _ = try tree.open("/b/f", [.create, .writeOnly])
    let left = try PathWalk.resolve("/a/f", by: tree.caller)
    #expect(try PathWalk.resolve("/b/f", by: tree.caller).inode === left.inode)
    try tree.namespace.remount(try PathWalk.resolve("/b", by: tree.caller), flags: .readOnly)
    #expect(error { () throws(Errno) in _ = try tree.open("/b/g", [.create, .writeOnly]) } == .EROFS)
    #expect(error { () throws(Errno) in _ = try tree.open("/b/f", .writeOnly) } == .EROFS)
    #expect(error { () throws(Errno) in _ = try tree.open("/a/f", .writeOnly) } == nil)
  }

  @Test func `permissions are those of the owner, the group, or others`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/d", permissions: 0o755, by: tree.caller)
    let file = try tree.open("/d/f", [.create, .writeOnly], 0o640)
    try file.inode.setAttributes(AttributeChange(user: 1000, group: 2000))
    let place = file.path
    func access(_ user: UInt32, _ group: UInt32, _ wanted: AccessMode) -> Errno? {
      let caller = tree.caller.with(Credentials(user: user, group: group))
      return error { () throws(Errno) in try FileTree.checkAccess(place, wanted, by: caller) }
    }
    #expect(access(1000, 1, [.read, .write]) == nil)
    #expect(access(1, 2000, .read) == nil)
    #expect(access(1, 2000, .write) == .EACCES)
    #expect(access(1, 1, .read) == .EACCES)
    #expect(access(0, 0, [.read, .write]) == nil)
    #expect(access(0, 0, .execute) == .EACCES)
    // The owner's class decides even when the others' would permit more.
    try file.inode.setAttributes(AttributeChange(permissions: 0o077))
    #expect(access(1000, 2000, .read) == .EACCES)
  }

  @Test func `in a sticky directory only the owners remove entries`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/t", permissions: 0o777, by: tree.caller)
    try FileTree.changeMode(try PathWalk.resolve("/t", by: tree.caller), 0o1777, by: tree.caller)
    let alice = tree.caller.with(Credentials(user: 1000, group: 1000))
    let bob = tree.caller.with(Credentials(user: 1001, group: 1001))
    _ = try FileTree.open("/t/f", [.create, .writeOnly], permissions: 0o666, by: alice)
    #expect(error { () throws(Errno) in try FileTree.unlink("/t/f", by: bob) } == .EPERM)
    #expect(error { () throws(Errno) in try FileTree.rename("/t/f", to: "/t/g", by: bob) } == .EPERM)
    #expect(error { () throws(Errno) in try FileTree.unlink("/t/f", by: alice) } == nil)
  }

  @Test func `errors come in the order in which Linux finds them`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/d", permissions: 0o755, by: tree.caller)
    _ = try tree.open("/f", [.create, .writeOnly])
    try FileTree.makeSymbolicLink("/l", to: "nowhere", by: tree.caller)
    let by = tree.caller
    #expect(error { () throws(Errno) in _ = try tree.open("/d", .writeOnly) } == .EISDIR)
    #expect(error { () throws(Errno) in _ = try tree.open("/f/", .readOnly) } == .ENOTDIR)
    #expect(error { () throws(Errno) in _ = try tree.open("/f", .directory) } == .ENOTDIR)
    #expect(error { () throws(Errno) in _ = try tree.open("/x/", [.create, .writeOnly]) } == .EISDIR)
    #expect(error { () throws(Errno) in _ = try tree.open("/l", [.create, .exclusive, .writeOnly]) } == .EEXIST)
    #expect(error { () throws(Errno) in _ = try tree.open("/l", .noFollow) } == .ELOOP)
    #expect(error { () throws(Errno) in _ = try tree.open("/l", .readOnly) } == .ENOENT)
    #expect(error { () throws(Errno) in try FileTree.removeDirectory("/d/.", by: by) } == .EINVAL)
    #expect(error { () throws(Errno) in try FileTree.removeDirectory("/d/..", by: by) } == .ENOTEMPTY)
    #expect(error { () throws(Errno) in try FileTree.removeDirectory("/", by: by) } == .EBUSY)
    #expect(error { () throws(Errno) in try FileTree.unlink("/f/", by: by) } == .ENOTDIR)
    #expect(error { () throws(Errno) in try FileTree.unlink("/d/", by: by) } == .EISDIR)
    #expect(error { () throws(Errno) in try FileTree.makeDirectory("/d", permissions: 0, by: by) } == .EEXIST)
    #expect(error { () throws(Errno) in try FileTree.makeDirectory("/f/x", permissions: 0, by: by) } == .ENOTDIR)
    #expect(error { () throws(Errno) in try FileTree.rename("/d", to: "/d/e", by: by) } == .EINVAL)
    #expect(error { () throws(Errno) in try FileTree.rename("/f", to: "/d", by: by) } == .EISDIR)
    #expect(error { () throws(Errno) in try FileTree.rename("/d", to: "/f", by: by) } == .ENOTDIR)
    // O_CREAT through a dangling link creates the target.
    _ = try tree.open("/l", [.create, .writeOnly])
    #expect(error { () throws(Errno) in _ = try tree.open("/nowhere", .readOnly) } == nil)
  }

  @Test func `a full tmpfs takes what fits and then says ENOSPC`() throws {
    let tree = try TestTree("size=64k")
    let file = try tree.open("/f", [.create, .readWrite])
    #expect(try file.writeBytes([UInt8](repeating: 7, count: 100_000), at: 0) == 65536)
    #expect(error { () throws(Errno) in _ = try file.writeBytes([1], at: 65536) } == .ENOSPC)
    #expect(try file.writeBytes([1], at: 100) == 1)
    #expect(try file.path.mount.superblock.statistics().freeBlocks == 0)
    try FileTree.resize(file.inode, to: 0, by: tree.caller)
    #expect(try file.path.mount.superblock.statistics().freeBlocks == 16)
    #expect(try file.writeBytes([1], at: 65535) == 1)
  }

  @Test func `further names and attributes take from the limits, and give back`() throws {
    let tree = try TestTree("size=64k,nr_inodes=5")
    let file = try tree.open("/f", [.create, .writeOnly])
    let superblock = file.path.mount.superblock
    let (inodes, blocks) = (try superblock.statistics().freeFiles, try superblock.statistics().freeBlocks)
    for name in ["/1", "/2", "/3"] { try FileTree.link(file.path, to: ByteString(name), by: tree.caller) }
    #expect(error { () throws(Errno) in try FileTree.link(file.path, to: "/4", by: tree.caller) } == .ENOSPC)
    for name in ["/1", "/2", "/3"] { try FileTree.unlink(ByteString(name), by: tree.caller) }
    #expect(try superblock.statistics().freeFiles == inodes)
    let value = ByteString([UInt8](repeating: 1, count: 40_000))
    try file.inode.setExtendedAttribute("user.a", value, .create)
    #expect(error { () throws(Errno) in try file.inode.setExtendedAttribute("user.b", value, .create) } == .ENOSPC)
    try file.inode.setExtendedAttribute("user.a", ByteString(), .replace)
    try file.inode.setExtendedAttribute("user.b", value, .create)
    try file.inode.removeExtendedAttribute("user.b")
    try file.inode.removeExtendedAttribute("user.a")
    #expect(try superblock.statistics().freeBlocks == blocks)
  }

  @Test func `exchanging and hard links keep their counts`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/d", permissions: 0o755, by: tree.caller)
    let file = try tree.open("/f", [.create, .writeOnly])
    try FileTree.link(file.path, to: "/d/g", by: tree.caller)
    #expect(try file.inode.attributes().linkCount == 2)
    try FileTree.rename("/d", to: "/f", .exchange, by: tree.caller)
    #expect(try PathWalk.resolve("/f/g", by: tree.caller).inode === file.inode)
    #expect(try PathWalk.resolve("/d", by: tree.caller).inode === file.inode)
    try FileTree.unlink("/d", by: tree.caller)
    #expect(try file.inode.attributes().linkCount == 1)
    #expect(error { () throws(Errno) in try FileTree.rename("/f", to: "/f/g", .noReplace, by: tree.caller) } == .EEXIST)
  }

  @Test func `giving up names takes a bounded time, however many are asked for`() throws {
    let tree = try TestTree()
    for index in 0..<100 { _ = try tree.open(ByteString("/n\(index)"), [.create, .writeOnly]) }
    // As many as vfs_cache_pressure can ask for; each was a pass of the hand. What is found later is looked up again.
    _ = DentryCache.shrink(.max)
    #expect(error { () throws(Errno) in _ = try PathWalk.resolve("/n7", by: tree.caller) } == nil)
  }

  @Test func `the dentry cache stays within its limit`() throws {
    let tree = try TestTree()
    let limit = DentryCache.limit
    DentryCache.limit = 256
    defer { DentryCache.limit = limit }
    for index in 0..<5000 {
      _ = try tree.open(ByteString("/file\(index)"), [.create, .writeOnly])
    }
    #expect(DentryCache.count < 1024)
    for index in 0..<5000 { _ = try PathWalk.resolve(ByteString("/file\(index)"), by: tree.caller) }
  }

  @Test func `RESOLVE_BENEATH and RESOLVE_IN_ROOT confine a walk`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/in", permissions: 0o755, by: tree.caller)
    _ = try tree.open("/out", [.create, .writeOnly])
    _ = try tree.open("/in/out", [.create, .writeOnly])
    try FileTree.makeSymbolicLink("/in/abs", to: "/out", by: tree.caller)
    try FileTree.makeSymbolicLink("/in/up", to: "../out", by: tree.caller)
    let base = try PathWalk.resolve("/in", by: tree.caller)
    func walk(_ path: ByteString, _ options: WalkOptions) -> (Path?, Errno?) {
      var result: Path?
      let failure = error { () throws(Errno) in
        result = try PathWalk.resolve(path, from: base, options, by: tree.caller)
      }
      return (result, failure)
    }
    for path in ["abs", "up", "../out", "/out"] as [ByteString] {
      #expect(walk(path, .beneath).1 == .EXDEV)
      let confined = walk(path, .inRoot).0
      #expect(confined?.dentry.name == "out" && confined.map { PathWalk.isReachable($0, from: base) } == true)
    }
    #expect(walk("abs", .noSymbolicLinks).1 == .ELOOP)
  }

  @Test func `inotify tells of creation, change, moves and removal`() throws {
    let tree = try TestTree()
    try FileTree.makeDirectory("/d", permissions: 0o755, by: tree.caller)
    let watcher = InotifyFile(flags: .nonBlocking)
    watcher.acquire()
    let watch = try watcher.add(try PathWalk.resolve("/d", by: tree.caller).inode, .all)
    #expect(watch == 1)
    _ = try tree.open("/d/f", [.create, .writeOnly])
    try FileTree.rename("/d/f", to: "/d/g", by: tree.caller)
    try FileTree.unlink("/d/g", by: tree.caller)
    let bytes = try watcher.readBytes(at: nil, count: 4096)
    var masks: [UInt32] = []
    var place = 0
    while place < bytes.count {
      masks.append((0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[place + 4 + $1]) << UInt32(8 * $1) })
      place += 16 + Int(bytes[place + 12])
    }
    #expect(masks == [0x100, 0x20, 0x40, 0x80, 0x200])
    watcher.release()
  }
}

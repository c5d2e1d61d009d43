import FileSystem
import Identity
import KernelCore
import LinuxABI
import Machine
import PhysicalMemory
import TestSupport
import Testing

@testable import Tmpfs

/// A mounted tmpfs and somebody who uses it.
struct TestTree {
  let namespace: MountNamespace
  var caller: Caller

  static let isPrepared: Bool = {
    unsafe PhysicalMemory.initialize(machine_fake_boot_info(256 << 20))
    Tmpfs.register()
    return true
  }()

  init(_ options: ByteString = "size=64m,mode=755", credentials: Credentials = .root) throws {
    #expect(Self.isPrepared)
    let superblock = try TmpfsSuperblock(options: try TmpfsOptions(options))
    namespace = MountNamespace(root: superblock)
    let root = namespace.rootPath
    caller = Caller(credentials: credentials, umask: 0o022, root: root, workingDirectory: root)
  }

  func open(_ path: ByteString, _ flags: OpenFlags, _ mode: UInt32 = 0o644) throws(Errno) -> OpenFile {
    try FileTree.open(path, flags, permissions: mode, by: caller)
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

/// A tree of plain values that answers look-ups as path_resolution(7) says.
final class ModelNode {
  enum Content {
    case file
    case directory([String: ModelNode])
    case link(String)
  }
  var content: Content
  unowned var parent: ModelNode!
  init(_ content: Content) { self.content = content }

  var children: [String: ModelNode] {
    get { if case .directory(let entries) = content { entries } else { [:] } }
    set { content = .directory(newValue) }
  }
  var isDirectory: Bool { if case .directory = content { true } else { false } }
}

struct ModelTree {
  let root: ModelNode

  init() {
    root = ModelNode(.directory([:]))
    root.parent = root
  }

  /// The node, or the error.
  func walk(_ path: String, from start: ModelNode? = nil, links: inout Int, follow: Bool = true) -> (ModelNode?, Errno?)
  {
    guard !path.isEmpty else { return (nil, .ENOENT) }
    var place = path.hasPrefix("/") ? root : start ?? root
    let parts = path.split(separator: "/").map(String.init)
    let mustBeDirectory = path.hasSuffix("/")
    for (index, part) in parts.enumerated() {
      guard place.isDirectory else { return (nil, .ENOTDIR) }
      let isLast = index == parts.count - 1
      if part == "." { continue }
      if part == ".." {
        place = place.parent
        continue
      }
      guard let child = place.children[part] else { return (nil, .ENOENT) }
      if case .link(let text) = child.content, !isLast || follow || mustBeDirectory {
        links += 1
        guard links <= 40 else { return (nil, .ELOOP) }
        let (target, error) = walk(text, from: place, links: &links)
        guard let target else { return (nil, error) }
        place = target
      } else {
        place = child
      }
    }
    if mustBeDirectory, !place.isDirectory { return (nil, .ENOTDIR) }
    return (place, nil)
  }
}

@Suite(.serialized) struct TreeModelTests {
  @Test func `a hundred thousand walks through random trees agree with a simple model`() throws {
    var random = SeededGenerator("walks")
    for _ in 0..<20 {
      let tree = try TestTree()
      let model = ModelTree()
      var inodes: [ObjectIdentifier: UInt64] = [:]
      let names = ["a", "b", "c", "dd", "e"]
      func randomPath(_ depth: Int, absolute: Bool) -> String {
        var text = absolute ? "/" : ""
        let count = 1 + random.below(depth)
        for index in 0..<count {
          let choice = random.below(12)
          text += choice == 0 ? "." : choice == 1 ? ".." : names[random.below(names.count)]
          if index < count - 1 || random.below(8) == 0 { text += random.below(10) == 0 ? "//" : "/" }
        }
        return text
      }
      // Build with the file system's own operations, by the parent's path.
      for _ in 0..<120 {
        var links = 0
        let parentPath = "/" + randomPath(4, absolute: false)
        let (found, _) = model.walk(parentPath, links: &links)
        guard let parent = found, parent.isDirectory else { continue }
        let name = names[random.below(names.count)]
        guard parent.children[name] == nil else { continue }
        let path = ByteString(parentPath + "/" + name)
        let node: ModelNode
        switch random.below(4) {
        case 0:
          node = ModelNode(.file)
          _ = try tree.open(path, [.create, .exclusive, .writeOnly])
        case 1:
          let target = randomPath(3, absolute: random.below(2) == 0)
          node = ModelNode(.link(target))
          try FileTree.makeSymbolicLink(path, to: ByteString(target), by: tree.caller)
        default:
          node = ModelNode(.directory([:]))
          try FileTree.makeDirectory(path, permissions: 0o755, by: tree.caller)
        }
        node.parent = parent
        parent.children[name] = node
        inodes[ObjectIdentifier(node)] =
          try PathWalk.resolve(path, .noFollow, by: tree.caller).inode.number
      }
      inodes[ObjectIdentifier(model.root)] = tree.namespace.rootPath.inode.number
      for _ in 0..<5000 {
        let path = randomPath(6, absolute: random.below(2) == 0)
        let follow = random.below(2) == 0
        var links = 0
        let (node, expected) = model.walk(path, links: &links, follow: follow)
        var number: UInt64?
        let failure = error { () throws(Errno) in
          number = try PathWalk.resolve(ByteString(path), follow ? [] : .noFollow, by: tree.caller).inode.number
        }
        // `#expect` records each call, which is slow a hundred thousand times.
        if failure != expected {
          Issue.record("\(path): \(String(describing: failure)), not \(String(describing: expected))")
        }
        if number != node.flatMap({ inodes[ObjectIdentifier($0)] }) { Issue.record("\(path) leads elsewhere") }
      }
    }
  }

  @Test func `random operations on a tmpfs agree with a dictionary`() throws {
    var random = SeededGenerator("tmpfs")
    let tree = try TestTree()
    var files: [String: [UInt8]] = [:]
    var directories: Set<String> = [""]
    func parent(_ path: String) -> String { String(path[..<path.lastIndex(of: "/")!]) }
    func exists(_ path: String) -> Bool { files[path] != nil || directories.contains(path) }
    func isEmpty(_ path: String) -> Bool {
      !files.keys.contains { $0.hasPrefix(path + "/") } && !directories.contains { $0.hasPrefix(path + "/") }
    }
    func randomPath() -> String {
      let base = directories.randomElement(using: &random)!
      return (base.count > 12 ? "" : base) + "/" + ["x", "y", "z", "w"][random.below(4)]
    }
    for _ in 0..<SeededGenerator.steps(6000) {
      let path = randomPath()
      let name = ByteString(path)
      switch random.below(7) {
      case 0, 1:
        let offset = random.below(9000)
        let bytes = (0..<random.below(6000)).map { _ in UInt8(truncatingIfNeeded: random.below(256)) }
        if directories.contains(path) {
          #expect(error { () throws(Errno) in _ = try tree.open(name, [.create, .readWrite]) } == .EISDIR)
        } else {
          let file = try tree.open(name, [.create, .readWrite])
          #expect(try file.writeBytes(bytes, at: UInt64(offset)) == bytes.count)
          var content = files[path] ?? []
          if !bytes.isEmpty {
            while content.count < offset + bytes.count { content.append(0) }
            content.replaceSubrange(offset..<offset + bytes.count, with: bytes)
          }
          files[path] = content
        }
      case 2:
        let failure = error { () throws(Errno) in try FileTree.makeDirectory(name, permissions: 0o755, by: tree.caller)
        }
        #expect(failure == (exists(path) ? .EEXIST : nil))
        if failure == nil { directories.insert(path) }
      case 3:
        let failure = error { () throws(Errno) in try FileTree.unlink(name, by: tree.caller) }
        #expect(failure == (directories.contains(path) ? .EISDIR : files[path] == nil ? .ENOENT : nil))
        if failure == nil { files[path] = nil }
      case 4:
        let failure = error { () throws(Errno) in try FileTree.removeDirectory(name, by: tree.caller) }
        let expected: Errno? =
          files[path] != nil ? .ENOTDIR : !directories.contains(path) ? .ENOENT : isEmpty(path) ? nil : .ENOTEMPTY
        #expect(failure == expected)
        if failure == nil { directories.remove(path) }
      case 5:
        let target = randomPath()
        let failure = error { () throws(Errno) in
          try FileTree.rename(name, to: ByteString(target), by: tree.caller)
        }
        let expected = expectedRename(path, target)
        #expect(failure == expected, "\(path) to \(target)")
        if failure == nil, path != target { move(path, target) }
      default:
        guard let content = files[path] else { continue }
        let size = random.below(12_000)
        try FileTree.truncate(try PathWalk.resolve(name, by: tree.caller), to: UInt64(size), by: tree.caller)
        files[path] = Array(content.prefix(size)) + [UInt8](repeating: 0, count: max(0, size - content.count))
      }
      if let content = files[path] {
        let file = try tree.open(name, .readOnly)
        #expect(try file.inode.attributes().size == UInt64(content.count))
        #expect(try file.readBytes(at: 0, count: content.count + 10) == content)
      }
    }
    // The listing of every directory agrees, and so do the link counts.
    for directory in directories {
      var listed: Set<String> = []
      let file = try tree.open(ByteString(directory + "/"), .directory)
      try file.readDirectory { entry in
        listed.insert(entry.name.string)
        return true
      }
      let children = files.keys.filter { parent($0) == directory }
      let inner = directories.filter { $0 != "" && parent($0) == directory }
      #expect(listed == Set((children + inner).map { String($0.split(separator: "/").last!) } + [".", ".."]))
      #expect(try file.inode.attributes().linkCount == UInt64(2 + inner.count))
    }

    func expectedRename(_ old: String, _ new: String) -> Errno? {
      guard exists(old) else { return .ENOENT }
      if new == old { return nil }
      if new.hasPrefix(old + "/") { return directories.contains(old) ? .EINVAL : .ENOTDIR }
      if old.hasPrefix(new + "/") { return .ENOTEMPTY }
      if directories.contains(old) {
        if files[new] != nil { return .ENOTDIR }
        if directories.contains(new), !isEmpty(new) { return .ENOTEMPTY }
      } else if directories.contains(new) {
        return .EISDIR
      }
      return nil
    }
    func move(_ old: String, _ new: String) {
      if let content = files.removeValue(forKey: old) {
        files[new] = content
        return
      }
      let inside = { (path: String) in path == old || path.hasPrefix(old + "/") }
      for path in directories.filter(inside) {
        directories.remove(path)
        directories.insert(new + path.dropFirst(old.count))
      }
      for path in files.keys.filter(inside) { files[new + path.dropFirst(old.count)] = files.removeValue(forKey: path) }
    }
  }
}

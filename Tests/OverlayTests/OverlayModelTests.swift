// Random operations on an overlay against a tree of plain values.

import FileSystem
import KernelCore
import LinuxABI
import TestSupport
import Testing
import Tmpfs

@testable import Overlay

/// What a file should be.
private final class ModelFile {
  enum Kind { case file, directory, link }
  let kind: Kind
  var content: [UInt8] = []
  var target = ""
  var children: [String: ModelFile] = [:]
  var mode: UInt32
  var links = 1
  var attributes: [String: String] = [:]
  /// As first seen; 0 before.
  var number: UInt64 = 0

  init(_ kind: Kind, mode: UInt32 = 0o644) {
    self.kind = kind
    self.mode = kind == .directory ? 0o755 : kind == .link ? 0o777 : mode
  }

  var fileKind: FileKind {
    switch kind {
    case .file: .regular
    case .directory: .directory
    case .link: .symbolicLink
    }
  }
}

/// The run of one test: the overlay, the model, and what is open.
private struct Run {
  var random: SeededGenerator
  let overlay: OverlayTree
  let root: ModelFile
  var open: [(file: OpenFile, model: ModelFile)] = []
  var step = 0
  var log: [String] = []

  static let names = ["a", "b", "c", "d", "e"]

  init(_ name: StaticString) throws {
    var random = SeededGenerator(name)
    let root = ModelFile(.directory)
    var files: [(path: String, model: ModelFile)] = []
    overlay = try OverlayTree { lower in try Run.fill(lower, root, "", 3, &files, &random) }
    self.root = root
    self.random = random
  }

  private static func fill(
    _ lower: TestTree, _ directory: ModelFile, _ path: String, _ depth: Int,
    _ files: inout [(path: String, model: ModelFile)], _ random: inout SeededGenerator
  ) throws {
    for name in names where random.below(4) > 0 {
      let child = path + "/" + name
      if random.below(5) == 0, let (other, model) = files.randomElement(using: &random) {
        try lower.link(other, child)
        model.links += 1
        directory.children[name] = model
        continue
      }
      let model: ModelFile
      switch random.below(depth > 0 ? 5 : 3) {
      case 0:
        model = ModelFile(.link)
        model.target = "to\(random.below(100))"
        try FileTree.makeSymbolicLink(ByteString(child), to: ByteString(model.target), by: lower.caller)
      case 1, 2:
        model = ModelFile(.file)
        model.content = (0..<random.below(9000)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let file = try lower.open(child, [.create, .writeOnly])
        _ = try file.writeBytes(model.content, at: 0)
        if random.below(3) == 0 {
          model.attributes["user.low"] = "\(random.below(100))"
          try file.inode.setExtendedAttribute("user.low", ByteString(model.attributes["user.low"]!), .create)
        }
        file.release()
        files.append((child, model))
      default:
        model = ModelFile(.directory)
        try lower.makeDirectory(child)
        try fill(lower, model, child, depth - 1, &files, &random)
      }
      directory.children[name] = model
    }
  }

  // MARK: Choosing

  struct Place {
    var parent: ModelFile
    var name: String
    var path: String
    /// The directories from the root to the parent.
    var ancestors: [ModelFile]
    var file: ModelFile? { parent.children[name] }
  }

  mutating func choose() -> Place {
    var place = root
    var path = ""
    var ancestors = [root]
    while ancestors.count < 5, random.below(3) > 0 {
      let inner = place.children.filter { $0.value.kind == .directory }.sorted { $0.key < $1.key }
      guard let (name, next) = inner.randomElement(using: &random) else { break }
      place = next
      path += "/" + name
      ancestors.append(next)
    }
    let name = Self.names.randomElement(using: &random)!
    return Place(parent: place, name: name, path: path + "/" + name, ancestors: ancestors)
  }

  mutating func bytes(_ limit: Int) -> [UInt8] {
    let value = UInt8(truncatingIfNeeded: random.next())
    return [UInt8](repeating: value, count: 1 + random.below(limit))
  }

  mutating func expect(_ got: Errno?, _ wanted: Errno?, _ what: String) {
    log.append("\(what): \(got.map { "\($0.rawValue)" } ?? "ok")")
    if got != wanted {
      Issue.record(
        "step \(step): \(what) gives \(String(describing: got)), not \(String(describing: wanted)); before: \(log.suffix(12))"
      )
    }
  }

  // MARK: Steps

  mutating func take() throws {
    step += 1
    let place = choose()
    let (tree, path, name) = (overlay.tree, place.path, place.name)
    let caller = tree.caller
    let file = place.file
    switch random.below(20) {
    case 0, 1:
      guard file?.kind != .link else { return try compare(place) }
      let data = bytes(6000)
      let offset = random.below(9000)
      let failure = error { () throws(Errno) in
        let opened = try tree.open(path, [.create, .readWrite])
        defer { opened.release() }
        _ = try opened.writeBytes(data, at: UInt64(offset))
      }
      expect(failure, file?.kind == .directory ? .EISDIR : nil, "write \(path)")
      if failure == nil {
        let model = file ?? ModelFile(.file)
        place.parent.children[name] = model
        Self.write(data, at: offset, to: model)
      }
    case 2:
      guard file?.kind != .link else { return try compare(place) }
      let data = bytes(300)
      let failure = error { () throws(Errno) in
        let opened = try tree.open(path, [.writeOnly, .append])
        defer { opened.release() }
        _ = try opened.writeBytes(data, at: nil)
      }
      expect(failure, file == nil ? .ENOENT : file!.kind == .directory ? .EISDIR : nil, "append \(path)")
      if failure == nil { file!.content += data }
    case 3:
      let size = random.below(12_000)
      let failure = error { () throws(Errno) in
        try FileTree.truncate(try tree.place(path), to: UInt64(size), by: caller)
      }
      let wanted: Errno? =
        switch file?.kind {
        case .file: nil
        case .directory: .EISDIR
        case .link: .EINVAL
        case nil: .ENOENT
        }
      expect(failure, wanted, "truncate \(path) to \(size)")
      if failure == nil { Self.resize(file!, size) }
    case 4:
      guard file?.kind == .file else { return try compare(place) }
      let failure = error { () throws(Errno) in try tree.open(path, [.writeOnly, .truncate]).release() }
      expect(failure, nil, "truncate by open \(path)")
      file!.content = []
    case 5, 6:
      let failure = error { () throws(Errno) in try tree.makeDirectory(path) }
      expect(failure, file == nil ? nil : .EEXIST, "mkdir \(path)")
      if failure == nil { place.parent.children[name] = ModelFile(.directory) }
    case 7:
      let failure = error { () throws(Errno) in try tree.removeDirectory(path) }
      let wanted: Errno? =
        file == nil ? .ENOENT : file!.kind != .directory ? .ENOTDIR : file!.children.isEmpty ? nil : .ENOTEMPTY
      expect(failure, wanted, "rmdir \(path)")
      if failure == nil { place.parent.children[name] = nil }
    case 8, 9:
      let failure = error { () throws(Errno) in try tree.unlink(path) }
      expect(failure, file == nil ? .ENOENT : file!.kind == .directory ? .EISDIR : nil, "unlink \(path)")
      if failure == nil {
        file!.links -= 1
        place.parent.children[name] = nil
      }
    case 10, 11, 12: rename(place, choose())
    case 13:
      let target = choose()
      let failure = error { () throws(Errno) in try tree.link(path, target.path) }
      let wanted: Errno? =
        file == nil ? .ENOENT : target.file != nil ? .EEXIST : file!.kind == .directory ? .EPERM : nil
      expect(failure, wanted, "link \(path) \(target.path)")
      if failure == nil {
        file!.links += 1
        target.parent.children[target.name] = file
      }
    case 14:
      let failure = error { () throws(Errno) in
        try FileTree.makeSymbolicLink(ByteString(path), to: ByteString("target\(step)"), by: caller)
      }
      expect(failure, file == nil ? nil : .EEXIST, "symlink \(path)")
      if failure == nil {
        let model = ModelFile(.link)
        model.target = "target\(step)"
        place.parent.children[name] = model
      }
    case 15:
      guard let file, file.kind != .link else { return try compare(place) }
      let mode = UInt32(0o600 + random.below(64))
      expect(
        error { () throws(Errno) in try FileTree.changeMode(try tree.place(path), mode, by: caller) }, nil,
        "chmod \(path)")
      file.mode = mode
    case 16:
      guard let file, file.kind == .file else { return try compare(place) }
      let key = ["user.low", "user.x"][random.below(2)]
      if random.below(3) == 0 {
        let failure = error { () throws(Errno) in
          try FileTree.removeExtendedAttribute(try tree.place(path), ByteString(key), by: caller)
        }
        expect(failure, file.attributes[key] == nil ? .ENODATA : nil, "removexattr \(path)")
        file.attributes[key] = nil
      } else {
        let failure = error { () throws(Errno) in
          try FileTree.setExtendedAttribute(
            try tree.place(path), ByteString(key), ByteString("\(step)"), .createOrReplace, by: caller)
        }
        expect(failure, nil, "setxattr \(path)")
        file.attributes[key] = "\(step)"
      }
    case 17: try temporary(place)
    case 18: try useOpenFiles(place)
    default: try compare(place)
    }
  }

  private mutating func rename(_ old: Place, _ new: Place) {
    let flags: RenameFlags = [[], [], .exchange, .noReplace].randomElement(using: &random)!
    let failure = error { () throws(Errno) in try overlay.tree.rename(old.path, new.path, flags) }
    let (source, target) = (old.file, new.file)
    expect(failure, Self.expectedRename(old, new, flags), "rename \(old.path) \(new.path) \(flags.rawValue)")
    guard failure == nil, source !== target else { return }
    new.parent.children[new.name] = source
    if flags == .exchange {
      old.parent.children[old.name] = target
    } else {
      old.parent.children[old.name] = nil
      target?.links -= 1
    }
  }

  private static func expectedRename(_ old: Place, _ new: Place, _ flags: RenameFlags) -> Errno? {
    guard let source = old.file else { return .ENOENT }
    let target = new.file
    if flags == .noReplace, target != nil { return .EEXIST }
    if flags == .exchange, target == nil { return .ENOENT }
    if new.ancestors.contains(where: { $0 === source }) { return .EINVAL }
    if let target, old.ancestors.contains(where: { $0 === target }) {
      return flags == .exchange ? .EINVAL : .ENOTEMPTY
    }
    if source === target { return nil }
    if flags != .exchange, let target {
      if source.kind == .directory, target.kind != .directory { return .ENOTDIR }
      if source.kind != .directory, target.kind == .directory { return .EISDIR }
    }
    if flags != .exchange, let target, !target.children.isEmpty { return .ENOTEMPTY }
    return nil
  }

  private static func write(_ data: [UInt8], at offset: Int, to model: ModelFile) {
    if model.content.count < offset + data.count { resize(model, offset + data.count) }
    model.content.replaceSubrange(offset..<offset + data.count, with: data)
  }

  private static func resize(_ model: ModelFile, _ size: Int) {
    if size < model.content.count {
      model.content.removeLast(model.content.count - size)
    } else {
      model.content += [UInt8](repeating: 0, count: size - model.content.count)
    }
  }

  private mutating func temporary(_ place: Place) throws {
    let tree = overlay.tree
    let directory = String(place.path.dropLast(place.name.count))
    let file = try tree.open(directory, [.temporary, .readWrite])
    let model = ModelFile(.file)
    model.links = 0
    model.content = bytes(5000)
    _ = try file.writeBytes(model.content, at: 0)
    if random.below(2) == 0 {
      let failure = error { () throws(Errno) in
        try FileTree.link(file.path, to: ByteString(place.path), by: tree.caller)
      }
      expect(failure, place.file == nil ? nil : .EEXIST, "link a temporary file to \(place.path)")
      if failure == nil {
        model.links = 1
        place.parent.children[place.name] = model
      }
    }
    keepOpen(file, model)
  }

  private mutating func keepOpen(_ file: OpenFile, _ model: ModelFile) {
    if open.count >= 6 { open.remove(at: random.below(open.count)).file.release() }
    open.append((file, model))
  }

  /// Opens a file, or does something with one that is open, whether it still has a name or not.
  private mutating func useOpenFiles(_ place: Place) throws {
    if let model = place.file, model.kind == .file {
      keepOpen(try overlay.tree.open(place.path, random.below(3) == 0 ? .readWrite : .readOnly), model)
    }
    guard let (file, model) = open.randomElement(using: &random) else { return }
    switch random.below(4) {
    case 0:
      let mode = UInt32(0o600 + random.below(64))
      try FileTree.changeMode(file.path, mode, by: overlay.tree.caller)
      model.mode = mode
    case 1 where file.flags.allowsWriting:
      let data = bytes(3000)
      let offset = random.below(5000)
      _ = try file.writeBytes(data, at: UInt64(offset))
      Self.write(data, at: offset, to: model)
    case 2 where file.flags.allowsWriting:
      let size = random.below(9000)
      try FileTree.resize(file.inode, to: UInt64(size), by: overlay.tree.caller)
      Self.resize(model, size)
    default: break
    }
    log.append("use of an open file, \(model.links) links, now \(place.path)")
    try compare(model, file.inode, "an open file")
    if try file.readBytes(at: 0, count: model.content.count + 10) != model.content {
      Issue.record("step \(step): an open file reads something else; before: \(log.suffix(12))")
    }
  }

  // MARK: Comparing

  private mutating func compare(_ place: Place) throws {
    let failure = error { () throws(Errno) in _ = try overlay.tree.place(place.path) }
    expect(failure, place.file == nil ? .ENOENT : nil, "stat \(place.path)")
    guard let model = place.file, failure == nil else { return }
    try compare(model, try overlay.tree.place(place.path).inode, place.path)
  }

  mutating func compare(_ model: ModelFile, _ inode: Inode, _ path: String) throws {
    let attributes = try inode.attributes()
    if model.number == 0 { model.number = attributes.number }
    var differences: [String] = []
    if attributes.number != model.number { differences.append("number \(attributes.number) was \(model.number)") }
    if attributes.kind != model.fileKind { differences.append("kind \(attributes.kind)") }
    if attributes.permissions != model.mode { differences.append("mode \(attributes.permissions) not \(model.mode)") }
    switch model.kind {
    case .directory:
      let entries = try overlay.tree.list(path)
      let names = Set(entries.map { $0.name.string })
      if names != Set(model.children.keys) || names.count != entries.count {
        differences.append("entries \(entries.map { $0.name.string }) not \(model.children.keys.sorted())")
      }
      for entry in entries {
        guard let child = model.children[entry.name.string] else { continue }
        if child.number != 0, entry.number != child.number { differences.append("d_ino of \(entry.name.string)") }
        if entry.kind != child.fileKind { differences.append("d_type of \(entry.name.string)") }
      }
      let links = 2 + model.children.values.count { $0.kind == .directory }
      if attributes.linkCount != UInt64(links) { differences.append("links \(attributes.linkCount) not \(links)") }
    case .link:
      if try inode.readLink().string != model.target { differences.append("target") }
      if attributes.linkCount != UInt64(model.links) { differences.append("links \(attributes.linkCount)") }
    case .file:
      if attributes.linkCount != UInt64(model.links) {
        differences.append("links \(attributes.linkCount) not \(model.links)")
      }
      if attributes.size != UInt64(model.content.count) {
        differences.append("size \(attributes.size) not \(model.content.count)")
      }
      let bytes = try KernelBuffer.collect(model.content.count + 10) { buffer throws(Errno) in
        try inode.read(at: 0, &buffer)
      }
      if bytes != model.content { differences.append("content") }
      let names = try inode.extendedAttributeNames().map { $0.string }.sorted()
      if names != model.attributes.keys.sorted() { differences.append("attributes \(names)") }
      for (name, value) in model.attributes where try inode.extendedAttribute(ByteString(name)).string != value {
        differences.append("the value of \(name)")
      }
    }
    if !differences.isEmpty {
      Issue.record("step \(step): \(path) has \(differences); before: \(log.suffix(12))")
    }
  }

  /// Compares everything.
  mutating func compareAll() throws {
    var owners: [UInt64: ModelFile] = [:]
    var pending = [(root, "/")]
    while let (model, path) = pending.popLast() {
      try compare(model, try overlay.tree.place(path).inode, path)
      if let other = owners[model.number], other !== model { Issue.record("two files have the number \(model.number)") }
      owners[model.number] = model
      for (name, child) in model.children { pending.append((child, (path == "/" ? "" : path) + "/" + name)) }
    }
    try overlay.expectLowerUnchanged()
  }
}

@Suite(.serialized) struct OverlayModelTests {
  @Test func `random operations on an overlay agree with a tree of values`() throws {
    var left = SeededGenerator.steps(20_000)
    while left > 0 {
      var run = try Run("overlay")
      for _ in 0..<min(left, 5000) { try run.take() }
      left -= 5000
      try run.compareAll()
      for entry in run.open { entry.file.release() }
    }
  }

  @Test func `the same with a dentry cache that forgets nearly everything`() throws {
    let limit = DentryCache.limit
    DentryCache.limit = 16
    defer { DentryCache.limit = limit }
    for _ in 0..<max(1, SeededGenerator.steps(10)) {
      var run = try Run("overlay with a small cache")
      for _ in 0..<1000 {
        try run.take()
        if run.random.below(20) == 0 { DentryCache.dropUnused() }
      }
      try run.compareAll()
      for entry in run.open { entry.file.release() }
    }
  }
}

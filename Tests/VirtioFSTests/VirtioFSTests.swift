import FileSystem
import Foundation
import KernelCore
import LinuxABI
import Testing

@testable import VirtioFS

@Suite(.serialized) struct ReadingTests {
  @Test func `files, directories and links of the host are seen`() throws {
    let host = HostDirectory()
    host.write("hello", "hello, world\n")
    host.makeDirectory("a/b/c")
    host.write("a/b/c/deep", "deep")
    symlink("/etc/passwd", host.file("link"))
    let root = try Harness.mount(host.path, isReadOnly: true).rootInode
    #expect(try root.walk("hello").text() == "hello, world\n")
    #expect(try root.walk("a/b/c/deep").text() == "deep")
    #expect(try root.walk("link").readLink() == "/etc/passwd")
    #expect(try root.walk("hello").attributes().size == 13)
    #expect(try root.names() == ["a", "hello", "link"])
    #expect(errno { try root.walk("absent") } == .ENOENT)
    #expect(try root.walk("a").kind == .directory)
  }

  @Test func `a large file is read in large pieces and is exact to the last byte`() throws {
    let host = HostDirectory()
    var generator = SystemRandomNumberGenerator()
    let bytes = (0..<(1_000_003)).map { _ in UInt8.random(in: 0...255, using: &generator) }
    host.write("big", bytes)
    let root = try Harness.mount(host.path).rootInode
    let file = try root.walk("big")
    let read = try KernelBuffer.collect(2_000_000) { buffer throws(Errno) in try file.read(at: 0, &buffer) }
    #expect(read == bytes)
    let tail = try KernelBuffer.collect(100) { buffer throws(Errno) in try file.read(at: 1_000_000, &buffer) }
    #expect(tail == Array(bytes[1_000_000...]))
  }

  @Test func `a directory of thousands of entries is listed completely and can be resumed anywhere`() throws {
    let host = HostDirectory()
    let expected = (0..<3000).map { "entry-with-a-rather-long-name-\($0)" }.sorted()
    for name in expected { host.write(name, "") }
    let root = try Harness.mount(host.path).rootInode
    #expect(try root.names() == expected)
    var names: [String] = []
    var cookie: UInt64 = 0
    while true {
      var taken = 0
      try root.readDirectory(from: cookie) { entry in
        guard taken < 7 else { return false }
        taken += 1
        names.append(entry.name.string)
        cookie = entry.cookie
        return true
      }
      if taken == 0 { break }
    }
    #expect(names.sorted() == expected)
  }

  @Test func `what the host changes is seen when the cached attributes have expired`() throws {
    let host = HostDirectory()
    host.write("file", "old")
    let root = try Harness.mount(host.path).rootInode
    let file = try root.walk("file")
    #expect(try file.text() == "old")
    Thread.sleep(forTimeInterval: 0.02)
    let handle = FileHandle(forWritingAtPath: host.file("file"))!
    handle.write(Data("newer content".utf8))
    handle.closeFile()
    #expect(try file.attributes().size == 13)
    #expect(try file.text() == "newer content")
  }

  @Test func `more files than descriptors can be known at once`() throws {
    let host = HostDirectory()
    for index in 0..<500 { host.write("f\(index)", "content \(index)") }
    let root = try Harness.mount(host.path, descriptorLimit: 16).rootInode
    let files = try (0..<500).map { try root.walk("f\($0)") }
    for (index, file) in files.enumerated() { #expect(try file.text() == "content \(index)") }
    for (index, file) in files.enumerated().reversed() { #expect(try file.text() == "content \(index)") }
  }
}

@Suite(.serialized) struct WritingTests {
  @Test func `files are created, written, truncated and removed on the host`() throws {
    let host = HostDirectory()
    let root = try Harness.mount(host.path).rootInode
    let file = try root.create("new", permissions: 0o640, owner: .root)
    #expect(try file.put("hello") == 5)
    #expect(host.read("new") == "hello")
    #expect(try file.put("J", at: 0) == 1)
    #expect(host.read("new") == "Jello")
    #expect(try file.put(" world", at: 5) == 6)
    #expect(host.read("new") == "Jello world")
    #expect(try file.text() == "Jello world")
    try file.setAttributes(AttributeChange(size: 3))
    #expect(host.read("new") == "Jel")
    #expect(try file.text() == "Jel")
    try file.setAttributes(AttributeChange(permissions: 0o600))
    #expect(try file.attributes().permissions == 0o600)
    #expect(errno { try root.create("new", permissions: 0o640, owner: .root) } == .EEXIST)
    try root.unlink("new", file)
    #expect(host.read("new") == nil)
    // The content lives until the last user is gone.
    #expect(try file.text() == "Jel")
  }

  @Test func `directories, links and renames`() throws {
    let host = HostDirectory()
    let root = try Harness.mount(host.path).rootInode
    let directory = try root.makeDirectory("d", permissions: 0o755, owner: .root)
    let file = try directory.create("f", permissions: 0o644, owner: .root)
    try file.put("text")
    try root.link(file, as: "hard")
    #expect(host.read("hard") == "text")
    #expect(try file.attributes().linkCount == 2)
    _ = try root.makeSymbolicLink("soft", target: "d/f", owner: .root)
    #expect(host.read("soft") == "text")
    try root.rename("d", into: root, as: "e", [])
    #expect(host.read("e/f") == "text")
    // The node's place has moved with its directory.
    #expect(try directory.walk("f").text() == "text")
    #expect(errno { try root.removeDirectory("e", directory) } == .ENOTEMPTY)
    try directory.unlink("f", file)
    try root.removeDirectory("e", directory)
    #expect(try root.names() == ["hard", "soft"])
    #expect(
      errno {
        try root.makeNode(
          "dev", kind: .characterDevice, permissions: 0o600, device: DeviceNumber(major: 1, minor: 3), owner: .root)
      } == .EPERM)
  }

  @Test func `a file that is replaced by a rename stays readable for those who have it`() throws {
    let host = HostDirectory()
    host.write("a", "first")
    host.write("b", "second")
    let root = try Harness.mount(host.path, descriptorLimit: 4).rootInode
    let (a, b) = (try root.walk("a"), try root.walk("b"))
    try root.rename("a", into: root, as: "b", [])
    #expect(try b.text() == "second")
    #expect(try a.text() == "first")
    #expect(try root.walk("b") === a)
  }

  @Test func `a read-only export refuses every change`() throws {
    let host = HostDirectory()
    host.write("file", "same")
    host.makeDirectory("dir")
    let root = try Harness.mount(host.path, isReadOnly: true).rootInode
    let file = try root.walk("file")
    #expect(errno { try root.create("x", permissions: 0o644, owner: .root) } == .EROFS)
    #expect(errno { try root.makeDirectory("x", permissions: 0o755, owner: .root) } == .EROFS)
    #expect(errno { try root.unlink("file", file) } == .EROFS)
    #expect(errno { try file.setAttributes(AttributeChange(size: 0)) } == .EROFS)
    #expect(errno { try root.rename("file", into: root, as: "y", []) } == .EROFS)
    #expect(errno { try file.put("other") } == .EROFS)
    #expect(errno { try file.setExtendedAttribute("user.x", "y", .create) } == .EROFS)
    #expect(host.read("file") == "same")
  }

  @Test func `extended attributes of users go through, others do not`() throws {
    let host = HostDirectory()
    host.write("file", "")
    let root = try Harness.mount(host.path).rootInode
    let file = try root.walk("file")
    let result = errno { try file.setExtendedAttribute("user.colour", "red", .create) }
    // The host's file system may have none.
    if result == .EOPNOTSUPP { return }
    #expect(result == nil)
    #expect(try file.extendedAttribute("user.colour") == "red")
    #expect(try file.extendedAttributeNames() == ["user.colour"])
    #expect(errno { try file.setExtendedAttribute("user.colour", "blue", .create) } == .EEXIST)
    #expect(errno { try file.setExtendedAttribute("trusted.x", "1", .create) } == .EPERM)
    #expect(errno { try file.extendedAttribute("user.none") } == .ENODATA)
    try file.removeExtendedAttribute("user.colour")
    #expect(errno { try file.extendedAttribute("user.colour") } == .ENODATA)
  }
}

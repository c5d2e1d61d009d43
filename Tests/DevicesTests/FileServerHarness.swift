// Speaks FUSE to a file server as a guest would, without a queue.

import CLinuxABI
import Foundation

@testable import Devices

/// A directory with something secret beside it.
final class Playground {
  let base: String
  /// The directory that is served.
  let root: String

  init() {
    base = NSTemporaryDirectory() + "apus-server-\(UUID().uuidString)"
    root = base + "/root"
    try! FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    Self.write(base + "/secret", "secret")
  }
  deinit { try? FileManager.default.removeItem(atPath: base) }

  static func write(_ path: String, _ text: String) {
    let file = fopen(path, "w")!
    fputs(text, file)
    fclose(file)
  }
  func write(_ name: String, _ text: String) { Self.write(root + "/" + name, text) }
  func makeDirectory(_ name: String) {
    try! FileManager.default.createDirectory(atPath: root + "/" + name, withIntermediateDirectories: true)
  }
}

/// The guest's side.
struct Guest {
  let server: FileServer
  /// The directory stays as long as its guest.
  private var place: Playground?

  init(
    _ place: Playground, isReadOnly: Bool = false, descriptorLimit: Int? = nil,
    takesPrivilegedFiles: Bool = false
  ) {
    self.init(
      place.root, isReadOnly: isReadOnly, descriptorLimit: descriptorLimit, takesPrivilegedFiles: takesPrivilegedFiles)
    self.place = place
  }

  init(
    _ directory: String, isReadOnly: Bool = false, descriptorLimit: Int? = nil,
    takesPrivilegedFiles: Bool = false
  ) {
    var options = FileServer.Options(isReadOnly: isReadOnly)
    options.descriptorLimit = descriptorLimit
    options.takesPrivilegedFiles = takesPrivilegedFiles
    var failure: Int32 = 0
    server = FileServer(tag: "test", directory: directory, options: options, failure: &failure)!
  }

  struct Answer {
    var error: Int32
    var body: [UInt8]
  }

  /// Sends `message` as it is; nil when it is not answered.
  func send(_ message: [UInt8], room: Int = 65536, pieces: Int = 1) -> Answer? {
    let input = UnsafeMutableRawBufferPointer.allocate(byteCount: max(message.count, 1), alignment: 8)
    let output = UnsafeMutableRawBufferPointer.allocate(byteCount: max(room, 1), alignment: 8)
    defer {
      input.deallocate()
      output.deallocate()
    }
    input.copyBytes(from: message)
    func split(_ buffer: UnsafeMutableRawBufferPointer, _ count: Int) -> [UnsafeMutableRawBufferPointer] {
      let step = max(1, count / pieces)
      return stride(from: 0, to: count, by: step).map {
        UnsafeMutableRawBufferPointer(rebasing: buffer[$0..<min($0 + step, count)])
      }
    }
    let chain = DescriptorChain(
      head: 0, readable: split(input, message.count), writable: split(output, room))
    let count = server.answer(chain)
    precondition(count <= room)
    guard count >= 16 else { return nil }
    let header = output.loadUnaligned(as: linux_fuse_out_header.self)
    precondition(Int(header.length) == count)
    return Answer(error: header.error, body: Array(output[16..<count]))
  }

  func request(_ opcode: linux_fuse_opcode, _ node: UInt64, _ body: [UInt8] = []) -> Answer? {
    send(Self.message(opcode.rawValue, node, body))
  }

  static func message(_ opcode: UInt32, _ node: UInt64, _ body: [UInt8], length: UInt32? = nil) -> [UInt8] {
    var header = linux_fuse_in_header()
    header.opcode = opcode
    header.node = node
    header.unique = 7
    header.length = length ?? UInt32(40 + body.count)
    return bytesOf(header) + body
  }

  /// The node and mode of an entry, or a negative error number.
  func lookup(_ name: String, in node: UInt64 = 1) -> (node: UInt64, mode: UInt32, error: Int32) {
    let answer = request(LINUX_FUSE_LOOKUP, node, Array(name.utf8) + [0])!
    guard answer.error == 0 else { return (0, 0, answer.error) }
    let entry = answer.body.withUnsafeBytes { $0.loadUnaligned(as: linux_fuse_entry.self) }
    return (entry.node, entry.attributes.mode, entry.node == 0 ? -ENOENT : 0)
  }

  /// Creates a file (CREATE, TMPFILE): the error, the node and its permissions.
  func create(_ opcode: linux_fuse_opcode, _ name: String, mode: UInt32) -> (
    error: Int32, node: UInt64, mode: UInt32
  ) {
    var body = bytesOf(
      linux_fuse_create_in(flags: UInt32(O_RDWR | O_CREAT | O_EXCL), mode: mode, umask: 0, open_flags: 0))
    if opcode == LINUX_FUSE_CREATE { body += Array(name.utf8) + [0] }
    let answer = request(opcode, 1, body)!
    guard answer.error == 0 else { return (answer.error, 0, 0) }
    let entry = answer.body.withUnsafeBytes { $0.loadUnaligned(as: linux_fuse_entry.self) }
    return (0, entry.node, entry.attributes.mode & 0o7777)
  }

  /// Changes the permissions of a node.
  func changeMode(_ node: UInt64, _ mode: UInt32) -> Int32 {
    var body = linux_fuse_setattr_in()
    body.valid = LINUX_FATTR_MODE
    body.mode = mode
    return request(LINUX_FUSE_SETATTR, node, bytesOf(body))!.error
  }

  func write(_ node: UInt64, _ text: String, offset: UInt64 = 0) -> Int32 {
    var body = linux_fuse_write_in()
    body.size = UInt32(text.utf8.count)
    body.offset = offset
    return request(LINUX_FUSE_WRITE, node, bytesOf(body) + Array(text.utf8))!.error
  }

  func setAttribute(_ node: UInt64, _ name: String) -> Int32 {
    let body = bytesOf(linux_fuse_setxattr_in(size: 1, flags: 0)) + Array(name.utf8) + [0, 0x76]
    return request(LINUX_FUSE_SETXATTR, node, body)!.error
  }

  func read(_ node: UInt64, size: UInt32 = 4096, offset: UInt64 = 0) -> (text: String, error: Int32) {
    var body = linux_fuse_read_in()
    body.size = size
    body.offset = offset
    let answer = request(LINUX_FUSE_READ, node, bytesOf(body))!
    return (String(decoding: answer.body, as: UTF8.self), answer.error)
  }

  func open(_ node: UInt64, _ flags: Int32) -> Int32 {
    request(LINUX_FUSE_OPEN, node, bytesOf(linux_fuse_open_in(flags: UInt32(flags), open_flags: 0)))!.error
  }

  func list(_ node: UInt64) -> (names: [String], error: Int32) {
    var names: [String] = []
    var offset: UInt64 = 0
    while true {
      var body = linux_fuse_read_in()
      body.size = 4096
      body.offset = offset
      let answer = request(LINUX_FUSE_READDIR, node, bytesOf(body))!
      if answer.error != 0 { return (names, answer.error) }
      if answer.body.isEmpty { return (names.sorted(), 0) }
      var place = 0
      while place + 24 <= answer.body.count {
        let entry = answer.body.withUnsafeBytes {
          $0.loadUnaligned(fromByteOffset: place, as: linux_fuse_dirent.self)
        }
        let name = answer.body[place + 24..<place + 24 + Int(entry.name_length)]
        names.append(String(decoding: name, as: UTF8.self))
        offset = entry.offset
        place += (24 + name.count + 7) & ~7
      }
    }
  }
}

// Values around the host's file operations (CDevices): errors, names, and descriptors that close themselves.

import CDevices
import CLinuxABI
import Glibc

/// A failed operation: an error number, which becomes the request's answer.
struct HostError: Error, Equatable {
  let code: Int32

  init(_ code: Int32) { self.code = code }

  /// The result of a host operation, unless it is a negative error number.
  @inline(__always) @discardableResult
  static func check<Result: BinaryInteger>(_ result: Result) throws(HostError) -> Result {
    if result < 0 { throw HostError(Int32(truncatingIfNeeded: 0 - Int(result))) }
    return result
  }
}

/// One component of a path: not empty, not "." or "..", without slashes. What reaches the host can therefore never name
/// anything but an entry of the directory that it is used with.
struct FileName: Hashable, CustomStringConvertible {
  /// The bytes and a NUL.
  private let text: [UInt8]

  /// - Throws: EINVAL, ENAMETOOLONG.
  init(_ bytes: some Collection<UInt8>) throws(HostError) {
    guard !bytes.isEmpty, !bytes.contains(0), !bytes.contains(0x2f) else { throw HostError(EINVAL) }
    guard bytes.count <= 255 else { throw HostError(ENAMETOOLONG) }
    if bytes.first == 0x2e, bytes.count == 1 || bytes.count == 2 && bytes.allSatisfy({ $0 == 0x2e }) {
      throw HostError(EINVAL)
    }
    text = Array(bytes) + [0]
  }

  private init(unchecked text: [UInt8]) { self.text = text }
  /// The directory itself; for the root only.
  static let none = FileName(unchecked: [0])
  /// "." for reopening a directory.
  static let itself = FileName(unchecked: [0x2e, 0])

  var description: String { String(decoding: text.dropLast(), as: UTF8.self) }

  func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
    unsafe text.withUnsafeBytes { bytes in
      // SAFETY: the array ends with a NUL.
      unsafe body(bytes.baseAddress!.assumingMemoryBound(to: CChar.self))
    }
  }
}

/// open(2)'s O_PATH and O_TMPFILE, which the C library hides from Swift.
let openPathOnly: Int32 = 0o10_000_000
let openTemporary: Int32 = 0o20_200_000

/// Opens `name` in a directory, never anything outside of it; a descriptor or a negative error number.
func openBeneath(_ directory: HostDescriptor, _ name: FileName, _ flags: Int32, mode: UInt32 = 0) -> Int32 {
  // SAFETY: the name is a NUL-terminated string.
  unsafe name.withCString { unsafe host_open_beneath(directory.number, $0, flags, mode) }
}

/// Opens the directory to be served.
func openRoot(_ path: String, isReadOnly: Bool) -> Int32 { unsafe host_open_export(path, isReadOnly ? 1 : 0) }

/// An open descriptor of the host.
final class HostDescriptor: @unchecked Sendable {
  let number: Int32
  /// The file is append-only: what is written goes to its end, wherever it is meant to go.
  let isAppending: Bool

  /// Takes over what a host operation opened.
  init(checking result: Int32, isAppending: Bool = false) throws(HostError) {
    number = try HostError.check(result)
    self.isAppending = isAppending
  }

  deinit { close(number) }
}

/// An open directory and how far it has been read.
final class DirectoryStream {
  let descriptor: HostDescriptor
  /// Requests for one directory take turns.
  let lock = QueueLock()
  /// The host's offset of the next entry; nil when the host has read past it.
  var position: Int64? = 0

  init(_ descriptor: HostDescriptor) { self.descriptor = descriptor }
}

/// What tells files of the host apart.
struct FileIdentity: Hashable {
  let device: UInt64
  let inode: UInt64

  init(_ status: host_status) {
    device = status.device
    inode = status.attributes.inode
  }
}

/// The status of `name` in a directory, links not followed.
func readStatus(_ directory: HostDescriptor, _ name: FileName) throws(HostError) -> host_status {
  var result = host_status()
  // SAFETY: the call fills the structure.
  try HostError.check(unsafe name.withCString { unsafe host_status(directory.number, $0, &result) })
  return result
}

/// The status of an open file.
func readStatus(_ descriptor: HostDescriptor) throws(HostError) -> host_status { try readStatus(descriptor, .none) }

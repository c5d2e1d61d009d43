// The use of an open file by a system call: while it lasts the file stays open, whatever other threads do with the descriptor.
// A blocked read(2) keeps its file, and the last use to end closes it.
//
// A descriptor table with one user needs no count: nobody but that user closes its descriptors, and it is in the system
// call. So a program of one thread pays nothing.

import KernelCore
import LinuxABI

/// A file that a descriptor referred to when the system call began.
public struct FileUse: ~Copyable {
  public let file: OpenFile
  fileprivate var isCounted: Bool

  /// - Parameter isCounted: whether the caller has acquired a reference for the use, which ends with it.
  @inline(__always)
  init(_ file: OpenFile, isCounted: Bool) {
    self.file = file
    self.isCounted = isCounted
  }

  deinit { if isCounted { file.release() } }
}

/// The uses of several files, for calls that wait for many.
public struct FileUses: ~Copyable {
  private var counted: [OpenFile] = []

  public init() {}

  /// Whether other threads may have closed one of the descriptors meanwhile.
  public var isShared: Bool { !counted.isEmpty }

  /// Takes a use over until all of them end.
  public mutating func add(_ use: consuming FileUse) -> OpenFile {
    let file = use.file
    if use.isCounted {
      counted.append(file)
      use.isCounted = false
    }
    return file
  }

  deinit { for file in counted { file.release() } }
}

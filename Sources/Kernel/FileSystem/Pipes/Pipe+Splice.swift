// Moving pages instead of bytes: vmsplice(2), tee(2), splice(2).

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

extension Pipe {
  /// vmsplice(2): puts the program's pages into the pipe by reference, as far as there is room; waits for some if there is none.
  ///
  /// What the program writes to the pages until they are read, the reader sees.
  /// - Throws: EPIPE, EAGAIN, EFAULT, ENOMEM.
  @export(interface)
  public func borrow(_ buffer: inout TransferBuffer, isNonBlocking: Bool) throws(Errno) -> Int {
    while buffer.remaining > 0 {
      guard hasReaders else { throw .EPIPE }
      try waitForRoom(isNonBlocking: isNonBlocking)
      let total = try filling { ring throws(Errno) in try ring.borrow(&buffer) }
      if total > 0 { return total }
    }
    return 0
  }

  /// tee(2): shows `limit` bytes at most of what is here to the readers of another pipe too.
  /// - Throws: EPIPE, EAGAIN, EFAULT.
  @export(interface)
  public func tee(into other: Pipe, limit: Int, isNonBlocking: Bool) throws(Errno) -> Int {
    try pass(to: other, isNonBlocking) { source, target throws(Errno) in
      try source.share(with: &target, limit: limit)
    }
  }

  /// splice(2) from pipe to pipe: hands `limit` bytes at most over to another pipe.
  /// - Throws: EPIPE, EAGAIN, EFAULT.
  @export(interface)
  public func move(to other: Pipe, limit: Int, isNonBlocking: Bool) throws(Errno) -> Int {
    try pass(to: other, isNonBlocking) { source, target throws(Errno) in
      try source.move(to: &target, limit: limit)
    }
  }

  /// splice(2) to a file: gives the bytes to `body`, which takes as many as it says. What it does not take stays.
  ///
  /// The pipe's lock is held meanwhile: `body` waits for no other program.
  /// - Returns: 0 when the pipe is empty and has no writers.
  @export(interface)
  public func drain(
    limit: Int, isNonBlocking: Bool, _ body: (inout TransferBuffer) throws(Errno) -> Int
  ) throws(Errno) -> Int {
    while try waitForBytes(isNonBlocking: isNonBlocking) {
      let total = try emptying { ring throws(Errno) in try ring.drain(limit, body) }
      if total > 0 || count > 0 { return total }
    }
    return 0
  }

  /// Waits until there is something here and room in the other pipe, and runs `body` with both rings, again if it came too late.
  ///
  /// Both locks are held: that of the pipe with the lower address is taken first.
  private func pass(
    to other: Pipe, _ isNonBlocking: Bool,
    _ body: (inout PipeRing, inout PipeRing) throws(Errno) -> Int
  ) throws(Errno) -> Int {
    while try waitForBytes(isNonBlocking: isNonBlocking) {
      guard other.hasReaders else { throw .EPIPE }
      try other.waitForRoom(isNonBlocking: isNonBlocking)
      let total =
        ObjectIdentifier(self) < ObjectIdentifier(other)
        ? try emptying { source throws(Errno) in
          try other.filling { target throws(Errno) in try body(&source, &target) }
        }
        : try other.filling { target throws(Errno) in
          try emptying { source throws(Errno) in try body(&source, &target) }
        }
      if total > 0 { return total }
    }
    return 0
  }
}

// What the VFS hangs on an inode only while it is used: locks of fcntl(2) and flock(2), watches of inotify(7), the pipe
// behind a FIFO. Most inodes never have any, so the companion is an object made on first use (`LazyReference`).

import KernelCore
import Synchronization

/// The optional companions of an inode.
final class InodeAttachments {
  let locks = FileLocks()
  let watches = SpinLock([InodeWatch](), rank: .inode)
  /// Whether `watches` has any: read by every operation that could be watched.
  let isWatched = Atomic<Bool>(false)
  /// The pipe of a FIFO while it is open.
  let pipe = SpinLock(Pipe?.none, rank: .inode)
  /// The socket that is bound to a socket file.
  let socket = SpinLock(AnyObject?.none, rank: .inode)
}

extension Inode {
  /// The socket that is bound to this file, an object of a room above; nil when nobody listens here: a file that was left
  /// behind, or one of the host's.
  public final var boundSocket: AnyObject? {
    @export(interface) get { attachmentsIfPresent?.socket.withLock { $0 } }
  }

  /// Binds a socket to this file, or none.
  @export(interface)
  public final func bindSocket(_ socket: AnyObject?) {
    var socket = socket
    // What was there is released outside of the lock.
    attachments.socket.withLock { swap(&$0, &socket) }
  }
}

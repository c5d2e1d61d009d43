// Open directories: getdents64(2) and its position. "." and ".." are made here; file systems report the rest.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// An open directory; file systems may subclass it.
///
/// The position is 0 before ".", 1 before "..", 2 before the first entry, and else the cookie of the last entry taken.
open class DirectoryFile: OpenFile {
  @export(interface)
  public init(path: Path, flags: OpenFlags) {
    super.init(path: path, flags: flags, isSeekable: true)
  }

  open override func readDirectory(_ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    guard let position else { return }
    let inode = inode
    // A directory that was removed while open has no entries, not even "." (POSIX leaves it open; Linux: ENOENT).
    if path.dentry.isDeleted { throw .ENOENT }
    try position.withLock { position throws(Errno) in
      if position == 0 {
        guard emit(DirectoryEntry(name: ".", number: inode.number, kind: .directory, cookie: 1)) else { return }
        position = 1
      }
      if position == 1 {
        let parent = DentryCache.parent(of: path.dentry)?.inode?.number ?? inode.number
        guard emit(DirectoryEntry(name: "..", number: parent, kind: .directory, cookie: 2)) else { return }
        position = 2
      }
      try readEntries(from: position == 2 ? 0 : position) { entry in
        guard emit(entry) else { return false }
        position = entry.cookie
        return true
      }
    }
    didRead()
    if inode.keepsAccessTime, !path.mount.isReadOnly, !flags.contains(.noAccessTime),
      path.mount.flags.isDisjoint(with: [.noAccessTime, .noDirectoryAccessTime])
    {
      inode.touchAccessTime(.now())
    }
  }

  /// Where `readDirectory` gets the entries after "..": the inode, as `Inode.readDirectory`. Called with the position's
  /// lock held.
  open func readEntries(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    try inode.readDirectory(from: cookie, emit)
  }

  open override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    guard let position else { throw .ESPIPE }
    return try position.withLock { position throws(Errno) in
      let target: Int64
      switch whence {
      case SEEK_SET: target = offset
      case SEEK_CUR: target = Int64(truncatingIfNeeded: position) &+ offset
      case SEEK_END where inode.directoryHasEnd: target = offset
      default: throw .EINVAL
      }
      guard target >= 0 else { throw .EINVAL }
      position = UInt64(target)
      return position
    }
  }

  open override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int { throw .EISDIR }

  open override func sync() throws(Errno) { try inode.sync() }
}

/// A handle on a place (O_PATH): for *at calls, fstat, fchdir and passing around; reading and writing give EBADF above.
public final class PathHandle: OpenFile {
  @export(interface)
  public init(path: Path, flags: OpenFlags) {
    let kept = OpenFlags(rawValue: flags.rawValue & (O_PATH | O_DIRECTORY | O_NOFOLLOW))
    super.init(path: path, flags: kept, isSeekable: false)
  }
}

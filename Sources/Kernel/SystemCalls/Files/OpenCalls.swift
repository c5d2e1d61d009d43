// open(2), openat2(2), creat(2), memfd_create(2).

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Opening files.
public enum OpenCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(2, "open", .full, "path:s flags:F mode:o") { frame throws(Errno) in
        try open(AT_FDCWD, frame.a0, frame.int(1), frame.uint(2), 0, frame)
      },
      SystemCall(85, "creat", .full, "path:s mode:o") { frame throws(Errno) in
        try open(AT_FDCWD, frame.a0, O_CREAT | O_WRONLY | O_TRUNC, frame.uint(1), 0, frame)
      },
      SystemCall(257, "openat", .full, "dir:D path:s flags:F mode:o") { frame throws(Errno) in
        try open(frame.int(0), frame.a1, frame.int(2), frame.uint(3), 0, frame)
      },
      SystemCall(319, "memfd_create", .full, "name:s flags:x", memoryFile),
      SystemCall(437, "openat2", .full, "dir:D path:s how:p size:u", openHow),
    ]
  }

  /// The flags that open(2) knows; it ignores all others, openat2(2) refuses them.
  private static let known: Int32 =
    O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC | FASYNC | O_DIRECT
    | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE

  private static func open(
    _ directory: Int32, _ address: UInt64, _ flags: Int32, _ mode: UInt32, _ resolve: UInt64,
    _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    var flags = flags & known
    // O_PATH ignores most other flags (open(2)).
    if flags & O_PATH != 0 { flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC }
    let isTemporary = flags & (O_TMPFILE & ~O_DIRECTORY) != 0
    if isTemporary {
      guard flags & O_TMPFILE == O_TMPFILE, flags & O_CREAT == 0, flags & O_ACCMODE != O_RDONLY else {
        throw .EINVAL
      }
    } else if flags & (O_CREAT | O_DIRECTORY) == O_CREAT | O_DIRECTORY {
      throw .EINVAL
    }
    guard let options = WalkOptions(resolve: resolve) else { throw .EINVAL }
    let path = try FileArguments.path(address)
    var base: Path?
    if resolve & (RESOLVE_IN_ROOT | RESOLVE_BENEATH) != 0, directory != AT_FDCWD {
      base = try frame.descriptors.get(directory).file.path
    } else {
      base = try FileArguments.base(directory, path, frame)
    }
    let openFlags = OpenFlags(rawValue: flags | O_LARGEFILE)
    let file = try FileTree.open(
      path, from: base, flags & O_PATH != 0 ? OpenFlags(rawValue: flags) : openFlags, permissions: mode, options,
      by: frame.caller)
    return try install(file, closeOnExec: flags & O_CLOEXEC != 0, frame)
  }

  /// Gives a new file a descriptor; without one it is closed again.
  static func install(_ file: OpenFile, closeOnExec: Bool, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    Int64(try frame.descriptors.insert(file, closeOnExec: closeOnExec))
  }

  static func openHow(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a3 >= 24 else { throw .EINVAL }
    guard frame.a3 <= 4096 else { throw .E2BIG }
    let raw = try UserMemory.copyIn(from: frame.a2, count: Int(clamping: frame.a3))
    // A larger structure is that of a later kernel: fine while what we do not know is zero.
    guard raw[24...].allSatisfy({ $0 == 0 }) else { throw .E2BIG }
    let flags = FileArguments.word(raw, 0)
    let mode = FileArguments.word(raw, 8)
    let resolve = FileArguments.word(raw, 16)
    guard flags & ~UInt64(UInt32(bitPattern: known)) == 0, mode & ~0o7777 == 0 else { throw .EINVAL }
    let bits = Int32(bitPattern: UInt32(flags))
    let creates = bits & O_CREAT != 0 || bits & O_TMPFILE == O_TMPFILE
    guard creates || mode == 0 else { throw .EINVAL }
    if bits & O_PATH != 0, bits & ~(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) != 0 { throw .EINVAL }
    if resolve & RESOLVE_CACHED != 0, bits & (O_TRUNC | O_CREAT | O_TMPFILE & ~O_DIRECTORY) != 0 { throw .EAGAIN }
    return try open(frame.int(0), frame.a1, bits, UInt32(mode), resolve, frame)
  }

  // MARK: memfd_create(2)

  /// The file system that keeps memfds: a tmpfs of its own, mounted nowhere.
  private static let memoryFiles = mountNowhere("ramfs")
  /// The same for those of huge pages.
  private static let hugeMemoryFiles = mountNowhere("hugetlbfs")

  private static func mountNowhere(_ type: ByteString) -> Mount? {
    guard let superblock = try? FileSystemTypes.mount(type, source: "memfd", options: ByteString(), flags: []) else {
      return nil
    }
    return Mount(superblock: superblock, flags: [])
  }

  static func memoryFile(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.uint(1)
    let isHuge = flags & MFD_HUGETLB != 0
    let sizeBits = isHuge ? UInt32(MAP_HUGE_MASK << MAP_HUGE_SHIFT) : 0
    guard flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC | MFD_HUGETLB | sizeBits) == 0 else {
      throw .EINVAL
    }
    guard flags & (MFD_EXEC | MFD_NOEXEC_SEAL) != MFD_EXEC | MFD_NOEXEC_SEAL else { throw .EINVAL }
    let name: ByteString
    do throws(Errno) {
      // The name may have NAME_MAX less the length of "memfd:" bytes.
      name = try UserMemory.copyInString(from: frame.a0, limit: NAME_MAX - 6 + 1)
    } catch {
      throw error == .ENAMETOOLONG ? .EINVAL : error
    }
    guard MemoryCalls.isHugePageSize(UInt64(flags & sizeBits) >> MAP_HUGE_SHIFT) else { throw .ENODEV }
    guard let mount = isHuge ? hugeMemoryFiles : memoryFiles, let root = mount.root.inode else { throw .ENOSYS }
    let inode = try root.makeTemporary(
      permissions: flags & MFD_NOEXEC_SEAL != 0 ? 0o666 : 0o777, owner: frame.caller.fileSystemOwner)
    var seals: UInt32 = flags & (MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL) != 0 ? 0 : F_SEAL_SEAL
    if flags & MFD_NOEXEC_SEAL != 0 { seals |= F_SEAL_EXEC }
    try inode.enableSeals(seals)
    let place = Path(mount: mount, dentry: Dentry(root: inode, name: ByteString("memfd:") + name))
    let file = try inode.open(
      OpenFlags(rawValue: O_RDWR | O_LARGEFILE), path: place, by: frame.caller)
    file.permitExecution()
    return try install(file, closeOnExec: flags & MFD_CLOEXEC != 0, frame)
  }
}

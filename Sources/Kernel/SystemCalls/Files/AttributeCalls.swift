// Changing attributes: chmod(2), chown(2), utimensat(2) and their older forms.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// Calls that change a file's attributes.
public enum AttributeCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(90, "chmod", .full, "path:s mode:o") { frame throws(Errno) in
        try changeMode(try FileArguments.resolve(AT_FDCWD, frame.a0, flags: 0, frame), frame.uint(1), frame)
      },
      SystemCall(91, "fchmod", .full, "fd:d mode:o") { frame throws(Errno) in
        try changeMode(try frame.descriptors.getForUse(frame.int(0)).file.path, frame.uint(1), frame)
      },
      SystemCall(92, "chown", .full, "path:s user:i group:i") { frame throws(Errno) in
        try changeOwner(
          try FileArguments.resolve(AT_FDCWD, frame.a0, flags: 0, frame), frame.uint(1), frame.uint(2), frame)
      },
      SystemCall(93, "fchown", .full, "fd:d user:i group:i") { frame throws(Errno) in
        try changeOwner(
          try frame.descriptors.getForUse(frame.int(0)).file.path, frame.uint(1), frame.uint(2), frame)
      },
      SystemCall(94, "lchown", .full, "path:s user:i group:i") { frame throws(Errno) in
        let place = try FileArguments.resolve(AT_FDCWD, frame.a0, flags: AT_SYMLINK_NOFOLLOW, frame)
        return try changeOwner(place, frame.uint(1), frame.uint(2), frame)
      },
      SystemCall(132, "utime", .full, "path:s times:p", changeTimesSeconds),
      SystemCall(235, "utimes", .full, "path:s times:p") { frame throws(Errno) in
        try changeTimesMicroseconds(AT_FDCWD, frame.a0, frame.a1, frame)
      },
      SystemCall(260, "fchownat", .full, "dir:D path:s user:i group:i flags:x", changeOwnerAt),
      SystemCall(261, "futimesat", .full, "dir:D path:s times:p") { frame throws(Errno) in
        try changeTimesMicroseconds(frame.int(0), frame.a1, frame.a2, frame)
      },
      SystemCall(268, "fchmodat", .full, "dir:D path:s mode:o") { frame throws(Errno) in
        try changeMode(
          try FileArguments.resolve(frame.int(0), frame.a1, flags: 0, frame), frame.uint(2), frame)
      },
      SystemCall(280, "utimensat", .full, "dir:D path:s times:p flags:x", changeTimesAt),
      SystemCall(452, "fchmodat2", .full, "dir:D path:s mode:o flags:x") { frame throws(Errno) in
        guard frame.int(3) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 else { throw .EINVAL }
        let place = try FileArguments.resolve(frame.int(0), frame.a1, flags: frame.int(3), frame)
        return try changeMode(place, frame.uint(2), frame)
      },
    ]
  }

  private static func changeMode(_ place: Path, _ mode: UInt32, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    try FileTree.changeMode(place, mode, by: frame.caller)
    return 0
  }

  private static func changeOwner(_ place: Path, _ user: UInt32, _ group: UInt32, _ frame: SystemCallFrame)
    throws(Errno) -> Int64
  {
    // -1 leaves an id as it is.
    try FileTree.changeOwner(
      place, user: user == .max ? nil : user, group: group == .max ? nil : group, by: frame.caller)
    return 0
  }

  static func changeOwnerAt(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.int(4) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 else { throw .EINVAL }
    let place = try FileArguments.resolve(frame.int(0), frame.a1, flags: frame.int(4), frame)
    return try changeOwner(place, frame.uint(2), frame.uint(3), frame)
  }

  // MARK: Times

  /// utimensat(2); a NULL path means the descriptor itself.
  static func changeTimesAt(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    var access = TimeChange.now
    var modify = TimeChange.now
    if frame.a2 != 0 {
      access = try change(try UserMemory.read(frame.a2, as: linux_time_pair.self))
      modify = try change(try UserMemory.read(frame.a2 &+ 16, as: linux_time_pair.self))
      if case .omit = access, case .omit = modify { return 0 }
    }
    guard frame.int(3) & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 else { throw .EINVAL }
    let place: Path
    if frame.a1 == 0, frame.int(0) != AT_FDCWD {
      guard frame.int(3) == 0 else { throw .EINVAL }
      place = try frame.descriptors.getForUse(frame.int(0)).file.path
    } else {
      place = try FileArguments.resolve(frame.int(0), frame.a1, flags: frame.int(3), frame)
    }
    try FileTree.changeTimes(place, access: access, modify: modify, by: frame.caller)
    return 0
  }

  private static func change(_ time: linux_time_pair) throws(Errno) -> TimeChange {
    switch time.fraction {
    case UTIME_NOW: return .now
    case UTIME_OMIT: return .omit
    case 0..<1_000_000_000: return .set(FileTime(seconds: time.seconds, nanoseconds: UInt32(time.fraction)))
    default: throw .EINVAL
    }
  }

  /// utimes(2): struct timeval.
  private static func changeTimesMicroseconds(
    _ directory: Int32, _ address: UInt64, _ times: UInt64, _ frame: SystemCallFrame
  ) throws(Errno) -> Int64 {
    var changes: [TimeChange] = [.now, .now]
    if times != 0 {
      for index in 0..<2 {
        let time = try UserMemory.read(times &+ UInt64(16 * index), as: linux_time_pair.self)
        guard time.fraction >= 0, time.fraction < 1_000_000 else { throw .EINVAL }
        changes[index] = .set(FileTime(seconds: time.seconds, nanoseconds: UInt32(time.fraction) * 1000))
      }
    }
    let place = try FileArguments.resolve(directory, address, flags: 0, frame)
    try FileTree.changeTimes(place, access: changes[0], modify: changes[1], by: frame.caller)
    return 0
  }

  /// utime(2): two whole seconds.
  static func changeTimesSeconds(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    var changes: [TimeChange] = [.now, .now]
    if frame.a1 != 0 {
      for index in 0..<2 {
        let seconds = try UserMemory.read(frame.a1 &+ UInt64(8 * index), as: Int64.self)
        changes[index] = .set(FileTime(seconds: seconds, nanoseconds: 0))
      }
    }
    let place = try FileArguments.resolve(AT_FDCWD, frame.a0, flags: 0, frame)
    try FileTree.changeTimes(place, access: changes[0], modify: changes[1], by: frame.caller)
    return 0
  }
}

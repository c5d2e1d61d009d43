// Extended attributes: getxattr(2), setxattr(2), listxattr(2), removexattr(2), each by path, by link and by descriptor.

import FileSystem
import KernelCore
import LinuxABI
import Process
import VirtualMemory

/// The extended attribute calls.
public enum ExtendedAttributeCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(188, "setxattr", .full, "path:s name:s value:p size:u flags:x") { frame throws(Errno) in
        try set(.followed, frame)
      },
      SystemCall(189, "lsetxattr", .full, "path:s name:s value:p size:u flags:x") { frame throws(Errno) in
        try set(.link, frame)
      },
      SystemCall(190, "fsetxattr", .full, "fd:d name:s value:p size:u flags:x") { frame throws(Errno) in
        try set(.descriptor, frame)
      },
      SystemCall(191, "getxattr", .full, "path:s name:s value:p size:u") { frame throws(Errno) in
        try get(.followed, frame)
      },
      SystemCall(192, "lgetxattr", .full, "path:s name:s value:p size:u") { frame throws(Errno) in
        try get(.link, frame)
      },
      SystemCall(193, "fgetxattr", .full, "fd:d name:s value:p size:u") { frame throws(Errno) in
        try get(.descriptor, frame)
      },
      SystemCall(194, "listxattr", .full, "path:s list:p size:u") { frame throws(Errno) in
        try list(.followed, frame)
      },
      SystemCall(195, "llistxattr", .full, "path:s list:p size:u") { frame throws(Errno) in
        try list(.link, frame)
      },
      SystemCall(196, "flistxattr", .full, "fd:d list:p size:u") { frame throws(Errno) in
        try list(.descriptor, frame)
      },
      SystemCall(197, "removexattr", .full, "path:s name:s") { frame throws(Errno) in
        try remove(.followed, frame)
      },
      SystemCall(198, "lremovexattr", .full, "path:s name:s") { frame throws(Errno) in
        try remove(.link, frame)
      },
      SystemCall(199, "fremovexattr", .full, "fd:d name:s") { frame throws(Errno) in
        try remove(.descriptor, frame)
      },
    ]
  }

  /// How the first argument names the file.
  private enum Target { case followed, link, descriptor }

  /// XATTR_SIZE_MAX and XATTR_LIST_MAX.
  private static let sizeLimit: UInt64 = 65536

  private static func place(_ target: Target, _ frame: SystemCallFrame) throws(Errno) -> Path {
    switch target {
    case .followed: try FileArguments.resolve(AT_FDCWD, frame.a0, flags: 0, frame)
    case .link: try FileArguments.resolve(AT_FDCWD, frame.a0, flags: AT_SYMLINK_NOFOLLOW, frame)
    case .descriptor: try frame.descriptors.getForUse(frame.int(0)).file.path
    }
  }

  /// - Throws: ERANGE for an empty or overlong name.
  private static func name(_ address: UInt64) throws(Errno) -> ByteString {
    let name: ByteString
    do throws(Errno) {
      name = try UserMemory.copyInString(from: address, limit: 256)
    } catch {
      throw error == .ENAMETOOLONG ? .ERANGE : error
    }
    guard !name.isEmpty else { throw .ERANGE }
    return name
  }

  private static func set(_ target: Target, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    let mode: ExtendedAttributeMode
    switch frame.int(4) {
    case 0: mode = .createOrReplace
    case XATTR_CREATE: mode = .create
    case XATTR_REPLACE: mode = .replace
    default: throw .EINVAL
    }
    let name = try name(frame.a1)
    guard frame.a3 <= sizeLimit else { throw .E2BIG }
    let value = ByteString(try UserMemory.copyIn(from: frame.a2, count: Int(clamping: frame.a3)))
    try FileTree.setExtendedAttribute(try place(target, frame), name, value, mode, by: frame.caller)
    return 0
  }

  private static func get(_ target: Target, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    let place = try place(target, frame)
    let value = try FileTree.extendedAttribute(place, try name(frame.a1), by: frame.caller)
    return try answer(value.bytes, frame.a2, frame.a3)
  }

  private static func list(_ target: Target, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    let names: [ByteString]
    do throws(Errno) {
      names = try FileTree.extendedAttributeNames(try place(target, frame), by: frame.caller)
    } catch {
      // Linux lists nothing for file systems that have no attributes.
      guard error == .EOPNOTSUPP else { throw error }
      return 0
    }
    var text: [UInt8] = []
    for name in names {
      text.append(contentsOf: name.bytes)
      text.append(0)
    }
    return try answer(text, frame.a1, frame.a2)
  }

  private static func remove(_ target: Target, _ frame: SystemCallFrame) throws(Errno) -> Int64 {
    let place = try place(target, frame)
    try FileTree.removeExtendedAttribute(place, try name(frame.a1), by: frame.caller)
    return 0
  }

  /// A size of 0 asks for the length only.
  private static func answer(_ bytes: [UInt8], _ address: UInt64, _ size: UInt64) throws(Errno) -> Int64 {
    if size == 0 { return Int64(bytes.count) }
    guard UInt64(bytes.count) <= size else { throw .ERANGE }
    try UserMemory.copyOut(to: address, bytes)
    return Int64(bytes.count)
  }
}

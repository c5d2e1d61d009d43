// Errors in the messages that people read when a run cannot begin.

import LinuxABI

extension Errno {
  /// What happened, in words as strerror(3) has them; others by their symbolic name.
  var words: StaticString {
    switch self {
    case .EPERM: "Operation not permitted"
    case .ENOENT: "No such file or directory"
    case .EIO: "Input/output error"
    case .ENXIO: "No such device or address"
    case .E2BIG: "Argument list too long"
    case .ENOEXEC: "Exec format error"
    case .EAGAIN: "Resource temporarily unavailable"
    case .ENOMEM: "Cannot allocate memory"
    case .EACCES: "Permission denied"
    case .EBUSY: "Device or resource busy"
    case .EEXIST: "File exists"
    case .ENODEV: "No such device"
    case .ENOTDIR: "Not a directory"
    case .EISDIR: "Is a directory"
    case .EINVAL: "Invalid argument"
    case .ENFILE: "Too many open files in system"
    case .EMFILE: "Too many open files"
    case .ETXTBSY: "Text file busy"
    case .ENOSPC: "No space left on device"
    case .EROFS: "Read-only file system"
    case .ENAMETOOLONG: "File name too long"
    case .ELOOP: "Too many levels of symbolic links"
    default: name
    }
  }
}

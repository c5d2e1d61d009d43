// Linux error numbers (errno(3), x86-64), the only way in which kernel code reports failure to a caller.

/// A Linux error number.
public struct Errno: Error, Equatable, Hashable, Sendable {
  public let rawValue: Int32

  @inline(__always)
  public init(rawValue: Int32) { self.rawValue = rawValue }
}

extension Errno {
  public static var EPERM: Errno { Errno(rawValue: 1) }
  public static var ENOENT: Errno { Errno(rawValue: 2) }
  public static var ESRCH: Errno { Errno(rawValue: 3) }
  public static var EINTR: Errno { Errno(rawValue: 4) }
  public static var EIO: Errno { Errno(rawValue: 5) }
  public static var ENXIO: Errno { Errno(rawValue: 6) }
  public static var E2BIG: Errno { Errno(rawValue: 7) }
  public static var ENOEXEC: Errno { Errno(rawValue: 8) }
  public static var EBADF: Errno { Errno(rawValue: 9) }
  public static var ECHILD: Errno { Errno(rawValue: 10) }
  public static var EAGAIN: Errno { Errno(rawValue: 11) }
  public static var ENOMEM: Errno { Errno(rawValue: 12) }
  public static var EACCES: Errno { Errno(rawValue: 13) }
  public static var EFAULT: Errno { Errno(rawValue: 14) }
  public static var ENOTBLK: Errno { Errno(rawValue: 15) }
  public static var EBUSY: Errno { Errno(rawValue: 16) }
  public static var EEXIST: Errno { Errno(rawValue: 17) }
  public static var EXDEV: Errno { Errno(rawValue: 18) }
  public static var ENODEV: Errno { Errno(rawValue: 19) }
  public static var ENOTDIR: Errno { Errno(rawValue: 20) }
  public static var EISDIR: Errno { Errno(rawValue: 21) }
  public static var EINVAL: Errno { Errno(rawValue: 22) }
  public static var ENFILE: Errno { Errno(rawValue: 23) }
  public static var EMFILE: Errno { Errno(rawValue: 24) }
  public static var ENOTTY: Errno { Errno(rawValue: 25) }
  public static var ETXTBSY: Errno { Errno(rawValue: 26) }
  public static var EFBIG: Errno { Errno(rawValue: 27) }
  public static var ENOSPC: Errno { Errno(rawValue: 28) }
  public static var ESPIPE: Errno { Errno(rawValue: 29) }
  public static var EROFS: Errno { Errno(rawValue: 30) }
  public static var EMLINK: Errno { Errno(rawValue: 31) }
  public static var EPIPE: Errno { Errno(rawValue: 32) }
  public static var EDOM: Errno { Errno(rawValue: 33) }
  public static var ERANGE: Errno { Errno(rawValue: 34) }
  public static var EDEADLK: Errno { Errno(rawValue: 35) }
  public static var ENAMETOOLONG: Errno { Errno(rawValue: 36) }
  public static var ENOLCK: Errno { Errno(rawValue: 37) }
  public static var ENOSYS: Errno { Errno(rawValue: 38) }
  public static var ENOTEMPTY: Errno { Errno(rawValue: 39) }
  public static var ELOOP: Errno { Errno(rawValue: 40) }
  public static var ENOMSG: Errno { Errno(rawValue: 42) }
  public static var EIDRM: Errno { Errno(rawValue: 43) }
  public static var ECHRNG: Errno { Errno(rawValue: 44) }
  public static var EL2NSYNC: Errno { Errno(rawValue: 45) }
  public static var EL3HLT: Errno { Errno(rawValue: 46) }
  public static var EL3RST: Errno { Errno(rawValue: 47) }
  public static var ELNRNG: Errno { Errno(rawValue: 48) }
  public static var EUNATCH: Errno { Errno(rawValue: 49) }
  public static var ENOCSI: Errno { Errno(rawValue: 50) }
  public static var EL2HLT: Errno { Errno(rawValue: 51) }
  public static var EBADE: Errno { Errno(rawValue: 52) }
  public static var EBADR: Errno { Errno(rawValue: 53) }
  public static var EXFULL: Errno { Errno(rawValue: 54) }
  public static var ENOANO: Errno { Errno(rawValue: 55) }
  public static var EBADRQC: Errno { Errno(rawValue: 56) }
  public static var EBADSLT: Errno { Errno(rawValue: 57) }
  public static var EBFONT: Errno { Errno(rawValue: 59) }
  public static var ENOSTR: Errno { Errno(rawValue: 60) }
  public static var ENODATA: Errno { Errno(rawValue: 61) }
  public static var ETIME: Errno { Errno(rawValue: 62) }
  public static var ENOSR: Errno { Errno(rawValue: 63) }
  public static var ENONET: Errno { Errno(rawValue: 64) }
  public static var ENOPKG: Errno { Errno(rawValue: 65) }
  public static var EREMOTE: Errno { Errno(rawValue: 66) }
  public static var ENOLINK: Errno { Errno(rawValue: 67) }
  public static var EADV: Errno { Errno(rawValue: 68) }
  public static var ESRMNT: Errno { Errno(rawValue: 69) }
  public static var ECOMM: Errno { Errno(rawValue: 70) }
  public static var EPROTO: Errno { Errno(rawValue: 71) }
  public static var EMULTIHOP: Errno { Errno(rawValue: 72) }
  public static var EDOTDOT: Errno { Errno(rawValue: 73) }
  public static var EBADMSG: Errno { Errno(rawValue: 74) }
  public static var EOVERFLOW: Errno { Errno(rawValue: 75) }
  public static var ENOTUNIQ: Errno { Errno(rawValue: 76) }
  public static var EBADFD: Errno { Errno(rawValue: 77) }
  public static var EREMCHG: Errno { Errno(rawValue: 78) }
  public static var ELIBACC: Errno { Errno(rawValue: 79) }
  public static var ELIBBAD: Errno { Errno(rawValue: 80) }
  public static var ELIBSCN: Errno { Errno(rawValue: 81) }
  public static var ELIBMAX: Errno { Errno(rawValue: 82) }
  public static var ELIBEXEC: Errno { Errno(rawValue: 83) }
  public static var EILSEQ: Errno { Errno(rawValue: 84) }
  public static var ERESTART: Errno { Errno(rawValue: 85) }
  public static var ESTRPIPE: Errno { Errno(rawValue: 86) }
  public static var EUSERS: Errno { Errno(rawValue: 87) }
  public static var ENOTSOCK: Errno { Errno(rawValue: 88) }
  public static var EDESTADDRREQ: Errno { Errno(rawValue: 89) }
  public static var EMSGSIZE: Errno { Errno(rawValue: 90) }
  public static var EPROTOTYPE: Errno { Errno(rawValue: 91) }
  public static var ENOPROTOOPT: Errno { Errno(rawValue: 92) }
  public static var EPROTONOSUPPORT: Errno { Errno(rawValue: 93) }
  public static var ESOCKTNOSUPPORT: Errno { Errno(rawValue: 94) }
  public static var EOPNOTSUPP: Errno { Errno(rawValue: 95) }
  public static var EPFNOSUPPORT: Errno { Errno(rawValue: 96) }
  public static var EAFNOSUPPORT: Errno { Errno(rawValue: 97) }
  public static var EADDRINUSE: Errno { Errno(rawValue: 98) }
  public static var EADDRNOTAVAIL: Errno { Errno(rawValue: 99) }
  public static var ENETDOWN: Errno { Errno(rawValue: 100) }
  public static var ENETUNREACH: Errno { Errno(rawValue: 101) }
  public static var ENETRESET: Errno { Errno(rawValue: 102) }
  public static var ECONNABORTED: Errno { Errno(rawValue: 103) }
  public static var ECONNRESET: Errno { Errno(rawValue: 104) }
  public static var ENOBUFS: Errno { Errno(rawValue: 105) }
  public static var EISCONN: Errno { Errno(rawValue: 106) }
  public static var ENOTCONN: Errno { Errno(rawValue: 107) }
  public static var ESHUTDOWN: Errno { Errno(rawValue: 108) }
  public static var ETOOMANYREFS: Errno { Errno(rawValue: 109) }
  public static var ETIMEDOUT: Errno { Errno(rawValue: 110) }
  public static var ECONNREFUSED: Errno { Errno(rawValue: 111) }
  public static var EHOSTDOWN: Errno { Errno(rawValue: 112) }
  public static var EHOSTUNREACH: Errno { Errno(rawValue: 113) }
  public static var EALREADY: Errno { Errno(rawValue: 114) }
  public static var EINPROGRESS: Errno { Errno(rawValue: 115) }
  public static var ESTALE: Errno { Errno(rawValue: 116) }
  public static var EUCLEAN: Errno { Errno(rawValue: 117) }
  public static var ENOTNAM: Errno { Errno(rawValue: 118) }
  public static var ENAVAIL: Errno { Errno(rawValue: 119) }
  public static var EISNAM: Errno { Errno(rawValue: 120) }
  public static var EREMOTEIO: Errno { Errno(rawValue: 121) }
  public static var EDQUOT: Errno { Errno(rawValue: 122) }
  public static var ENOMEDIUM: Errno { Errno(rawValue: 123) }
  public static var EMEDIUMTYPE: Errno { Errno(rawValue: 124) }
  public static var ECANCELED: Errno { Errno(rawValue: 125) }
  public static var ENOKEY: Errno { Errno(rawValue: 126) }
  public static var EKEYEXPIRED: Errno { Errno(rawValue: 127) }
  public static var EKEYREVOKED: Errno { Errno(rawValue: 128) }
  public static var EKEYREJECTED: Errno { Errno(rawValue: 129) }
  public static var EOWNERDEAD: Errno { Errno(rawValue: 130) }
  public static var ENOTRECOVERABLE: Errno { Errno(rawValue: 131) }
  public static var ERFKILL: Errno { Errno(rawValue: 132) }
  public static var EWOULDBLOCK: Errno { EAGAIN }
  public static var ENOTSUP: Errno { EOPNOTSUPP }
  public static var EDEADLOCK: Errno { EDEADLK }
}

// MARK: Restart codes

// Never seen by user programs: the signal code turns them into EINTR or runs the call again (signal(7), "Interruption
// of system calls"). The numbers are those that Linux shows to tracers.
extension Errno {
  /// Restart if the handler was installed with SA_RESTART, else EINTR.
  public static var ERESTARTSYS: Errno { Errno(rawValue: 512) }
  /// Restart always.
  public static var ERESTARTNOINTR: Errno { Errno(rawValue: 513) }
  /// Restart only if no handler runs, else EINTR.
  public static var ERESTARTNOHAND: Errno { Errno(rawValue: 514) }
  /// As `ERESTARTNOHAND`, but continued through restart_syscall(2) with what is left of a time-out.
  public static var ERESTART_RESTARTBLOCK: Errno { Errno(rawValue: 516) }
}

extension Errno {
  /// The symbolic name, for logs and traces.
  public var name: StaticString {
    switch rawValue {
    case 1: "EPERM"
    case 2: "ENOENT"
    case 3: "ESRCH"
    case 4: "EINTR"
    case 5: "EIO"
    case 6: "ENXIO"
    case 7: "E2BIG"
    case 8: "ENOEXEC"
    case 9: "EBADF"
    case 10: "ECHILD"
    case 11: "EAGAIN"
    case 12: "ENOMEM"
    case 13: "EACCES"
    case 14: "EFAULT"
    case 15: "ENOTBLK"
    case 16: "EBUSY"
    case 17: "EEXIST"
    case 18: "EXDEV"
    case 19: "ENODEV"
    case 20: "ENOTDIR"
    case 21: "EISDIR"
    case 22: "EINVAL"
    case 23: "ENFILE"
    case 24: "EMFILE"
    case 25: "ENOTTY"
    case 26: "ETXTBSY"
    case 27: "EFBIG"
    case 28: "ENOSPC"
    case 29: "ESPIPE"
    case 30: "EROFS"
    case 31: "EMLINK"
    case 32: "EPIPE"
    case 33: "EDOM"
    case 34: "ERANGE"
    case 35: "EDEADLK"
    case 36: "ENAMETOOLONG"
    case 37: "ENOLCK"
    case 38: "ENOSYS"
    case 39: "ENOTEMPTY"
    case 40: "ELOOP"
    case 42: "ENOMSG"
    case 43: "EIDRM"
    case 44: "ECHRNG"
    case 45: "EL2NSYNC"
    case 46: "EL3HLT"
    case 47: "EL3RST"
    case 48: "ELNRNG"
    case 49: "EUNATCH"
    case 50: "ENOCSI"
    case 51: "EL2HLT"
    case 52: "EBADE"
    case 53: "EBADR"
    case 54: "EXFULL"
    case 55: "ENOANO"
    case 56: "EBADRQC"
    case 57: "EBADSLT"
    case 59: "EBFONT"
    case 60: "ENOSTR"
    case 61: "ENODATA"
    case 62: "ETIME"
    case 63: "ENOSR"
    case 64: "ENONET"
    case 65: "ENOPKG"
    case 66: "EREMOTE"
    case 67: "ENOLINK"
    case 68: "EADV"
    case 69: "ESRMNT"
    case 70: "ECOMM"
    case 71: "EPROTO"
    case 72: "EMULTIHOP"
    case 73: "EDOTDOT"
    case 74: "EBADMSG"
    case 75: "EOVERFLOW"
    case 76: "ENOTUNIQ"
    case 77: "EBADFD"
    case 78: "EREMCHG"
    case 79: "ELIBACC"
    case 80: "ELIBBAD"
    case 81: "ELIBSCN"
    case 82: "ELIBMAX"
    case 83: "ELIBEXEC"
    case 84: "EILSEQ"
    case 85: "ERESTART"
    case 86: "ESTRPIPE"
    case 87: "EUSERS"
    case 88: "ENOTSOCK"
    case 89: "EDESTADDRREQ"
    case 90: "EMSGSIZE"
    case 91: "EPROTOTYPE"
    case 92: "ENOPROTOOPT"
    case 93: "EPROTONOSUPPORT"
    case 94: "ESOCKTNOSUPPORT"
    case 95: "EOPNOTSUPP"
    case 96: "EPFNOSUPPORT"
    case 97: "EAFNOSUPPORT"
    case 98: "EADDRINUSE"
    case 99: "EADDRNOTAVAIL"
    case 100: "ENETDOWN"
    case 101: "ENETUNREACH"
    case 102: "ENETRESET"
    case 103: "ECONNABORTED"
    case 104: "ECONNRESET"
    case 105: "ENOBUFS"
    case 106: "EISCONN"
    case 107: "ENOTCONN"
    case 108: "ESHUTDOWN"
    case 109: "ETOOMANYREFS"
    case 110: "ETIMEDOUT"
    case 111: "ECONNREFUSED"
    case 112: "EHOSTDOWN"
    case 113: "EHOSTUNREACH"
    case 114: "EALREADY"
    case 115: "EINPROGRESS"
    case 116: "ESTALE"
    case 117: "EUCLEAN"
    case 118: "ENOTNAM"
    case 119: "ENAVAIL"
    case 120: "EISNAM"
    case 121: "EREMOTEIO"
    case 122: "EDQUOT"
    case 123: "ENOMEDIUM"
    case 124: "EMEDIUMTYPE"
    case 125: "ECANCELED"
    case 126: "ENOKEY"
    case 127: "EKEYEXPIRED"
    case 128: "EKEYREVOKED"
    case 129: "EKEYREJECTED"
    case 130: "EOWNERDEAD"
    case 131: "ENOTRECOVERABLE"
    case 132: "ERFKILL"
    case 512: "ERESTARTSYS"
    case 513: "ERESTARTNOINTR"
    case 514: "ERESTARTNOHAND"
    case 516: "ERESTART_RESTARTBLOCK"
    default: "E?"
    }
  }
}

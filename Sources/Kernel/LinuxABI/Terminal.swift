// Terminals: ioctl_tty(2), termios(3); the kernel's own layout (asm-generic/termbits.h), not glibc's.

public let TCGETS: UInt32 = 0x5401
public let TCSETS: UInt32 = 0x5402
public let TCSETSW: UInt32 = 0x5403
public let TCSETSF: UInt32 = 0x5404
public let TCGETA: UInt32 = 0x5405
public let TCSETA: UInt32 = 0x5406
public let TCSETAW: UInt32 = 0x5407
public let TCSETAF: UInt32 = 0x5408
public let TCSBRK: UInt32 = 0x5409
public let TCXONC: UInt32 = 0x540A
public let TCFLSH: UInt32 = 0x540B
public let TIOCEXCL: UInt32 = 0x540C
public let TIOCNXCL: UInt32 = 0x540D
public let TIOCSCTTY: UInt32 = 0x540E
public let TIOCGPGRP: UInt32 = 0x540F
public let TIOCSPGRP: UInt32 = 0x5410
public let TIOCOUTQ: UInt32 = 0x5411
public let TIOCSTI: UInt32 = 0x5412
public let TIOCGWINSZ: UInt32 = 0x5413
public let TIOCSWINSZ: UInt32 = 0x5414
public let FIONREAD: UInt32 = 0x541B
public let TIOCINQ: UInt32 = 0x541B
public let TIOCPKT: UInt32 = 0x5420
public let FIONBIO: UInt32 = 0x5421
public let TIOCNOTTY: UInt32 = 0x5422
public let TIOCSETD: UInt32 = 0x5423
public let TIOCGETD: UInt32 = 0x5424
public let TCSBRKP: UInt32 = 0x5425
public let TIOCGSID: UInt32 = 0x5429
public let TCGETS2: UInt32 = 0x802C_542A
public let TCSETS2: UInt32 = 0x402C_542B
public let TCSETSW2: UInt32 = 0x402C_542C
public let TCSETSF2: UInt32 = 0x402C_542D
public let TIOCGPTN: UInt32 = 0x8004_5430
public let TIOCSPTLCK: UInt32 = 0x4004_5431
public let TIOCGDEV: UInt32 = 0x8004_5432
public let TIOCSIG: UInt32 = 0x4004_5436
public let TIOCGPKT: UInt32 = 0x8004_5438
public let TIOCGPTLCK: UInt32 = 0x8004_5439
public let TIOCGEXCL: UInt32 = 0x8004_5440
public let TIOCGPTPEER: UInt32 = 0x5441

/// c_iflag: what happens to input bytes.
public struct InputModes: OptionSet, Sendable {
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let IGNBRK = InputModes(rawValue: 0o1)
  public static let BRKINT = InputModes(rawValue: 0o2)
  public static let IGNPAR = InputModes(rawValue: 0o4)
  public static let PARMRK = InputModes(rawValue: 0o10)
  public static let INPCK = InputModes(rawValue: 0o20)
  public static let ISTRIP = InputModes(rawValue: 0o40)
  public static let INLCR = InputModes(rawValue: 0o100)
  public static let IGNCR = InputModes(rawValue: 0o200)
  public static let ICRNL = InputModes(rawValue: 0o400)
  public static let IUCLC = InputModes(rawValue: 0o1000)
  public static let IXON = InputModes(rawValue: 0o2000)
  public static let IXANY = InputModes(rawValue: 0o4000)
  public static let IXOFF = InputModes(rawValue: 0o10000)
  public static let IMAXBEL = InputModes(rawValue: 0o20000)
  public static let IUTF8 = InputModes(rawValue: 0o40000)
}

/// c_oflag: what happens to output bytes.
public struct OutputModes: OptionSet, Sendable {
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let OPOST = OutputModes(rawValue: 0o1)
  public static let OLCUC = OutputModes(rawValue: 0o2)
  public static let ONLCR = OutputModes(rawValue: 0o4)
  public static let OCRNL = OutputModes(rawValue: 0o10)
  public static let ONOCR = OutputModes(rawValue: 0o20)
  public static let ONLRET = OutputModes(rawValue: 0o40)
  /// All bits of the tab delay; all set expands tabs to spaces.
  public static let TABDLY = OutputModes(rawValue: 0o14000)
}

/// c_lflag: editing, echo, signals.
public struct LocalModes: OptionSet, Sendable {
  public var rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let ISIG = LocalModes(rawValue: 0o1)
  public static let ICANON = LocalModes(rawValue: 0o2)
  public static let ECHO = LocalModes(rawValue: 0o10)
  public static let ECHOE = LocalModes(rawValue: 0o20)
  public static let ECHOK = LocalModes(rawValue: 0o40)
  public static let ECHONL = LocalModes(rawValue: 0o100)
  public static let NOFLSH = LocalModes(rawValue: 0o200)
  public static let TOSTOP = LocalModes(rawValue: 0o400)
  public static let ECHOCTL = LocalModes(rawValue: 0o1000)
  public static let ECHOPRT = LocalModes(rawValue: 0o2000)
  public static let ECHOKE = LocalModes(rawValue: 0o4000)
  public static let IEXTEN = LocalModes(rawValue: 0o100000)
}

/// c_cflag of a fresh terminal: 38400 baud, eight bits, receiver on.
public let DEFAULT_CFLAG: UInt32 = 0o17 | 0o60 | 0o200

/// Places in c_cc.
public enum ControlCharacter: Int, Sendable {
  case VINTR = 0, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN, VSWTC, VSTART, VSTOP, VSUSP, VEOL, VREPRINT, VDISCARD
  case VWERASE, VLNEXT, VEOL2
}
/// Length of c_cc in the kernel's struct termios.
public let NCCS = 19

/// struct winsize.
public struct WindowSize: Equatable, BitwiseCopyable, Sendable {
  public var rows: UInt16 = 0
  public var columns: UInt16 = 0
  public var pixelWidth: UInt16 = 0
  public var pixelHeight: UInt16 = 0
  public init() {}
  public init(rows: UInt16, columns: UInt16, pixelWidth: UInt16 = 0, pixelHeight: UInt16 = 0) {
    self.rows = rows
    self.columns = columns
    self.pixelWidth = pixelWidth
    self.pixelHeight = pixelHeight
  }
}

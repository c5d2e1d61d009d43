// A terminal's settings: struct termios of the kernel's ABI as Swift types, and its two encodings (TCGETS and TCGETS2).
// Old programs also use struct termio (TCGETA), of which only the lower halves of the flags count.

import LinuxABI

/// What stty(1) shows and sets.
public struct TerminalSettings: Equatable, Sendable {
  public var input: InputModes
  public var output: OutputModes
  public var control: UInt32
  public var local: LocalModes
  public var line: UInt8 = 0
  /// c_cc, always `NCCS` bytes.
  public private(set) var characters: [UInt8]
  public var inputSpeed: UInt32 = 38400
  public var outputSpeed: UInt32 = 38400

  /// What a fresh terminal has (tty_std_termios of Linux): canonical input with echo, signals, CR↔NL translation.
  @export(interface)
  public init() {
    input = [.ICRNL, .IXON]
    output = [.OPOST, .ONLCR]
    control = DEFAULT_CFLAG
    local = [.ISIG, .ICANON, .ECHO, .ECHOE, .ECHOK, .ECHOCTL, .ECHOKE, .IEXTEN]
    //            ^C ^\  DEL  ^U ^D T M -  ^Q  ^S  ^Z - ^R  ^O  ^W  ^V -
    characters = [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0]
  }

  /// A control character; 0 means that the function is off (POSIX: _POSIX_VDISABLE).
  public subscript(_ which: ControlCharacter) -> UInt8 {
    get { characters[which.rawValue] }
    set { characters[which.rawValue] = newValue }
  }

  /// Whether `byte` is the control character `which`, and that function is on.
  @inline(__always)
  func matches(_ byte: UInt8, _ which: ControlCharacter) -> Bool {
    byte != 0 && characters[which.rawValue] == byte
  }

  public var isCanonical: Bool { local.contains(.ICANON) }

  /// The bytes of struct termios (36), or of struct termios2 (44) which adds the speeds.
  @export(interface)
  public func encoded(withSpeeds: Bool) -> [UInt8] {
    var bytes: [UInt8] = []
    for word in [input.rawValue, output.rawValue, control, local.rawValue] { bytes.appendWord(word) }
    bytes.append(line)
    bytes.append(contentsOf: characters)
    if withSpeeds {
      bytes.appendWord(inputSpeed)
      bytes.appendWord(outputSpeed)
    }
    return bytes
  }

  /// The settings that `bytes` (36 or 44 of them) describe, on top of `self` for what they leave out.
  @export(interface)
  public func decoding(_ bytes: [UInt8]) -> TerminalSettings {
    precondition(bytes.count == 36 || bytes.count == 44)
    var settings = self
    settings.input = InputModes(rawValue: bytes.word(at: 0))
    settings.output = OutputModes(rawValue: bytes.word(at: 4))
    settings.control = bytes.word(at: 8)
    settings.local = LocalModes(rawValue: bytes.word(at: 12))
    settings.line = bytes[16]
    settings.characters = Array(bytes[17..<36])
    if bytes.count == 44 {
      settings.inputSpeed = bytes.word(at: 36)
      settings.outputSpeed = bytes.word(at: 40)
    }
    return settings
  }

  /// struct termio: four 16-bit flag words, c_line, and the first eight control characters.
  @export(interface)
  public func encodedOld() -> [UInt8] {
    var bytes: [UInt8] = []
    for word in [input.rawValue, output.rawValue, control, local.rawValue] {
      bytes.append(UInt8(truncatingIfNeeded: word))
      bytes.append(UInt8(truncatingIfNeeded: word >> 8))
    }
    bytes.append(line)
    bytes.append(contentsOf: characters[..<8])
    bytes.append(0)
    return bytes
  }

  /// The settings after TCSETA with the 18 bytes of a struct termio: upper halves of the flags are kept.
  @export(interface)
  public func decodingOld(_ bytes: [UInt8]) -> TerminalSettings {
    precondition(bytes.count == 18)
    func half(_ place: Int, over old: UInt32) -> UInt32 {
      old & 0xFFFF_0000 | UInt32(bytes[place]) | UInt32(bytes[place + 1]) << 8
    }
    var settings = self
    settings.input = InputModes(rawValue: half(0, over: input.rawValue))
    settings.output = OutputModes(rawValue: half(2, over: output.rawValue))
    settings.control = half(4, over: control)
    settings.local = LocalModes(rawValue: half(6, over: local.rawValue))
    settings.line = bytes[8]
    settings.characters.replaceSubrange(0..<8, with: bytes[9..<17])
    return settings
  }
}

extension [UInt8] {
  mutating func appendWord(_ word: UInt32) {
    for shift in stride(from: UInt32(0), to: 32, by: 8) { append(UInt8(truncatingIfNeeded: word >> shift)) }
  }

  func word(at place: Int) -> UInt32 {
    UInt32(self[place]) | UInt32(self[place + 1]) << 8 | UInt32(self[place + 2]) << 16 | UInt32(self[place + 3]) << 24
  }
}

// The line discipline: what happens to each byte that a terminal receives (POSIX chapter 11, termios(3)). It assembles
// lines and lets the user edit them (canonical mode), echoes, recognises the characters that send signals or stop the
// output, and keeps what readers have not taken yet.
//
// Pure logic: a byte goes in, the state changes, and what is to be done outside (echo, signals) is left in `echoed` and
// returned. Locks, devices and processes are Terminal's business.

import LinuxABI

/// A terminal's input side.
struct LineDiscipline {
  typealias Character = OutputProcessor.Character

  /// What the terminal has to do after a byte.
  struct Action: OptionSet {
    var rawValue: UInt8
    /// The foreground group gets `signal`.
    static let signal = Action(rawValue: 1)
    /// Unwritten output is thrown away.
    static let flushOutput = Action(rawValue: 2)
    /// `isStopped` has changed.
    static let flowChanged = Action(rawValue: 4)
  }

  /// The most that is kept for readers (N_TTY_BUF_SIZE): a canonical line has at most 4,095 bytes and its newline.
  static let capacity = 4096

  private(set) var settings = TerminalSettings()
  private(set) var ready = InputQueue()
  /// The line that is being edited; empty outside canonical mode.
  internal var line: [UInt8] = []
  var output = OutputProcessor()
  /// Echo that waits for its way to the device.
  var echoed: [UInt8] = []
  /// Output is held back (^S).
  private(set) var isStopped = false
  /// The signal of the last `.signal`.
  private(set) var signal: Int32 = 0
  /// The next byte is taken as it is (^V).
  private var takesNextLiterally = false
  /// In ECHOPRT's backslash mode.
  var isPrintingErased = false
  /// The cursor's column where the line began.
  var lineColumn = 0

  /// Whether another byte may come. A terminal that has no room leaves bytes with the sender. An unfinished line that
  /// fills everything does not close the door, or its newline could never arrive.
  var hasRoom: Bool { ready.count + line.count < Self.capacity - 1 || (settings.isCanonical && ready.isEmpty) }

  // MARK: Receiving

  /// Takes a byte from the device.
  mutating func receive(_ received: UInt8) -> Action {
    var byte = received
    if settings.input.contains(.ISTRIP) { byte &= 0x7F }
    if settings.input.contains(.IUCLC), settings.local.contains(.IEXTEN), byte >= 0x41, byte <= 0x5a { byte += 0x20 }
    if takesNextLiterally {
      takesNextLiterally = false
      store(byte, echoing: byte)
      return []
    }
    var action: Action = []
    if settings.input.contains(.IXON) {
      if settings.matches(byte, .VSTART) { return setStopped(false) }
      if settings.matches(byte, .VSTOP) { return setStopped(true) }
    }
    if settings.local.contains(.ISIG), let signal = signal(for: byte) { return interrupt(byte, signal) }
    if isStopped, settings.input.isSuperset(of: [.IXON, .IXANY]) { action = setStopped(false) }
    if byte == Character.carriageReturn {
      if settings.input.contains(.IGNCR) { return action }
      if settings.input.contains(.ICRNL) { byte = Character.newline }
    } else if byte == Character.newline, settings.input.contains(.INLCR) {
      byte = Character.carriageReturn
    }
    if settings.isCanonical, edit(byte) { return action }
    store(byte, echoing: byte)
    return action
  }

  private func signal(for byte: UInt8) -> Int32? {
    if settings.matches(byte, .VINTR) { return SIGINT }
    if settings.matches(byte, .VQUIT) { return SIGQUIT }
    if settings.matches(byte, .VSUSP) { return SIGTSTP }
    return nil
  }

  /// A signal character: unread input and unwritten output go, unless NOFLSH; the character is echoed (^C).
  private mutating func interrupt(_ byte: UInt8, _ signal: Int32) -> Action {
    self.signal = signal
    var action: Action = .signal
    if !settings.local.contains(.NOFLSH) {
      flushInput()
      echoed.removeAll()
      action.insert(.flushOutput)
    }
    if settings.input.contains(.IXON) { action.formUnion(setStopped(false)) }
    if settings.local.contains(.ECHO) { echo(byte) }
    return action
  }

  /// The editing characters of canonical mode; true when `byte` was one.
  private mutating func edit(_ byte: UInt8) -> Bool {
    let extended = settings.local.contains(.IEXTEN)
    if settings.matches(byte, .VERASE) {
      erase(.character, byte)
    } else if settings.matches(byte, .VKILL) {
      erase(.line, byte)
    } else if extended, settings.matches(byte, .VWERASE) {
      erase(.word, byte)
    } else if extended, settings.matches(byte, .VLNEXT) {
      takesNextLiterally = true
      if settings.local.contains(.ECHO) {
        finishPrintingErased()
        if settings.local.contains(.ECHOCTL) {
          // A caret under the cursor until the next byte comes and covers it.
          echoRaw(0x5e)
          echoRaw(Character.backspace)
        }
      }
    } else if extended, settings.local.contains(.ECHO), settings.matches(byte, .VREPRINT) {
      finishPrintingErased()
      echo(byte)
      echoRaw(Character.newline)
      lineColumn = output.column
      for byte in line { echo(byte) }
    } else if byte == Character.newline {
      if !settings.local.isDisjoint(with: [.ECHO, .ECHONL]) { echoRaw(byte) }
      finishLine(with: byte)
    } else if settings.matches(byte, .VEOF) {
      ready.append(line: line, endsWithByte: false)
      line.removeAll(keepingCapacity: true)
    } else if settings.matches(byte, .VEOL) || (extended && settings.matches(byte, .VEOL2)) {
      if settings.local.contains(.ECHO) {
        if line.isEmpty { lineColumn = output.column }
        echo(byte)
      }
      finishLine(with: byte)
    } else {
      return false
    }
    return true
  }

  private mutating func finishLine(with byte: UInt8) {
    line.append(byte)
    ready.append(line: line, endsWithByte: true)
    line.removeAll(keepingCapacity: true)
  }

  /// An ordinary byte.
  private mutating func store(_ byte: UInt8, echoing echoByte: UInt8) {
    let isDoubled = byte == 0xFF && settings.input.contains(.PARMRK)
    if settings.isCanonical {
      guard ready.count + line.count + (isDoubled ? 2 : 1) < Self.capacity else {
        // POSIX leaves it open; Linux keeps the line as it is and rings the bell if asked.
        if settings.input.contains(.IMAXBEL) { echoed.append(Character.bell) }
        return
      }
    } else if ready.count >= Self.capacity {
      return
    }
    if settings.local.contains(.ECHO) {
      finishPrintingErased()
      if settings.isCanonical, line.isEmpty { lineColumn = output.column }
      if byte == Character.newline { echoRaw(byte) } else { echo(echoByte) }
    }
    for _ in 0..<(isDoubled ? 2 : 1) {
      if settings.isCanonical { line.append(byte) } else { ready.append(byte) }
    }
  }

  @discardableResult
  mutating func setStopped(_ stop: Bool) -> Action {
    guard isStopped != stop else { return [] }
    isStopped = stop
    return .flowChanged
  }

  // MARK: Reading

  /// Whether a reader would get something (or the end of file) now. Outside canonical mode: at least `minimum` bytes.
  func canRead(minimum: Int = 1) -> Bool {
    settings.isCanonical ? !ready.isEmpty : ready.count >= max(1, minimum)
  }

  /// What poll(2) waits for: VMIN counts unless a timer would end the read earlier.
  var isReadable: Bool { canRead(minimum: settings[.VTIME] == 0 ? Int(settings[.VMIN]) : 1) }

  /// Takes up to `limit` bytes, in canonical mode from one line.
  mutating func read(limit: Int) -> [UInt8] {
    settings.isCanonical ? ready.takeLine(limit: limit) : ready.takeBytes(limit: limit)
  }

  /// Throws away what has not been read.
  mutating func flushInput() {
    ready.removeAll()
    line.removeAll(keepingCapacity: true)
    takesNextLiterally = false
    isPrintingErased = false
  }

  // MARK: Settings

  /// Changes the settings. Input that arrived in the other mode stays readable: an unfinished line becomes plain bytes,
  /// plain bytes become a line.
  mutating func set(_ new: TerminalSettings) -> Action {
    let wasCanonical = settings.isCanonical
    settings = new
    if wasCanonical != new.isCanonical {
      if wasCanonical {
        for byte in line { ready.append(byte) }
        line.removeAll()
      } else {
        ready.markLineEnd()
      }
      takesNextLiterally = false
      isPrintingErased = false
    }
    return new.input.contains(.IXON) ? [] : setStopped(false)
  }
}

// Echo and erasing: what the user sees of the line under edit. Erased characters are wiped from the screen with
// backspace-space-backspace; tabs need to know where they began, control characters take two columns (^X), and a UTF-8
// character is erased as a whole.

import LinuxABI

extension LineDiscipline {
  enum Erasure {
    case character, word, line
  }

  // MARK: Echo

  /// Echoes a byte; control characters as ^X when ECHOCTL asks for it.
  mutating func echo(_ byte: UInt8) {
    if settings.local.contains(.ECHOCTL), Character.isControl(byte), byte != Character.tab {
      echoRaw(0x5e)
      echoRaw(byte ^ 0x40)
    } else {
      echoRaw(byte)
    }
  }

  mutating func echoRaw(_ byte: UInt8) { output.process(byte, settings, into: &echoed) }

  /// Ends a run of erased characters that ECHOPRT prints between \ and /.
  mutating func finishPrintingErased() {
    if isPrintingErased {
      echoRaw(0x2f)
      isPrintingErased = false
    }
  }

  // MARK: Erasing

  /// Removes a character, a word, or everything from the end of the line; `key` is the byte that asked for it.
  mutating func erase(_ what: Erasure, _ key: UInt8) {
    guard !line.isEmpty else { return }
    if what == .line {
      if !settings.local.contains(.ECHO) { return line.removeAll(keepingCapacity: true) }
      if !settings.local.isSuperset(of: [.ECHOK, .ECHOKE, .ECHOE]) {
        line.removeAll(keepingCapacity: true)
        finishPrintingErased()
        echo(key)
        if settings.local.contains(.ECHOK) { echoRaw(Character.newline) }
        return
      }
    }
    var hasSeenWord = false
    while let start = startOfLastCharacter() {
      let first = line[start]
      if what == .word {
        if Character.isWord(first) { hasSeenWord = true } else if hasSeenWord { break }
      }
      let removed = Array(line[start...])
      line.removeSubrange(start...)
      if settings.local.contains(.ECHO) { echoErased(removed, what, key) }
      if what == .character { break }
    }
    if line.isEmpty, settings.local.contains(.ECHO) { finishPrintingErased() }
  }

  /// Where the last character begins; nil when the line is empty or holds nothing but continuation bytes.
  private func startOfLastCharacter() -> Int? {
    var place = line.count
    while place > 0 {
      place -= 1
      if !Character.isContinuation(line[place], settings) { return place }
    }
    return nil
  }

  private mutating func echoErased(_ removed: [UInt8], _ what: Erasure, _ key: UInt8) {
    let first = removed[0]
    if settings.local.contains(.ECHOPRT) {
      if !isPrintingErased {
        echoRaw(0x5c)
        isPrintingErased = true
      }
      echo(first)
      for byte in removed.dropFirst() { echoRaw(byte) }
    } else if what == .character, !settings.local.contains(.ECHOE) {
      echo(key)
    } else if first == Character.tab {
      output.backspace(output.column - endColumn(), into: &echoed)
    } else {
      for _ in 0..<width(first) {
        echoRaw(Character.backspace)
        echoRaw(Character.space)
        echoRaw(Character.backspace)
      }
    }
  }

  /// How many columns the echo of a byte takes (tabs apart).
  private func width(_ byte: UInt8) -> Int {
    if Character.isControl(byte) { return settings.local.contains(.ECHOCTL) ? 2 : 0 }
    return Character.isContinuation(byte, settings) ? 0 : 1
  }

  /// The column behind the line as it is now.
  private func endColumn() -> Int {
    var column = lineColumn
    for byte in line { column += byte == Character.tab ? 8 - column % 8 : width(byte) }
    return min(column, output.column)
  }
}

import LinuxABI
import TestSupport
import Testing

@testable import Console

/// A line discipline and what came out of it.
private struct Session {
  var discipline = LineDiscipline()
  var signals: [Int32] = []

  init(_ change: (inout TerminalSettings) -> Void = { _ in }) {
    var settings = TerminalSettings()
    change(&settings)
    _ = discipline.set(settings)
  }

  mutating func type(_ text: String) { type(Array(text.utf8)) }
  mutating func type(_ bytes: [UInt8]) {
    for byte in bytes where discipline.receive(byte).contains(.signal) { signals.append(discipline.signal) }
  }
  mutating func echo() -> String {
    defer { discipline.echoed = [] }
    return String(decoding: discipline.echoed, as: UTF8.self)
  }
  mutating func read(_ limit: Int = 4096) -> String? {
    discipline.canRead() ? String(decoding: discipline.read(limit: limit), as: UTF8.self) : nil
  }
}

/// Shows a terminal's line of text: enough to check what echo and erasing leave on the screen.
private func screenLine(_ bytes: [UInt8]) -> [UInt8] {
  var cells: [UInt8] = []
  var column = 0
  func put(_ byte: UInt8) {
    while cells.count <= column { cells.append(0x20) }
    cells[column] = byte
    column += 1
  }
  for byte in bytes {
    switch byte {
    case 8: column = max(0, column - 1)
    case 9: repeat { column += 1 } while column % 8 != 0
    case 10: cells = []
    case 13: column = 0
    case 0x80...0xBF: break
    default: put(byte)
    }
  }
  while cells.last == 0x20 { cells.removeLast() }
  return cells
}

@Suite struct LineDisciplineTests {
  @Test func `a line is readable when it is finished, and not before`() {
    var session = Session()
    session.type("hello")
    #expect(session.read() == nil)
    session.type("\r")
    #expect(session.echo() == "hello\r\n")
    #expect(session.read(3) == "hel")
    #expect(session.read() == "lo\n")
    #expect(session.read() == nil)
  }

  @Test func `each read takes one line`() {
    var session = Session()
    session.type("one\ntwo\n")
    #expect(session.read() == "one\n")
    #expect(session.read() == "two\n")
  }

  @Test func `end of file gives the unfinished line, and alone an empty read`() {
    var session = Session()
    session.type("abc\u{4}")
    #expect(session.echo() == "abc")
    #expect(session.discipline.ready.byteCount == 3)
    #expect(session.read() == "abc")
    #expect(session.read() == nil)
    session.type("\u{4}")
    #expect(session.read() == "")
    session.type("abc\u{4}")
    #expect(session.read(3) == "abc")
    #expect(session.read() == nil)
  }

  @Test func `erase, word erase and kill wipe the screen as they wipe the line`() {
    var session = Session()
    session.type("ab\u{7F}")
    #expect(session.echo() == "ab\u{8} \u{8}")
    session.type(" foo bar\u{17}x\n")
    #expect(session.read() == "a foo x\n")
    session.type("nothing\u{15}else\n")
    #expect(session.read() == "else\n")
    #expect(screenLine(Array(session.echo().utf8).dropLast(2)) == Array("else".utf8))
    session.type("\u{7F}\u{17}\u{15}ok\n")
    #expect(session.read() == "ok\n")
  }

  @Test func `a UTF-8 character is erased as a whole when the terminal knows of them`() {
    var session = Session { $0.input.insert(.IUTF8) }
    session.type("aä€😀\u{7F}\u{7F}b\n")
    #expect(session.read() == "aäb\n")
    #expect(session.echo() == "aä€😀\u{8} \u{8}\u{8} \u{8}b\r\n")
    var plain = Session()
    plain.type(Array("ä".utf8) + [0x7F, 10])
    #expect(plain.discipline.read(limit: 10) == [0xC3, 10])
  }

  @Test func `tabs and control characters are erased by their width`() {
    var session = Session()
    session.type("ab\tc\u{16}\u{3}\u{7F}\u{7F}\u{7F}x\n")
    #expect(screenLine(Array(session.echo().utf8).dropLast(2)) == Array("abx".utf8))
    #expect(session.read() == "abx\n")
  }

  @Test func `the literal-next character takes anything`() {
    var session = Session()
    session.type("\u{16}\u{3}\u{16}\u{4}\u{16}\u{7F}\n")
    #expect(session.signals.isEmpty)
    #expect(session.read() == "\u{3}\u{4}\u{7F}\n")
    #expect(session.echo() == "^\u{8}^C^\u{8}^D^\u{8}^?\r\n")
  }

  @Test func `signal characters send signals, are echoed, and flush`() {
    var session = Session()
    session.type("abc\u{3}def\u{1C}\u{1A}x\n")
    #expect(session.signals == [SIGINT, SIGQUIT, SIGTSTP])
    #expect(session.read() == "x\n")
    // As with the Linux flush, echo that was still under way is lost, the signal's own is not.
    #expect(session.echo() == "^Zx\r\n")
    var keeping = Session { $0.local.insert(.NOFLSH) }
    keeping.type("abc\u{3}def\n")
    #expect(keeping.read() == "abcdef\n")
    var raw = Session { $0.local.remove(.ISIG) }
    raw.type("\u{3}\n")
    #expect(raw.signals.isEmpty && raw.read() == "\u{3}\n")
  }

  @Test func `stop and start hold output and never reach the reader`() {
    var session = Session()
    session.type("\u{13}")
    #expect(session.discipline.isStopped)
    session.type("a\u{11}\n")
    #expect(!session.discipline.isStopped)
    #expect(session.read() == "a\n")
    var any = Session { $0.input.insert(.IXANY) }
    any.type("\u{13}b")
    #expect(!any.discipline.isStopped)
    session.type("\u{13}")
    var settings = session.discipline.settings
    settings.input.remove(.IXON)
    #expect(session.discipline.set(settings) == .flowChanged)
    #expect(!session.discipline.isStopped)
  }

  @Test func `carriage return and newline are translated as asked`() {
    var ignoring = Session { $0.input = [.IGNCR] }
    ignoring.type("a\rb\n")
    #expect(ignoring.read() == "ab\n")
    var swapping = Session {
      $0.input = [.INLCR]
      $0.local.remove(.ICANON)
    }
    swapping.type("a\nb\r")
    #expect(swapping.read() == "a\rb\r")
  }

  @Test func `without canonical mode bytes are readable at once`() {
    var session = Session {
      $0.local.subtract([.ICANON, .ECHO])
      $0.input.remove(.ICRNL)
      $0[.VMIN] = 3
    }
    session.type("a\r")
    #expect(session.echo() == "")
    #expect(!session.discipline.isReadable)
    session.type("\u{4}")
    #expect(session.discipline.isReadable)
    #expect(session.read(2) == "a\r")
    #expect(session.read() == "\u{4}")
  }

  @Test func `a change of mode loses nothing`() {
    var session = Session()
    session.type("done\nhalf")
    var raw = session.discipline.settings
    raw.local.remove(.ICANON)
    _ = session.discipline.set(raw)
    #expect(session.read() == "done\nhalf")
    session.type("pending")
    raw.local.insert(.ICANON)
    _ = session.discipline.set(raw)
    #expect(session.read() == "pending")
  }

  @Test func `a line that is too long keeps its beginning and can be finished`() {
    var session = Session { $0.local.remove(.ECHO) }
    session.type([UInt8](repeating: 0x61, count: 5000))
    #expect(session.discipline.hasRoom)
    session.type("\n")
    #expect(session.discipline.read(limit: 10000).count == 4096)
    session.type([UInt8](repeating: 0x61, count: 4000) + [10])
    session.type([UInt8](repeating: 0x61, count: 94))
    #expect(!session.discipline.hasRoom)
  }

  @Test func `reprint shows the line again`() {
    var session = Session()
    session.type("abc\u{12}")
    #expect(session.echo() == "abc^R\r\nabc")
  }

  @Test func `a printing terminal shows erased characters between slashes`() {
    var session = Session { $0.local.insert(.ECHOPRT) }
    session.type("abc\u{7F}\u{7F}d\n")
    #expect(session.echo() == "abc\\cb/d\r\n")
    #expect(session.read() == "ad\n")
  }

  @Test func `without echo only the newline shows, if asked`() {
    var session = Session {
      $0.local.remove(.ECHO)
      $0.local.insert(.ECHONL)
    }
    session.type("secret\u{7F}\n")
    #expect(session.echo() == "\r\n")
    #expect(session.read() == "secre\n")
  }

  @Test func `output processing follows the column`() {
    var output = OutputProcessor()
    var settings = TerminalSettings()
    settings.output.insert(.TABDLY)
    var bytes: [UInt8] = []
    for byte in "ab\tc\n\td\u{8}\r".utf8 { output.process(byte, settings, into: &bytes) }
    #expect(String(decoding: bytes, as: UTF8.self) == "ab      c\r\n        d\u{8}\r")
    #expect(output.column == 0)
    settings.output = [.OPOST, .OCRNL, .OLCUC]
    bytes = []
    for byte in "a\r".utf8 { output.process(byte, settings, into: &bytes) }
    #expect(bytes == Array("A\n".utf8))
    settings.output = [.ONLCR]
    bytes = []
    output.process(10, settings, into: &bytes)
    #expect(bytes == [10])
  }

  @Test func `settings survive their encodings`() {
    var settings = TerminalSettings()
    settings[.VMIN] = 7
    settings.inputSpeed = 9600
    #expect(settings.encoded(withSpeeds: false).count == 36)
    #expect(TerminalSettings().decoding(settings.encoded(withSpeeds: true)) == settings)
    var expected = settings
    expected.inputSpeed = 38400
    #expect(TerminalSettings().decoding(settings.encoded(withSpeeds: false)) == expected)
    #expect(settings.encodedOld().count == 18)
    #expect(settings.decodingOld(settings.encodedOld()) == settings)
  }

  @Test func `random typing and editing agrees with a simple editor, on the screen too`() {
    var generator = SeededGenerator("typing")
    for _ in 0..<300 {
      var session = Session { $0.input.insert(.IUTF8) }
      // The model: a line of characters, each with its bytes.
      var line: [[UInt8]] = []
      var echoed: [UInt8] = []
      for _ in 0..<60 {
        switch generator.next() % 12 {
        case 0:
          session.type([0x7F])
          if !line.isEmpty { line.removeLast() }
        case 1:
          session.type([0x17])
          var seen = false
          while let last = line.last {
            if OutputProcessor.Character.isWord(last[0]) { seen = true } else if seen { break }
            line.removeLast()
          }
        case 2 where generator.next() % 4 == 0:
          session.type([0x15])
          line = []
        case 3:
          // A literal tab leaves the caret of ^V on the screen (on Linux too): it is not part of the picture.
          var control = UInt8(generator.next() % 26 + 1)
          if control == 9 { control = 1 }
          session.type([0x16, control])
          line.append([control])
          if control == 10 {
            // A literal newline leaves the screen's line: start over.
            session.type([0x15])
            line = []
            session.discipline.echoed = []
            session.discipline.output = OutputProcessor()
            echoed = []
          }
        case 4:
          session.type([9])
          line.append([9])
        case 5:
          session.type("é")
          line.append(Array("é".utf8))
        case 6:
          session.type(" ")
          line.append([0x20])
        default:
          let letter = UInt8(0x61 + generator.next() % 26)
          session.type([letter])
          line.append([letter])
        }
        #expect(session.discipline.line == line.flatMap { $0 })
        echoed += session.discipline.echoed
        session.discipline.echoed = []
        // What should be seen: the line's own echo on a fresh screen.
        var fresh = Session { $0.input.insert(.IUTF8) }
        for character in line {
          if character[0] < 0x20, character[0] != 9 { fresh.type([0x16]) }
          fresh.type(character)
        }
        let seen = screenLine(echoed)
        let wanted = screenLine(fresh.discipline.echoed)
        #expect(seen == wanted)
        if seen != wanted { return }
      }
    }
  }
}

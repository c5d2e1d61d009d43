// The values of options: each a small type that is made from one word or refuses it with a sentence.
import ArgumentParser
import Monitor

/// A number of bytes with an optional suffix, as several options have it.
struct ByteCount {
  /// nil: more than 64 bits hold.
  var bytes: UInt64?

  static let suffixes: [(letter: Character, shift: UInt64)] = [("K", 10), ("M", 20), ("G", 30), ("T", 40)]

  /// - Returns: nil for what is no number with or without a suffix.
  init?(_ text: some StringProtocol) {
    let shift = Self.suffixes.first { $0.letter == text.last || $0.letter.lowercased() == text.last.map(String.init) }?
      .shift
    let digits = shift == nil ? text[...] : text.dropLast()
    guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
    let (bytes, overflow) = (UInt64(digits) ?? .max).multipliedReportingOverflow(by: 1 << (shift ?? 0))
    self.bytes = overflow || UInt64(digits) == nil ? nil : bytes
  }
}

/// `--memory`: a number of bytes with an optional suffix.
struct MemorySize: Equatable, CustomStringConvertible {
  var bytes: UInt64

  static let minimum: UInt64 = 16 << 20
  static let maximum: UInt64 = 1 << 40
  static let allowed = "\(MemorySize(bytes: minimum)) to \(MemorySize(bytes: maximum))"
  private static let page: UInt64 = 4096

  init(bytes: UInt64) { self.bytes = bytes }

  init(_ text: String) throws {
    guard let size = ByteCount(text) else {
      throw ValidationError(
        "'\(text)' is no size: give a whole number of bytes, or one with K, M, G or T behind it, from \(Self.allowed)")
    }
    guard let bytes = size.bytes, (Self.minimum...Self.maximum).contains(bytes) else { throw Self.outOfRange(text) }
    self.bytes = bytes & ~(Self.page - 1)
  }

  private static func outOfRange(_ text: String) -> ValidationError {
    ValidationError("'\(text)' is out of range: the memory of a sandbox is from \(allowed)")
  }

  /// The largest unit that divides the number.
  var description: String {
    for (letter, shift) in ByteCount.suffixes.reversed() where bytes != 0 && bytes % (1 << shift) == 0 {
      return "\(bytes >> shift)\(letter)"
    }
    return "\(bytes)"
  }
}

/// `--overlay-size`.
struct OverlaySize: Equatable {
  var bytes: UInt64

  private static let allowed: ClosedRange<UInt64> = 1 << 20...1 << 40

  init(_ text: String) throws {
    guard let bytes = ByteCount(text)?.bytes, Self.allowed.contains(bytes) else {
      throw ValidationError(
        "'\(text)' is no size of an overlay: give a whole number of bytes, or one with K, M, G or T behind it, from 1M to 1T"
      )
    }
    self.bytes = bytes
  }
}

/// `--bind`: `SRC:DST[:ro]`.
struct BindArgument: Equatable {
  var source: String
  var destination: String
  var isReadOnly: Bool

  init(_ text: String) throws {
    var parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    isReadOnly = parts.count == 3 && parts[2] == "ro"
    if parts.count == 3 && (parts[2] == "ro" || parts[2] == "rw") { parts.removeLast() }
    guard parts.count == 2, !parts[0].isEmpty else {
      throw ValidationError("'\(text)' is not SRC:DST or SRC:DST:ro")
    }
    guard parts[1].hasPrefix("/"), parts[1].contains(where: { $0 != "/" }) else {
      throw ValidationError("'\(text)': the path in the sandbox must be absolute and not the root, got '\(parts[1])'")
    }
    if let own = Self.kernelDirectory(parts[1]) {
      let meant = own == "/dev" ? "; --disk FILE makes /dev/vda of a file" : ""
      throw ValidationError(
        "'\(text)': \(own) is made by the sandbox's own kernel, and programs need it; show the directory at another place, "
          + "such as --bind \(parts[0]):/mnt\(meant)")
    }
    source = parts[0]
    destination = parts[1]
  }

  /// Which of the kernel's own directories a path names, with whatever dots and slashes.
  private static func kernelDirectory(_ path: String) -> String? {
    var names: [Substring] = []
    for name in path.split(separator: "/") where name != "." {
      if name == ".." { _ = names.popLast() } else { names.append(name) }
    }
    let name = "/" + names.joined(separator: "/")
    return ["/dev", "/proc", "/sys"].contains(name) ? name : nil
  }
}

/// `--disk`: `FILE[:ro]`.
struct DiskArgument: Equatable {
  var path: String
  var isReadOnly: Bool

  init(path: String, isReadOnly: Bool) {
    self.path = path
    self.isReadOnly = isReadOnly
  }

  init(_ text: String) throws {
    isReadOnly = text.hasSuffix(":ro")
    path = isReadOnly ? String(text.dropLast(3)) : text
    guard !path.isEmpty else { throw ValidationError("'\(text)' is not FILE or FILE:ro") }
  }
}

/// `--swap`: `FILE[:SIZE]`.
struct SwapArgument: Equatable {
  var path: String
  var size: UInt64?

  init(path: String, size: UInt64?) {
    self.path = path
    self.size = size
  }

  static let minimum: UInt64 = 64 << 10
  static let maximum: UInt64 = 1 << 40

  init(_ text: String) throws {
    path = text
    if let colon = text.lastIndex(of: ":"), let size = ByteCount(text[text.index(after: colon)...]) {
      path = String(text[..<colon])
      guard let bytes = size.bytes, (Self.minimum...Self.maximum).contains(bytes), bytes % 4096 == 0 else {
        throw ValidationError("'\(text)': the size of swap space is a multiple of 4K from 64K to 1T")
      }
      self.size = bytes
    }
    guard !path.isEmpty else { throw ValidationError("'\(text)' is not FILE or FILE:SIZE") }
  }
}

/// `--env`: `KEY=value`, or `KEY` for the value that it has outside.
struct EnvironmentArgument: Equatable {
  var name: String
  /// nil: the value outside.
  var value: String?

  init(_ text: String) throws {
    let equals = text.firstIndex(of: "=")
    guard !text.isEmpty, equals != text.startIndex else { throw ValidationError("'\(text)' is not KEY or KEY=value") }
    name = String(text[..<(equals ?? text.endIndex)])
    value = equals.map { String(text[text.index(after: $0)...]) }
    guard name.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
      throw ValidationError(
        "the name of an environment variable has no control characters, such as a newline: KEY or KEY=value")
    }
  }
}

/// `--user`: `UID[:GID]`; the group defaults to the number of the user.
struct UserArgument: Equatable {
  var user: MachineConfiguration.User

  init(_ text: String) throws {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    // (uid_t)-1 means "unchanged" in setuid's relatives and can be nobody's identity.
    let numbers = parts.compactMap { part in
      part.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt32(part).flatMap { $0 == .max ? nil : $0 } : nil
    }
    guard numbers.count == parts.count, (1...2).contains(numbers.count) else {
      throw ValidationError("'\(text)' is not UID or UID:GID with numbers from 0 to \(UInt32.max - 1)")
    }
    user = .init(user: numbers[0], group: numbers.last!)
  }
}

/// `--timeout`: seconds, with a fraction if wanted.
struct TimeoutArgument: Equatable {
  var seconds: Double

  static let maximum: Double = 366 * 86_400

  init(_ text: String) throws {
    guard let seconds = Double(text), seconds > 0, seconds <= Self.maximum else {
      throw ValidationError("'\(text)' is not a number of seconds above 0 and at most \(Int(Self.maximum))")
    }
    self.seconds = seconds
  }
}

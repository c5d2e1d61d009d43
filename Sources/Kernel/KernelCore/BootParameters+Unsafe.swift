// What the monitor (or a boot loader) asks of the kernel: `key=value` strings, a key may come several times.

import Machine

/// The parameters given at boot.
public enum BootParameters {
  /// The record that the machine handed over; set once, first thing at boot.
  public nonisolated(unsafe) static var info: UnsafePointer<machine_boot_info>! = nil

  /// The value of the last parameter called `key`.
  @export(interface)
  public static func value(_ key: StaticString) -> ByteString? { values(key).last }

  /// The values of all parameters called `key`, in order.
  @export(interface)
  public static func values(_ key: StaticString) -> [ByteString] {
    guard let info = unsafe info, let text = unsafe info.pointee.configuration else { return [] }
    // SAFETY: the machine guarantees `configuration_length` readable bytes for the life of the kernel.
    let bytes = unsafe Array(UnsafeRawBufferPointer(start: text, count: Int(info.pointee.configuration_length)))
    var found: [ByteString] = []
    let keyLength = key.utf8CodeUnitCount
    for line in bytes.split(separator: 0) {
      guard line.count > keyLength, line[line.startIndex + keyLength] == 0x3d else { continue }
      let matches = key.withUTF8Buffer { unsafe line.prefix(keyLength).elementsEqual($0) }
      if matches { found.append(ByteString(line.dropFirst(keyLength + 1))) }
    }
    return found
  }

  /// A numeric parameter, nil when it is absent or not a decimal number.
  @export(interface)
  public static func number(_ key: StaticString) -> UInt64? { value(key)?.decimal() }

  /// Whether the kernel's options have this word.
  @export(interface)
  public static func hasOption(_ name: StaticString) -> Bool {
    guard let info = unsafe info else { return false }
    return unsafe option(name, of: info) != nil
  }

  /// Looks for a word of the kernel's options (`append=…`, words separated by spaces), before there is a heap. A name
  /// that ends with "=" stands for a number behind it.
  ///
  /// - Returns: the number, 0 for a plain word; nil when there is no such word or no number.
  @export(interface)
  public static func option(_ name: StaticString, of info: UnsafePointer<machine_boot_info>) -> UInt64? {
    guard let text = unsafe info.pointee.configuration else { return nil }
    // SAFETY: the machine guarantees `configuration_length` readable bytes for the life of the kernel.
    let bytes = unsafe UnsafeRawBufferPointer(start: text, count: Int(info.pointee.configuration_length))
    var found: UInt64?
    var line = 0
    while line < bytes.count {
      var end = line
      while unsafe end < bytes.count && bytes[end] != 0 { end += 1 }
      var word = line
      if unsafe begins(bytes, line, end, "append=") {
        word += 7
        while word < end {
          var stop = word
          while unsafe stop < end && bytes[stop] != 0x20 { stop += 1 }
          if unsafe begins(bytes, word, stop, name) {
            found = unsafe number(bytes, word + name.utf8CodeUnitCount, stop, name) ?? found
          }
          word = stop + 1
        }
      }
      line = end + 1
    }
    return found
  }

  private static func begins(
    _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int, _ prefix: StaticString
  ) -> Bool {
    guard end - start >= prefix.utf8CodeUnitCount else { return false }
    for index in 0..<prefix.utf8CodeUnitCount where unsafe bytes[start + index] != prefix.utf8Start[index] {
      return false
    }
    return true
  }

  private static func number(
    _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int, _ name: StaticString
  ) -> UInt64? {
    let takesNumber = unsafe name.utf8Start[name.utf8CodeUnitCount - 1] == 0x3d
    guard takesNumber else { return start == end ? 0 : nil }
    guard start < end, end - start < 10 else { return nil }
    var value: UInt64 = 0
    for index in start..<end {
      guard case 0x30...0x39 = unsafe bytes[index] else { return nil }
      value = unsafe value * 10 + UInt64(bytes[index] - 0x30)
    }
    return value
  }
}

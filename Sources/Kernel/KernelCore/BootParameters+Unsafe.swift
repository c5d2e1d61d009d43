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
}

// The files of /proc/net: families and protocols announce them, Procfs shows them.

import KernelCore
import LinuxABI

/// The files of /proc/net.
public enum NetworkFiles {
  /// Makes the text of a file.
  public typealias Source = () throws(Errno) -> TextBuffer

  /// One file.
  public struct Entry {
    public var name: ByteString
    public var source: Source
  }
  private static let entries = SpinLock([Entry](), rank: .device)

  /// Announces a file, at boot, before /proc is mounted.
  @export(interface)
  public static func register(_ name: ByteString, _ source: @escaping Source) {
    entries.withLock { $0.append(Entry(name: name, source: source)) }
  }

  @export(interface)
  public static func all() -> [Entry] { entries.withLock { $0 } }
}

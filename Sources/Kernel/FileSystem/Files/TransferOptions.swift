// How one transfer is done, besides what the open file's flags say (preadv2(2), pwritev2(2)).

/// Options of one transfer.
public struct TransferOptions: OptionSet, Sendable {
  public let rawValue: UInt8

  @inline(__always)
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Write at the end of the file, wherever that is when the file is locked (RWF_APPEND).
  public static var append: TransferOptions { TransferOptions(rawValue: 1) }
  /// Write at the given place, although the file was opened with O_APPEND (RWF_NOAPPEND).
  public static var noAppend: TransferOptions { TransferOptions(rawValue: 2) }
  /// Do not return before what was written is stored (RWF_DSYNC, RWF_SYNC).
  public static var dataSync: TransferOptions { TransferOptions(rawValue: 4) }
  /// Move only what needs no waiting (RWF_NOWAIT).
  public static var noWait: TransferOptions { TransferOptions(rawValue: 8) }
}

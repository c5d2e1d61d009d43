// The table: number → call. The families are listed here; everything that no family claims is answered with ENOSYS.

import LinuxABI

/// All system calls by number.
public enum SystemCallTable {
  /// x86-64 Linux numbers its calls below this; higher ones (x32's among them) do not exist.
  public static let size = 512

  /// The families. A number that two of them claim is a mistake, which the unit tests report.
  @export(interface)
  public static func families() -> [[SystemCall]] {
    [
      ProcessCalls.table(), IdentityCalls.table(), CredentialCalls.table(), SchedulingCalls.table(),
      SignalCalls.table(), FutexCalls.table(), TimeCalls.table(), TimerCalls.table(), LimitCalls.table(),
      ControlCalls.table(), DescriptorCalls.table(), SystemInformationCalls.table(),
      TransferCalls.table(), CopyCalls.table(), SyncCalls.table(), FileDescriptorCalls.table(), OpenCalls.table(),
      StatusCalls.table(), DirectoryCalls.table(), AttributeCalls.table(), ExtendedAttributeCalls.table(),
      MountCalls.table(), PollCalls.table(), PipeCalls.table(), SocketCalls.table(), MessageCalls.table(),
      SwapCalls.table(), MemoryCalls.table(), MemoryCalls.processTable(), NodeCalls.table(),
    ]
  }

  /// The calls by number.
  // SAFETY: allocated once, initialised for `size` entries, never changed or freed.
  static let calls: UnsafeMutablePointer<SystemCall?> = {
    let calls = UnsafeMutablePointer<SystemCall?>.allocate(capacity: size)
    unsafe calls.initialize(repeating: nil, count: size)
    for call in families().joined() where call.number < size { unsafe calls[call.number] = call }
    return unsafe calls
  }()

  /// The call `number`, nil when there is none.
  @export(interface)
  public static func call(_ number: UInt64) -> SystemCall? {
    // SAFETY: the index was checked against the size.
    number < UInt64(size) ? unsafe calls[Int(number)] : nil
  }
}

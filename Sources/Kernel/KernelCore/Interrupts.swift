// Device interrupts. The machine collects them as bits per CPU; the kernel takes them at its interrupt points (idle, and
// after each run of user code) and calls the registered handlers, which wake threads and never sleep.

import Machine

/// Interrupt handlers by device.
public enum Interrupts {
  private static let handlers = SpinLock([(() -> Void)?](repeating: nil, count: 63), rank: .device)

  /// Calls `handler` whenever device `device` (its place in the machine's device table) interrupts.
  @export(interface)
  public static func register(device: Int, handler: @escaping () -> Void) {
    handlers.withLock { $0[device] = handler }
  }

  /// Runs the handlers of all interrupts pending for this CPU.
  @inline(__always)
  public static func handlePending() {
    let pending = machine_interrupts_pending()
    if pending & ~1 != 0 { handle(pending) }
  }

  @export(interface)
  public static func handle(_ pending: UInt64) {
    for device in 0..<63 where pending & (2 << UInt64(device)) != 0 {
      handlers.withLock { $0[device] }?()
    }
  }
}

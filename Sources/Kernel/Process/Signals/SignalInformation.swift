// What is known about one signal: siginfo_t without its padding. Linux defines 48 of its 128 bytes; the union behind
// signo, errno and code is kept as four words in the ABI's layout, so that it can be copied as it is.

import CLinuxABI
import LinuxABI

/// A signal and its cause.
public struct SignalInformation: Equatable, Sendable {
  public var signal: Int32
  public var error: Int32 = 0
  public var code: Int32
  /// The union of siginfo_t, bytes 16 to 47.
  public var words: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

  public init(signal: Int32, code: Int32) {
    self.signal = signal
    self.code = code
  }

  public static func == (a: SignalInformation, b: SignalInformation) -> Bool {
    a.signal == b.signal && a.error == b.error && a.code == b.code && a.words == b.words
  }

  /// A signal that the kernel raises of itself.
  public static func kernel(_ signal: Int32) -> SignalInformation { SignalInformation(signal: signal, code: SI_KERNEL) }

  /// A signal sent by a process: kill(2) and tgkill(2) (`code` SI_TKILL).
  public static func user(_ signal: Int32, pid: Int32, uid: UInt32, code: Int32 = SI_USER) -> SignalInformation {
    var information = SignalInformation(signal: signal, code: code)
    information.words.0 = pair(UInt32(bitPattern: pid), uid)
    return information
  }

  /// A fault of the program at `address`.
  public static func fault(_ signal: Int32, code: Int32, address: UInt64) -> SignalInformation {
    var information = SignalInformation(signal: signal, code: code)
    information.words.0 = address
    return information
  }

  /// SIGCHLD; the times are in clock ticks.
  public static func child(
    signal: Int32, code: Int32, pid: Int32, uid: UInt32, status: Int32, userTicks: UInt64, systemTicks: UInt64
  ) -> SignalInformation {
    var information = SignalInformation(signal: signal, code: code)
    information.words.0 = pair(UInt32(bitPattern: pid), uid)
    information.words.1 = UInt64(UInt32(bitPattern: status))
    information.words.2 = userTicks
    information.words.3 = systemTicks
    return information
  }

  /// The expiry of a POSIX timer.
  public static func timer(_ signal: Int32, identifier: Int32, overrun: Int32, value: UInt64) -> SignalInformation {
    var information = SignalInformation(signal: signal, code: SI_TIMER)
    information.words.0 = pair(UInt32(bitPattern: identifier), UInt32(bitPattern: overrun))
    information.words.1 = value
    return information
  }

  private static func pair(_ low: UInt32, _ high: UInt32) -> UInt64 { UInt64(low) | UInt64(high) << 32 }

  public var senderPid: Int32 { Int32(truncatingIfNeeded: words.0) }
  public var senderUid: UInt32 { UInt32(truncatingIfNeeded: words.0 >> 32) }

  /// Whether the signal comes from the kernel and not from a process (si_code above 0; kill(2) has 0).
  public var isFromKernel: Bool { code > 0 }
  /// The program's own fault: it cannot be blocked or ignored away.
  var isFault: Bool {
    SignalSet.synchronous.contains(signal) && code > 0 && code != SI_KERNEL || code == SI_KERNEL && signal == SIGSEGV
  }

  /// The record as programs see it.
  public var abi: linux_siginfo {
    @export(interface)
    get {
      var result = linux_siginfo()
      result.signo = signal
      result.error = error
      result.code = code
      result.fields = words
      return result
    }
  }

  /// A record that a program handed over (rt_sigqueueinfo(2)).
  @export(interface)
  public init(_ abi: linux_siginfo, signal: Int32) {
    self.signal = signal
    error = abi.error
    code = abi.code
    words = abi.fields
  }
}

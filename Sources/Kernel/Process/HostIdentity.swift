// The names of the machine: sethostname(2), setdomainname(2).

import KernelCore
import LinuxABI

/// Host and domain name, as uname(2) and /proc/sys/kernel show them.
public enum HostIdentity {
  private struct State {
    var name: ByteString = "apus"
    var domain: ByteString = "(none)"
  }
  private static let state = SpinLock(State(), rank: .task)

  public static var name: ByteString { @export(interface) get { state.withLock { $0.name } } }
  public static var domain: ByteString { @export(interface) get { state.withLock { $0.domain } } }

  @export(interface)
  public static func setName(_ name: ByteString) { state.withLock { $0.name = name } }
  @export(interface)
  public static func setDomain(_ domain: ByteString) { state.withLock { $0.domain = domain } }
}

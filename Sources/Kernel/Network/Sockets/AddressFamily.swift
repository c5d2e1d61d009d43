// The address families: leaf rooms that make sockets. The layer knows them by number only.

import KernelCore
import LinuxABI

/// What a family offers to the layer: it makes sockets, which do the rest.
public protocol AddressFamily: AnyObject {
  /// socket(2).
  ///
  /// - Parameter type: SOCK_…, without the flags.
  /// - Throws: ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM.
  func makeSocket(_ type: Int32, protocol number: Int32) throws(Errno) -> Socket

  /// socketpair(2): connects two new sockets with each other.
  ///
  /// - Throws: EOPNOTSUPP for families without pairs.
  func connectPair(_ left: Socket, _ right: Socket) throws(Errno)
}

/// The families of this kernel.
public enum AddressFamilies {
  private struct Entry {
    var number: Int32
    var family: AddressFamily
  }
  private static let entries = SpinLock([Entry](), rank: .device)

  /// Announces a family, at boot.
  @export(interface)
  public static func register(_ number: Int32, _ family: AddressFamily) {
    entries.withLock { $0.append(Entry(number: number, family: family)) }
  }

  /// - Throws: EAFNOSUPPORT for a number that no family has.
  @export(interface)
  public static func family(_ number: Int32) throws(Errno) -> AddressFamily {
    let family = entries.withLock { entries in entries.first { $0.number == number }?.family }
    guard let family else { throw .EAFNOSUPPORT }
    return family
  }

  /// socket(2).
  ///
  /// - Throws: EAFNOSUPPORT; EINVAL for a type that cannot be; what the family throws.
  @export(interface)
  public static func makeSocket(_ number: Int32, type: Int32, protocol: Int32) throws(Errno) -> Socket {
    guard number >= 0, number < AF_MAX else { throw .EAFNOSUPPORT }
    guard type >= 0, type < SOCK_MAX else { throw .EINVAL }
    return try family(number).makeSocket(type, protocol: `protocol`)
  }

  /// socketpair(2).
  @export(interface)
  public static func makePair(_ number: Int32, type: Int32, protocol: Int32) throws(Errno) -> (Socket, Socket) {
    let left = try makeSocket(number, type: type, protocol: `protocol`)
    let right: Socket
    do throws(Errno) {
      right = try makeSocket(number, type: type, protocol: `protocol`)
      do throws(Errno) { try family(number).connectPair(left, right) } catch {
        right.close()
        throw error
      }
    } catch {
      left.close()
      throw error
    }
    return (left, right)
  }
}

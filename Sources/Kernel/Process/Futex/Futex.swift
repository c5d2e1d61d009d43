// The futex operations (futex(2)) on user addresses. Priority-inheritance futexes are not there.

import KernelCore
import LinuxABI
import Scheduling
import VirtualMemory

/// Waiting for and waking users of a word of user memory.
public enum Futex {
  private static let table = FutexTable()

  /// Whether a futex may be shared with other address spaces (FUTEX_PRIVATE_FLAG says that it is not).
  public enum Scope: Sendable { case `private`, shared }

  /// The last address that Linux takes for a program's (USER_PTR_MAX).
  private static let lastAddress: UInt64 = 0x7fff_ffff_f000

  /// The identity of the futex at `address`.
  ///
  /// - Parameter waiter: will be queued with the key, and keeps the object alive meanwhile.
  /// - Throws: EINVAL when the address isn't aligned, EFAULT when no program can have it, and when a shared one cannot be read.
  static func key(_ address: UInt64, _ scope: Scope, for waiter: FutexWaiter? = nil) throws(Errno) -> FutexKey {
    guard address & 3 == 0 else { throw .EINVAL }
    guard address <= lastAddress else { throw .EFAULT }
    guard let space = Task.running?.addressSpace else { throw .EFAULT }
    switch scope {
    case .private: return FutexKey(object: identity(ObjectIdentifier(space)), offset: address)
    case .shared:
      // The page has to be there for the program: what it cannot read names no futex.
      _ = try UserMemory.atomicLoad(address)
      let shared = try UserMemory.sharedKey(of: address)
      waiter?.holder = shared.holder
      return FutexKey(object: identity(shared.identity), offset: shared.offset)
    }
  }

  private static func identity(_ object: ObjectIdentifier) -> UInt64 { UInt64(UInt(bitPattern: object)) }

  /// FUTEX_WAIT and FUTEX_WAIT_BITSET: sleeps while the word has `expected`, until a wake-up or `deadline`.
  ///
  /// - Throws: EAGAIN when the word has another value, ETIMEDOUT, ERESTARTSYS.
  @export(interface)
  public static func wait(
    address: UInt64, expected: UInt32, bitset: UInt32, until deadline: Instant, scope: Scope
  ) throws(Errno) {
    guard bitset != 0 else { throw .EINVAL }
    guard let task = Task.running else { throw .EFAULT }
    let waiter = task.futexWaiter
    table.enqueue(waiter, try key(address, scope, for: waiter), bitset: bitset)
    defer { waiter.holder = nil }
    do throws(Errno) {
      let value = try UserMemory.atomicLoad(address)
      if value != expected { throw .EAGAIN }
      try Thread.sleep(.interruptible, until: deadline) { !waiter.isQueued }
    } catch {
      // Woken between the test and here: the wake-up counts.
      if table.dequeue(waiter) { throw error }
    }
  }

  /// FUTEX_WAKE and FUTEX_WAKE_BITSET.
  ///
  /// - Returns: how many were woken.
  @export(interface)
  public static func wake(address: UInt64, count: Int, bitset: UInt32, scope: Scope) throws(Errno) -> Int {
    guard bitset != 0 else { throw .EINVAL }
    return table.wake(try key(address, scope), count: count, bitset: bitset)
  }

  /// FUTEX_REQUEUE and, with `expected`, FUTEX_CMP_REQUEUE.
  ///
  /// - Returns: how many were woken or moved. futex(2) says that FUTEX_REQUEUE does not count those that moved; Linux
  ///   counts them (conformance program `futexes`).
  /// - Throws: EAGAIN when the word does not have the expected value.
  @export(interface)
  public static func requeue(
    from address: UInt64, wakeCount: Int, to target: UInt64, moveCount: Int, expected: UInt32?, scope: Scope
  ) throws(Errno) -> Int {
    let source = try key(address, scope)
    let destination = try key(target, scope)
    if let expected {
      let value = try UserMemory.atomicLoad(address)
      guard value == expected else { throw .EAGAIN }
    }
    let (woken, moved) = table.requeue(source, wakeCount: wakeCount, to: destination, moveCount: moveCount)
    return woken + moved
  }

  /// FUTEX_WAKE_OP: changes the word at `second` atomically, wakes waiters of `first`, and those of `second` when the
  /// old value satisfies the comparison.
  @export(interface)
  public static func wakeOperation(
    first: UInt64, firstCount: Int, second: UInt64, secondCount: Int, operation: UInt32, scope: Scope
  ) throws(Errno) -> Int {
    let firstKey = try key(first, scope)
    let secondKey = try key(second, scope)
    let encoded = FutexOperation(operation)
    var old = try UserMemory.atomicLoad(second)
    while true {
      let new = try encoded.apply(to: old)
      let found = try UserMemory.atomicCompareExchange(second, expected: old, desired: new)
      if found == old { break }
      old = found
    }
    var woken = table.wake(firstKey, count: firstCount, bitset: .max)
    if try encoded.compares(old) { woken += table.wake(secondKey, count: secondCount, bitset: .max) }
    return woken
  }
}

/// The encoded operation of FUTEX_WAKE_OP: four bits operation, four bits comparison, two signed 12-bit arguments.
struct FutexOperation: Equatable {
  let operation: UInt32
  let comparison: UInt32
  let operand: UInt32
  let comparand: Int32

  init(_ encoded: UInt32) {
    let shifts = encoded & 0x8000_0000 != 0
    operation = encoded >> 28 & 7
    comparison = encoded >> 24 & 15
    let argument = FutexOperation.signed(encoded >> 12 & 0xfff)
    operand = shifts ? 1 << (UInt32(bitPattern: argument) & 31) : UInt32(bitPattern: argument)
    comparand = FutexOperation.signed(encoded & 0xfff)
  }

  private static func signed(_ bits: UInt32) -> Int32 { Int32(bitPattern: bits << 20) >> 20 }

  func apply(to old: UInt32) throws(Errno) -> UInt32 {
    switch operation {
    case 0: operand
    case 1: old &+ operand
    case 2: old | operand
    case 3: old & ~operand
    case 4: old ^ operand
    default: throw .ENOSYS
    }
  }

  func compares(_ old: UInt32) throws(Errno) -> Bool {
    let value = Int32(bitPattern: old)
    switch comparison {
    case 0: return value == comparand
    case 1: return value != comparand
    case 2: return value < comparand
    case 3: return value <= comparand
    case 4: return value > comparand
    case 5: return value >= comparand
    default: throw .ENOSYS
    }
  }
}

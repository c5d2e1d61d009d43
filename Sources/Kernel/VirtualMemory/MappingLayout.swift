// Where a new program's mappings go (the flexible layout of Linux/x86-64).
//
//     flexible   program … heap →                        ← mappings │ gap (stack limit, guard, random) │ stack
//     legacy     program … heap →   │ a third of the space: mappings →                                   stack
//
// The gap under the stack is what its limit allows it to grow, at least 128 MiB and at most five sixths of the space; so
// an unlimited stack takes those five sixths. Legacy is for programs that want rising addresses: personality(2) with
// ADDR_COMPAT_LAYOUT, or /proc/sys/vm/legacy_va_layout.

import LinuxABI
import Synchronization

/// The begin and the direction of a program's mappings.
public struct MappingLayout: Equatable, Sendable {
  public enum Direction: Sendable { case down, up }

  public var base: UInt64
  public var direction: Direction

  /// - Parameters:
  ///   - stackLimit: RLIMIT_STACK in bytes.
  ///   - random: bytes by which the base is moved; nil when addresses are to be the same each time.
  @export(interface)
  public static func flexible(userLimit: UInt64, stackLimit: UInt64, random: UInt64?) -> MappingLayout {
    // The stack itself begins up to 16 GiB below the end of the space.
    let slack = VirtualMemoryArea.guardGap &+ (random == nil ? 0 : 16 << 30)
    let (sum, overflow) = stackLimit.addingReportingOverflow(slack)
    let gap = min(max(overflow ? stackLimit : sum, 128 << 20), userLimit / 6 &* 5)
    return MappingLayout(base: (userLimit &- gap &- (random ?? 0) &+ pageMask) & ~pageMask, direction: .down)
  }

  @export(interface)
  public static func legacy(userLimit: UInt64, random: UInt64?) -> MappingLayout {
    MappingLayout(base: ((userLimit / 3 &+ pageMask) & ~pageMask) &+ (random ?? 0), direction: .up)
  }

  // MARK: Parameters

  private static let legacyValue = Atomic<Bool>(false)
  private static let randomizationValue = Atomic<Int>(2)

  /// /proc/sys/vm/legacy_va_layout.
  public static var isLegacyByDefault: Bool {
    @export(interface) get { legacyValue.load(ordering: .relaxed) }
    @export(interface) set { legacyValue.store(newValue, ordering: .relaxed) }
  }

  /// /proc/sys/kernel/randomize_va_space: 0 nothing, 1 all but the heap, 2 the heap too.
  public static var randomization: Int {
    @export(interface) get { randomizationValue.load(ordering: .relaxed) }
    @export(interface) set { randomizationValue.store(newValue, ordering: .relaxed) }
  }
}

// Where the parts of a new program go: how much of it is random, and in which direction its mappings grow. What
// personality(2) and /proc/sys say about it comes together here.

import KernelCore
import LinuxABI
import VirtualMemory

/// The choices for one execve(2).
struct ProgramPlacement {
  private let isRandom: Bool
  private let isLegacy: Bool

  init(personality: UInt32) {
    isRandom = personality & ADDR_NO_RANDOMIZE == 0 && MappingLayout.randomization != 0
    isLegacy = personality & ADDR_COMPAT_LAYOUT != 0 || MappingLayout.isLegacyByDefault
  }

  /// `pages` is a mask of the random bits, in pages.
  private func random(pages: UInt64) -> UInt64? { isRandom ? (Random.next() & pages) &* pageSize : nil }

  /// Up to 16 GiB below the end of the space.
  var stackTop: UInt64 { (AddressSpace.userLimit &- (random(pages: 0x3f_ffff) ?? 0)) & ~15 }

  /// Mappings move by up to a terabyte.
  func mappings(stackLimit: UInt64) -> MappingLayout {
    let random = random(pages: 0xfff_ffff)
    return isLegacy
      ? .legacy(userLimit: AddressSpace.userLimit, random: random)
      : .flexible(userLimit: AddressSpace.userLimit, stackLimit: stackLimit, random: random)
  }

  /// Programs that may lie anywhere go two thirds up, plus up to a terabyte.
  var programBase: UInt64 { (AddressSpace.userLimit / 3 &* 2 &+ (random(pages: 0xfff_ffff) ?? 0)) & ~4095 }

  /// The heap begins up to 32 MiB behind the program.
  var breakGap: UInt64 { MappingLayout.randomization < 2 ? 0 : random(pages: 0x1fff) ?? 0 }
}

extension Process {
  /// What is left of the personality when a program gains privileges: nothing that makes it easier to attack.
  var securePersonality: UInt32 {
    personality & ~(READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO)
  }
}

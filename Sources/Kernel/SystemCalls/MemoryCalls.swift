// The memory of the caller: mmap(2) and its family. The calls check what concerns arguments and files; the space does
// the rest.

import FileSystem
import Identity
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// Mapping, protecting, locking, advising.
public enum MemoryCalls {
  @export(interface)
  public static func table() -> [SystemCall] {
    [
      SystemCall(
        9, "mmap", .partial("huge pages of 2 MiB only"), "address:p length:u protection:P flags:M fd:d offset:u", mmap),
      SystemCall(10, "mprotect", .full, "address:p length:u protection:P") { frame throws(Errno) in
        try protect(frame.addressSpace, frame.a0, frame.a1, frame.a2)
      },
      SystemCall(11, "munmap", .full, "address:p length:u") { frame throws(Errno) in
        try frame.addressSpace.unmap(frame.a0, frame.a1)
        return 0
      },
      SystemCall(12, "brk", .full, "address:p") { frame throws(Errno) in
        Int64(bitPattern: frame.addressSpace.setBreak(frame.a0))
      },
      SystemCall(25, "mremap", .full, "address:p old_length:u new_length:u flags:x target:p", mremap),
      SystemCall(26, "msync", .full, "address:p length:u flags:x", msync),
      SystemCall(27, "mincore", .full, "address:p length:u result:p", mincore),
      SystemCall(
        28, "madvise", .partial("MADV_FREE frees at once; MADV_COLLAPSE is for private memory; merging has no effect"),
        "address:p length:u advice:i", madvise),
      SystemCall(149, "mlock", .full, "address:p length:u") { frame throws(Errno) in
        try frame.addressSpace.lock(
          frame.a0, frame.a1, onFault: .now, isPrivileged: frame.credentials.has(.lockMemory))
        return 0
      },
      SystemCall(150, "munlock", .full, "address:p length:u") { frame throws(Errno) in
        try frame.addressSpace.unlock(frame.a0, frame.a1)
        return 0
      },
      SystemCall(151, "mlockall", .full, "flags:x", mlockall),
      SystemCall(152, "munlockall", .full, "") { frame throws(Errno) in
        frame.addressSpace.unlockAll()
        return 0
      },
      SystemCall(325, "mlock2", .full, "address:p length:u flags:x") { frame throws(Errno) in
        guard frame.a2 & ~MLOCK_ONFAULT == 0 else { throw .EINVAL }
        try frame.addressSpace.lock(
          frame.a0, frame.a1, onFault: frame.a2 == MLOCK_ONFAULT ? .onFault : .now,
          isPrivileged: frame.credentials.has(.lockMemory))
        return 0
      },
      SystemCall(329, "pkey_mprotect", .partial("no protection keys"), "address:p length:u protection:P key:i") {
        frame throws(Errno) in
        // pkeys(7): key -1 makes it mprotect, on processors without keys too.
        guard frame.int(3) == -1 else { throw .EINVAL }
        return try protect(frame.addressSpace, frame.a0, frame.a1, frame.a2)
      },
      SystemCall(330, "pkey_alloc", .partial("no protection keys"), "flags:x rights:x") { frame throws(Errno) in
        guard frame.a0 == 0, frame.a1 & ~3 == 0 else { throw .EINVAL }
        throw .ENOSPC
      },
      SystemCall(331, "pkey_free", .partial("no protection keys"), "key:i") { _ throws(Errno) in throw .EINVAL },
    ]
  }

  private static func protection(_ bits: UInt64) -> Protection {
    Protection(rawValue: UInt8(truncatingIfNeeded: bits & (PROT_READ | PROT_WRITE | PROT_EXEC)))
  }

  // MARK: mmap

  static func mmap(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let bits = frame.a3
    let protection = protection(frame.a2)
    guard frame.a5 & (pageSize - 1) == 0 else { throw .EINVAL }
    var flags = try mappingFlags(bits)
    let wantsHuge = bits & MAP_HUGETLB != 0
    var object: MemoryObject?
    var source: (any MappingSource)?
    var maximum: Protection = .all
    if bits & MAP_ANONYMOUS == 0 {
      let use = try frame.descriptors.getForUse(frame.int(4))
      let file = use.file
      guard frame.a1 != 0 else { throw .EINVAL }
      let largest = UInt64(Int64.max)
      guard file.inode.kind != .regular || frame.a1 <= largest && frame.a5 <= largest &- frame.a1 else {
        throw .EOVERFLOW
      }
      maximum = try permitted(file, protection, isShared: flags.contains(.shared))
      if flags.contains(.growsDown), flags.contains(.shared) { throw .EINVAL }
      object = try file.mapping(offset: frame.a5, length: frame.a1)
      // The file decides.
      guard !wantsHuge || object?.isHuge == true else { throw .EINVAL }
      source = FileMapping.source(of: file)
    } else if flags.contains(.growsDown), flags.contains(.shared) {
      throw .EINVAL
    }
    if wantsHuge, object == nil {
      guard isHugePageSize(bits >> MAP_HUGE_SHIFT & MAP_HUGE_MASK) else { throw .EINVAL }
      flags.insert(.hugeTLB)
    }
    let locks = bits & MAP_LOCKED != 0
    let isPrivileged = frame.credentials.has(.lockMemory)
    if locks, !isPrivileged {
      guard frame.addressSpace.limits.locked > 0 else { throw .EPERM }
      flags.insert(.locked)
    }
    // The offset of anonymous memory says nothing.
    let address = try frame.addressSpace.map(
      at: frame.a0, length: frame.a1, protection: protection, maximum: maximum, flags: flags, object: object,
      offset: object == nil ? 0 : frame.a5, source: source)
    if locks, isPrivileged {
      // mmap(2): a failure to bring pages in is not reported.
      try? frame.addressSpace.lock(address, frame.a1, onFault: .now, isPrivileged: true)
    }
    return Int64(bitPattern: address)
  }

  /// Whether there are huge pages of this size, given as its binary logarithm; 0 is the default.
  static func isHugePageSize(_ logarithm: UInt64) -> Bool { logarithm == 0 || logarithm == 21 }

  private static func mappingFlags(_ bits: UInt64) throws(Errno) -> MappingFlags {
    var flags: MappingFlags = []
    switch bits & MAP_TYPE {
    case MAP_PRIVATE: break
    case MAP_SHARED: flags.insert(.shared)
    case MAP_SHARED_VALIDATE:
      let known =
        MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT | MAP_GROWSDOWN | MAP_DENYWRITE | MAP_EXECUTABLE
        | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_FIXED_NOREPLACE
        | MAP_HUGE_MASK << MAP_HUGE_SHIFT
      // MAP_SYNC among the unknown: no memory here is persistent.
      guard bits & ~known == 0 else { throw .EOPNOTSUPP }
      guard bits & MAP_ANONYMOUS == 0 else { throw .EINVAL }
      flags.insert(.shared)
    default: throw .EINVAL
    }
    if bits & MAP_FIXED != 0 { flags.insert(.fixed) }
    if bits & MAP_FIXED_NOREPLACE != 0 {
      flags.remove(.fixed)
      flags.insert(.fixedNoReplace)
    }
    if bits & MAP_GROWSDOWN != 0 { flags.insert(.growsDown) }
    if bits & MAP_NORESERVE != 0 { flags.insert(.noReserve) }
    // MAP_STACK has no effect on Linux; the flag of the same name here counts pages for RLIMIT_STACK's VmStk.
    if bits & MAP_POPULATE != 0, bits & MAP_NONBLOCK == 0 { flags.insert(.populate) }
    if bits & MAP_32BIT != 0 { flags.insert(.low) }
    return flags
  }

  /// What the file's access mode, seals and mount allow the mapping to become.
  private static func permitted(
    _ file: OpenFile, _ protection: Protection, isShared: Bool
  ) throws(Errno) -> Protection {
    guard file.flags.allowsReading else { throw .EACCES }
    var maximum: Protection = .all
    if isShared, !file.flags.allowsWriting {
      guard !protection.contains(.write) else { throw .EACCES }
      maximum.remove(.write)
    } else if isShared, try file.inode.isAppendOnly() {
      throw .EACCES
    }
    if isShared, file.inode.seals?.allowWriting == false {
      guard !protection.contains(.write) else { throw .EPERM }
      maximum.remove(.write)
    }
    if file.path.mount.flags.contains(.noExecute) {
      guard !protection.contains(.execute) else { throw .EPERM }
      maximum.remove(.execute)
    }
    return maximum
  }

  private static func protect(
    _ space: AddressSpace, _ address: UInt64, _ length: UInt64, _ bits: UInt64
  ) throws(Errno) -> Int64 {
    let known = PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN | PROT_GROWSUP
    guard bits & ~known == 0 else { throw .EINVAL }
    // No area grows upwards on this processor.
    guard bits & PROT_GROWSUP == 0 else { throw .EINVAL }
    try space.protect(
      address, length, protection(bits), extent: bits & PROT_GROWSDOWN == 0 ? .range : .fromAreaStart)
    return 0
  }

  // MARK: mremap, msync, mincore

  static func mremap(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a3 & ~(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) == 0 else { throw .EINVAL }
    let address = try frame.addressSpace.remap(
      frame.a0, oldLength: frame.a1, newLength: frame.a2,
      options: RemapOptions(rawValue: UInt8(truncatingIfNeeded: frame.a3)), target: frame.a4)
    return Int64(bitPattern: address)
  }

  static func msync(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a2 & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC) == 0, frame.a2 & (MS_ASYNC | MS_SYNC) != MS_ASYNC | MS_SYNC
    else { throw .EINVAL }
    try frame.addressSpace.sync(
      frame.a0, frame.a1, frame.a2 & MS_SYNC != 0 ? .wait : .schedule, invalidating: frame.a2 & MS_INVALIDATE != 0)
    return 0
  }

  static func mincore(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    guard frame.a0 & (pageSize - 1) == 0 else { throw .EINVAL }
    guard frame.a1 <= AddressSpace.userLimit else { throw .ENOMEM }
    // In pieces, so that a large range needs no large array.
    var position = frame.a0
    var result = frame.a2
    var left = frame.a1
    var bytes: [UInt8] = []
    while left > 0 {
      let part = min(left, 4096 * pageSize)
      bytes.removeAll(keepingCapacity: true)
      try frame.addressSpace.residency(position, part, &bytes)
      try UserMemory.copyOut(to: result, bytes)
      Thread.checkReschedule()
      // The answer is whole or none: a signal that ends the program is the only one that is not waited for.
      if frame.task.hasFatalSignal { throw .EINTR }
      position = position &+ part
      result = result &+ UInt64(bytes.count)
      left -= part
    }
    return 0
  }

  // MARK: madvise, mlockall

  static func madvise(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    try frame.addressSpace.advise(frame.a0, frame.a1, advice(frame.a2 & 0xffff_ffff))
    return 0
  }

  /// What a number of madvise(2) means.
  ///
  /// - Throws: EINVAL.
  static func advice(_ number: UInt64) throws(Errno) -> MemoryAdvice {
    switch number {
    case MADV_NORMAL: .normal
    case MADV_RANDOM: .random
    case MADV_SEQUENTIAL: .sequential
    case MADV_WILLNEED: .willNeed
    case MADV_DONTNEED: .discard
    case MADV_FREE: .free
    case MADV_REMOVE: .remove
    case MADV_DONTFORK: .dontInherit
    case MADV_DOFORK: .inherit
    case MADV_HUGEPAGE: .hugePages
    case MADV_NOHUGEPAGE: .noHugePages
    case MADV_COLLAPSE: .collapse
    case MADV_DONTDUMP: .dontDump
    case MADV_DODUMP: .dump
    case MADV_WIPEONFORK: .wipeOnFork
    case MADV_KEEPONFORK: .keepOnFork
    case MADV_COLD: .cold
    case MADV_PAGEOUT: .pageOut
    case MADV_MERGEABLE, MADV_UNMERGEABLE: .ignored
    case MADV_POPULATE_READ: .populateForReading
    case MADV_POPULATE_WRITE: .populateForWriting
    default: throw .EINVAL
    }
  }

  static func mlockall(_ frame: inout SystemCallFrame) throws(Errno) -> Int64 {
    let flags = frame.a0
    guard flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0, flags & (MCL_CURRENT | MCL_FUTURE) != 0 else {
      throw .EINVAL
    }
    try frame.addressSpace.lockAll(
      current: flags & MCL_CURRENT != 0, future: flags & MCL_FUTURE != 0,
      onFault: flags & MCL_ONFAULT != 0 ? .onFault : .now, isPrivileged: frame.credentials.has(.lockMemory))
    return 0
  }
}

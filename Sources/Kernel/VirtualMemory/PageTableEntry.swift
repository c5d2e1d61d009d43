// One word of a page table, in the format of the processor (Intel SDM volume 3A, section 5.5, "4-Level Paging"; AMD64 APM
// volume 2, section 5.3). The processor ignores bits 9–11 and 52–58: they hold what Apus remembers of a page.

import Machine
import PhysicalMemory

/// An entry of a page table: zero, or a frame with its rights.
struct PageTableEntry: Equatable {
  var word: UInt64

  @inline(__always)
  init(word: UInt64) { self.word = word }

  static var empty: PageTableEntry { PageTableEntry(word: 0) }

  // The processor's bits.
  static var present: UInt64 { 1 << 0 }
  static var writable: UInt64 { 1 << 1 }
  static var user: UInt64 { 1 << 2 }
  static var accessed: UInt64 { 1 << 5 }
  static var dirty: UInt64 { 1 << 6 }
  static var noExecute: UInt64 { 1 << 63 }
  static var frameMask: UInt64 { 0x000f_ffff_ffff_f000 }

  // Ours.
  /// The frame belongs to the area's memory object; otherwise it is anonymous memory of the process.
  static var objectPage: UInt64 { 1 << 9 }
  /// The frame is not counted: the page of zeros, or memory that the kernel owns.
  static var uncounted: UInt64 { 1 << 10 }
  /// A frame is held here although the area permits no access (PROT_NONE): the present bit is clear.
  static var inaccessible: UInt64 { 1 << 11 }
  /// Upper levels: the table below may be shared with other trees and is copied before it is changed. The entry has no
  /// right to write then.
  static var copiedOnWrite: UInt64 { 1 << 9 }
  /// There is no frame: the page is on a swap area, under the name that stands in the frame's place. Also uncounted.
  static var swapped: UInt64 { 1 << 52 }
  /// Upper levels: the table below belongs to a memory object; all who map the object there use and change it.
  static var objectTable: UInt64 { 1 << 10 }

  /// A reference from an upper level to the table in `frame`: rights are decided at the last level.
  @inline(__always)
  init(table frame: PageFrameNumber) {
    word = frame.rawValue << 12 | Self.present | Self.writable | Self.user | Self.accessed
  }

  /// A reference to an object's table.
  @inline(__always)
  init(objectTable frame: PageFrameNumber) {
    self.init(table: frame)
    word |= Self.objectTable
  }

  /// Upper levels: the same table, to be copied before it is changed. An object's table stays shared as it is.
  @inline(__always)
  var sharingTable: PageTableEntry {
    isObjectTable ? self : PageTableEntry(word: word & ~Self.writable | Self.copiedOnWrite)
  }
  /// Upper levels: see `objectTable`.
  @inline(__always)
  var isObjectTable: Bool { word & Self.objectTable != 0 }
  /// Upper levels: see `copiedOnWrite`.
  @inline(__always)
  var isTableCopiedOnWrite: Bool { word & Self.copiedOnWrite != 0 }

  /// The entry as it counts in a table that is copied on write: private pages are read-only, whatever their own bit says.
  /// A shared mapping's pages belong to the object and not to the table.
  @inline(__always)
  var inSharedTable: PageTableEntry { isObjectPage ? self : PageTableEntry(word: word & ~Self.writable) }

  /// A page. `marks` are bits of ours, and `dirty`.
  @inline(__always)
  init(frame: PageFrameNumber, protection: Protection, isWritable: Bool, marks: UInt64) {
    var word = frame.rawValue << 12 | marks | Self.user
    if protection.isEmpty {
      word |= Self.inaccessible
    } else {
      word |= Self.present | Self.accessed
      if isWritable && protection.contains(.write) { word |= Self.writable }
      if !protection.contains(.execute) { word |= Self.noExecute }
    }
    self.word = word
  }

  /// A page on a swap area.
  @inline(__always)
  init(swap entry: SwapEntry) { word = entry.rawValue << 12 | Self.swapped | Self.uncounted }

  var isEmpty: Bool { word == 0 }
  var isPresent: Bool { word & Self.present != 0 }
  var isAccessed: Bool { word & Self.accessed != 0 }
  var isWritable: Bool { word & Self.writable != 0 }
  var isExecutable: Bool { word & Self.noExecute == 0 }
  var isObjectPage: Bool { word & Self.objectPage != 0 }
  var isCounted: Bool { word & Self.uncounted == 0 }
  var isSwapped: Bool { word & Self.swapped != 0 }
  /// There is a frame, not only the name of a page on a swap area.
  var isResident: Bool { word != 0 && !isSwapped }
  var frame: PageFrameNumber { PageFrameNumber((word & Self.frameMask) >> 12) }
  var swapEntry: SwapEntry { SwapEntry(rawValue: (word & Self.frameMask) >> 12) }
  func holds(_ frame: PageFrameNumber) -> Bool { isResident && isCounted && self.frame == frame }

  /// Whether the processor would let a user program do this.
  @inline(__always)
  func permits(_ access: Access) -> Bool {
    switch access {
    case .read: isPresent
    case .write: word & (Self.present | Self.writable) == Self.present | Self.writable
    case .execute: isPresent && isExecutable
    }
  }

  /// Whether a debugger may do this in place: reading any page that is there, writing one that is the program's alone.
  func permitsDebugger(_ access: Access) -> Bool {
    guard isResident else { return false }
    if access != .write { return true }
    return !isObjectPage && isCounted && Frames.isExclusive(frame)
  }

  /// The rights to offer to the machine.
  var machineProtection: Protection {
    var protection: Protection = .read
    if isWritable { protection.insert(.write) }
    if isExecutable { protection.insert(.execute) }
    return protection
  }

  /// What a mapping command says of the page: the rights, and whether it is the code of a file.
  var machineRights: UInt64 {
    let rights = UInt64(machineProtection.rawValue)
    return isObjectPage && isExecutable && !isWritable ? rights | UInt64(MACHINE_MAP_TEXT) : rights
  }

  /// The same page under other rights of its area. Write access is not granted here: a fault decides about copying.
  @inline(__always)
  func with(protection: Protection, keepingWritable: Bool) -> PageTableEntry {
    PageTableEntry(
      frame: frame, protection: protection, isWritable: keepingWritable && isWritable,
      marks: word & (Self.dirty | Self.objectPage | Self.uncounted))
  }
}

extension PageTableEntry {
  /// Gives up what an entry held that was taken out of its table: a frame, or a place on a swap area.
  func release() {
    if isSwapped { SwapSpace.release(swapEntry) }
    guard isCounted else { return }
    if !isObjectPage { Counters.add(-1, to: Counters.anonymousPages) }
    Frames.release(frame)
  }
}

// /proc/PID/pagemap (proc(5); admin-guide/mm/pagemap of the Linux documentation): a word of 64 bits for each page of an
// address space, from address 0 on. Read where it is of interest: a space has 2³⁵ pages.

import FileSystem
import Identity
import LinuxABI
import Process
import Scheduling
import VirtualMemory

/// The inode.
final class ProcPageMap: ProcInode {
  fileprivate let reference: TaskReference

  init(_ superblock: Superblock, _ number: UInt64, _ reference: TaskReference) {
    self.reference = reference
    super.init(superblock, number, .regular, 0o400, reference)
  }

  override func open(_ flags: OpenFlags, path: Path, by caller: Caller) throws(Errno) -> OpenFile {
    // Where in the machine's memory a page is helps attackers: for the administrator alone.
    PageMapFile(
      path: path, flags: flags, try ProgramReference(reference, by: caller),
      showsFrames: caller.credentials.has(.systemAdministration))
  }
}

/// The open file. It keeps no address space: after execve(2) it is empty.
final class PageMapFile: OpenFile {
  private let program: ProgramReference
  private let showsFrames: Bool

  /// Bytes of a page's word.
  private static let wordSize: UInt64 = 8
  /// Pages looked at with the tables locked once.
  private static let pagesAtOnce: UInt64 = 512

  fileprivate init(path: Path, flags: OpenFlags, _ program: ProgramReference, showsFrames: Bool) {
    self.program = program
    self.showsFrames = showsFrames
    super.init(path: path, flags: flags, isSeekable: true)
  }

  override func read(_ buffer: inout TransferBuffer, at offset: UInt64?) throws(Errno) -> Int {
    try atPosition(offset) { place throws(Errno) in try read(&buffer, from: place) }
  }

  private func read(_ buffer: inout TransferBuffer, from offset: UInt64) throws(Errno) -> Int {
    guard offset <= UInt64(Int64.max), offset % Self.wordSize == 0, UInt64(buffer.remaining) % Self.wordSize == 0 else {
      throw .EINVAL
    }
    // A program that has gone has no pages.
    guard let space = try? program.space() else { return 0 }
    let end = AddressSpace.userPages
    var page = offset / Self.wordSize
    return try buffer.transfer { buffer throws(Errno) in
      while buffer.remaining > 0, page < end {
        if Thread.current.hasFatalSignal { throw .EINTR }
        let count = min(UInt64(buffer.remaining) / Self.wordSize, Self.pagesAtOnce, end - page)
        try buffer.copyOut(space.pageMap(page..<page + count, showsFrames: showsFrames))
        page += count
        Thread.checkReschedule()
      }
    }
  }

  override func seek(_ offset: Int64, from whence: Int32) throws(Errno) -> UInt64 {
    try seekAddress(offset, from: whence)
  }
}

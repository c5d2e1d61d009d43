// Lending pages: a program's page is given away by reference and read later, maybe by another process and maybe when the program
// has long gone (vmsplice(2)). It is held as a device's is, by a pin: it stays in memory and in place, and fork copies it
// for the child. What the program writes to it later, the borrower sees.

import KernelCore
import LinuxABI
import PhysicalMemory

/// What became of the front of a buffer that is to be lent.
public enum Lending {
  /// `count` bytes of the page, from `offset` on, are lent: the buffer has passed over them.
  case lent(PageFrameNumber, offset: Int, count: Int)
  /// The next `count` bytes lie in a page that cannot be lent, and are the borrower's to copy.
  case refused(count: Int)
}

/// Lent pages in the hands of the borrower.
public enum LentPage {
  /// The page has another borrower, who has to give it back too.
  ///
  /// - Returns: false when it has too many.
  @export(interface)
  public static func retain(_ page: PageFrameNumber) -> Bool { AddressSpace.pinAgain(page) }

  /// The borrower has done with the page.
  @export(interface)
  public static func release(_ page: PageFrameNumber) { page.frame.release(count: Frames.pinBias) }
}

extension TransferBuffer {
  /// Lends the page at the front of the buffer, or the part of it that belongs to the buffer.
  ///
  /// - Throws: EFAULT, ENOMEM; EINVAL for an empty buffer.
  /// - Locks: may fault, and so sleep.
  @export(interface)
  public mutating func lendPage() throws(Errno) -> Lending {
    var result: Lending?
    try forEachUserPiece { space, address, count throws(Errno) in
      result = try space.lendPage(at: address, limit: count)
      return false
    }
    guard let result else { throw .EINVAL }
    if case .lent(_, _, let count) = result { try skip(count) }
    return result
  }
}

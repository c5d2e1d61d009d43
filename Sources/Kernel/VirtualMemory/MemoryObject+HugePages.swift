// Memory objects of huge pages: shared anonymous memory that was mapped with MAP_HUGETLB, and files of hugetlbfs. The
// tree holds their 4 KiB frames as any other's, always all 512 of a huge page or none.

import DataStructures
import KernelCore
import LinuxABI
import PhysicalMemory
import Scheduling
import Synchronization

/// The size of a huge page, and what follows from it.
enum HugePage {
  static var size: UInt64 { frames &* pageSize }
  static var frames: UInt64 { UInt64(HugePagePool.framesPerPage) }
  static var mask: UInt64 { size &- 1 }

  static func roundedUp(_ value: UInt64) -> UInt64? {
    let (sum, overflow) = value.addingReportingOverflow(mask)
    return overflow ? nil : sum & ~mask
  }
}

/// What an object of huge pages has besides its pages.
public final class HugePageSupply {
  let budget: HugePageBudget?
  /// The huge pages, by number within the object, that are promised and not there yet. The lock also serialises making
  /// pages: two threads must not take two promises for one page.
  let promised = Mutex<Set<UInt64>>([], rank: .hugeFaults)
  /// Frames that left the object and are not accounted for in the budget yet.
  let leaving = Atomic<Int>(0)

  /// - Parameter budget: nil for one without limit.
  @export(interface)
  public init(budget: HugePageBudget?) { self.budget = budget }
}

extension MemoryObject {
  /// Whether the object is made of huge pages.
  public var isHuge: Bool { @inline(__always) get { huge != nil } }

  /// The number of huge pages in memory.
  public var residentHugePages: Int { @export(interface) get { residentPages / HugePagePool.framesPerPage } }

  /// Promises the huge pages of a range that are not there yet.
  ///
  /// - Throws: ENOMEM.
  @export(interface)
  public func promiseHugePages(_ numbers: Range<UInt64>) throws(Errno) {
    guard let huge else { return }
    try huge.promised.withLock { promised throws(Errno) in
      var wanted: [UInt64] = []
      for number in numbers where !promised.contains(number) && !isResident(number &* HugePage.frames) {
        // More than the pool could ever hold is refused before it costs memory.
        guard wanted.count <= HugePagePool.statistics.total + HugePagePool.surplusLimit else { throw .ENOMEM }
        wanted.append(number)
      }
      guard !wanted.isEmpty else { return }
      let unassured = try huge.budget?.charge(wanted.count) ?? wanted.count
      do throws(Errno) { try HugePagePool.reserve(unassured) } catch {
        huge.budget?.undoCharge(wanted.count, unassured: unassured)
        throw error
      }
      promised.formUnion(wanted)
    }
  }

  /// Takes back the promises from a huge page on.
  private func dropPromises(_ numbers: Range<UInt64>) {
    guard let huge else { return }
    huge.promised.withLock { promised in
      let dropped = promised.filter { numbers.contains($0) }
      guard !dropped.isEmpty else { return }
      promised.subtract(dropped)
      HugePagePool.unreserve(huge.budget?.refund(dropped.count) ?? dropped.count)
    }
  }

  /// The first frame of the huge page that begins at `index`, made if it is absent. No reference comes with it: the
  /// caller compares versions under its table lock (see `AddressSpace.fillHuge`).
  ///
  /// - Throws: EFAULT beyond the end, ENOMEM when the pool is empty or the budget used up.
  @export(interface)
  public func hugePage(_ index: UInt64) throws(Errno) -> PageFrameNumber? {
    guard let huge else { throw .EINVAL }
    return try huge.promised.withLock { promised throws(Errno) in
      if let frame = try residentHugePage(index) { return frame }
      let number = index / HugePage.frames
      var isPromised = promised.remove(number) != nil
      if !isPromised, let budget = huge.budget { isPromised = try budget.charge(1) == 0 }
      let frame: PageFrameNumber
      do throws(Errno) { frame = try HugePagePool.take(isPromised ? .reserved : .unreserved) } catch {
        huge.budget?.undoCharge(1, unassured: 1)
        throw error
      }
      let isInserted = pages.withLock { pages in
        // Truncation changes the size before it removes pages.
        guard index < pageCount else { return false }
        for offset in 0..<HugePagePool.framesPerPage {
          pages.insert(frame.advanced(by: offset), at: index &+ UInt64(offset), busy: false)
        }
        return true
      }
      guard isInserted else {
        for offset in 0..<HugePagePool.framesPerPage { Frames.release(frame.advanced(by: offset)) }
        huge.budget?.didFree(1)
        throw .EFAULT
      }
      countPages(HugePagePool.framesPerPage)
      return frame
    }
  }

  /// The same if it is there; nil for a hole.
  ///
  /// - Throws: EFAULT beyond the end.
  func residentHugePage(_ index: UInt64) throws(Errno) -> PageFrameNumber? {
    guard index < pageCount else { throw .EFAULT }
    return pages.withLock { pages in
      guard case .ready(let frame) = pages.find(index) else { return nil }
      return frame
    }
  }

  /// Frames have left the object: called when nothing of the object's refers to them any more.
  func settleHugePages(dropping numbers: Range<UInt64>) {
    guard let huge else { return }
    dropPromises(numbers)
    let frames = huge.leaving.exchange(0, ordering: .relaxed)
    huge.budget?.didFree(frames / HugePagePool.framesPerPage)
  }

  /// Makes [offset, offset + length) read as zeros, giving back whole huge pages (fallocate(2), FALLOC_FL_PUNCH_HOLE).
  @export(interface)
  public func punchHugeHole(from offset: UInt64, length: UInt64) {
    let end = min(offset &+ min(length, UInt64.max &- offset), size)
    guard isHuge, offset < end else { return }
    let first = HugePage.roundedUp(offset) ?? end
    let last = end & ~HugePage.mask
    if first < last { dropPages(from: first / pageSize, to: last / pageSize) }
    clearBytes(offset, min(first, end))
    clearBytes(max(last, min(first, end)), end)
  }

  private func clearBytes(_ start: UInt64, _ end: UInt64) {
    var position = start
    while position < end {
      let stop = min((position | pageMask) &+ 1, end)
      clear(position, stop)
      position = stop
    }
  }
}

// Bringing pages back from swap, with those that lie around them on the device: they left memory together.
//
// SAFETY: a buffer of frame numbers is handed to the device for the time of the call; the frames are held by the caller.

import KernelCore
import LinuxABI
import PhysicalMemory

enum SwapIn {
  /// Pages that are read with the one that is wanted: an aligned group (/proc/sys/vm/page-cluster: 3).
  private static var cluster: Int { 8 }

  /// The page of `entry`, in the swap cache, with a reference for the caller. May sleep.
  ///
  /// - Parameters:
  ///   - options: for the page's own frame.
  ///   - onRead: called when the device has to be read.
  /// - Returns: nil when no entry names the slot any more.
  /// - Throws: ENOMEM; EIO and what else the device says.
  static func page(
    _ entry: SwapEntry, options: AllocationOptions = [], onRead: () -> Void = {}
  ) throws(Errno) -> PageFrameNumber? {
    while true {
      switch SwapSpace.lookUp(entry) {
      case .ready(let frame):
        if !frame.frame.flags.contains(.referenced) { frame.frame.set(.referenced) }
        return frame
      case .free: return nil
      case .busy: SwapSpace.waitUntilReady(entry)
      case .stored:
        onRead()
        try read(entry, options)
      }
    }
  }

  /// Reads the slot, and neighbours that are in use and not in memory, as far as there is memory for them.
  private static func read(_ entry: SwapEntry, _ options: AllocationOptions) throws(Errno) {
    guard let device = SwapSpace.device(entry) else { throw .EIO }
    // Of the page's own frame nothing is left to free: the reserve, which swap-out lives on, may not be used up.
    let wanted = options.isEmpty ? try Frames.allocate() : try FrameAllocator.allocate(options: options.union(.movable))
    defer { Frames.release(wanted) }
    guard SwapSpace.beginRead(entry, wanted) else { return }
    var numbers = InlineArray<16, PageFrameNumber>(repeating: PageFrameNumber(0))
    var count = 1
    // The run is built around the wanted page, in both directions within its group.
    let group = entry.slot & ~(cluster - 1)
    var first = entry
    var place = cluster
    numbers[place] = wanted
    let isShort = FrameAllocator.isExhausted
    while !isShort, first.slot > max(1, group), let frame = begin(first.advanced(by: -1)) {
      first = first.advanced(by: -1)
      place -= 1
      numbers[place] = frame
      count += 1
    }
    while !isShort, first.slot + count < group + cluster, let frame = begin(first.advanced(by: count)) {
      numbers[place + count] = frame
      count += 1
    }
    var failure: Errno?
    do throws(Errno) {
      try unsafe withUnsafePointer(to: &numbers) { pointer throws(Errno) in
        let start = unsafe UnsafeRawPointer(pointer).assumingMemoryBound(to: PageFrameNumber.self) + place
        try unsafe device.readSwap(slot: first.slot, frames: UnsafeBufferPointer(start: start, count: count))
      }
    } catch {
      failure = error
    }
    for index in 0..<count {
      let frame = numbers[place + index]
      if failure == nil {
        PageLists.add(frame, [.anonymous, .swapBacked], active: false)
        SwapSpace.finish(first.advanced(by: index), .kept)
      } else {
        SwapSpace.cancelRead(first.advanced(by: index))
      }
      if frame != wanted { Frames.release(frame) }
    }
    if let failure { throw failure }
    ReclaimCounters.add(count, to: ReclaimCounters.swappedIn)
  }

  /// A frame under a neighbour's slot, if it is worth reading.
  private static func begin(_ entry: SwapEntry) -> PageFrameNumber? {
    guard SwapSpace.isStored(entry), let frame = try? Frames.allocate() else { return nil }
    if SwapSpace.beginRead(entry, frame) { return frame }
    Frames.release(frame)
    return nil
  }
}

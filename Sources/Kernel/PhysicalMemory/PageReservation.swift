// Frames put aside by their user: for paths that must get through without memory, and sleep on their way, such as
// writing to swap.

import KernelCore
import LinuxABI

/// A stock of single frames of one owner. What is left when it ends goes back.
public struct PageReservation: ~Copyable {
  private var head: PageFrameNumber?
  /// Frames that can be taken.
  public private(set) var count = 0
  private let memory: PhysicalMemory

  /// An empty stock.
  @export(interface) public init() { self.init(PhysicalMemory.system) }

  init(_ memory: PhysicalMemory) { self.memory = memory }

  /// Fills the stock up to `wanted` frames; on failure it keeps what it has.
  ///
  /// - Throws: ENOMEM.
  @export(interface) public mutating func fill(_ wanted: Int, options: AllocationOptions = []) throws(Errno) {
    while count < wanted {
      push(try memory.allocate(order: 0, options: options.subtracting(.zeroed)))
    }
  }

  /// Adds a frame, whose reference is the stock's from now on.
  mutating func push(_ number: PageFrameNumber) {
    memory.frame(number).next = head
    head = number
    count += 1
  }

  /// Takes a frame, with one reference; its contents are undefined. nil when the stock is empty.
  @export(interface) public mutating func take() -> PageFrameNumber? {
    guard let number = head else { return nil }
    let frame = memory.frame(number)
    head = frame.next
    frame.next = nil
    count -= 1
    return number
  }

  deinit {
    var next = head
    while let number = next {
      let frame = memory.frame(number)
      next = frame.next
      frame.next = nil
      memory.free(number)
    }
  }
}

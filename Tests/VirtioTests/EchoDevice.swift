// A device of the monitor that answers with the request's bytes in reverse order, at once or later.

import Devices
import Foundation

final class EchoDevice: VirtioDevice, @unchecked Sendable {
  let kind: UInt32
  let isLate: Bool
  private var interrupt: @Sendable () -> Void = {}
  private var queue: Virtqueue?
  private let lock = NSLock()
  private let arrivals = NSCondition()
  private var late: [DescriptorChain] = []

  init(kind: UInt32, isLate: Bool) {
    self.kind = kind
    self.isLate = isLate
    if isLate { Thread.detachNewThread { [self] in serve() } }
  }

  var queueCount: Int { 1 }
  var configuration: [UInt8] { [1, 2, 3] }
  func attach(memory: GuestMemory, interrupt: @escaping @Sendable () -> Void) { self.interrupt = interrupt }
  func setQueue(_ index: Int, _ queue: Virtqueue?) { self.queue = queue }

  /// A thread of its own: those of the global queue may all be busy with the test.
  private func serve() {
    while true {
      arrivals.lock()
      while late.isEmpty { arrivals.wait() }
      let batch = late
      late = []
      arrivals.unlock()
      for chain in batch { finish(chain) }
      interrupt()
    }
  }

  func kick(_ index: Int) {
    guard let queue else { return }
    while let chain = queue.next() {
      if !isLate {
        finish(chain)
        continue
      }
      arrivals.lock()
      late.append(chain)
      arrivals.signal()
      arrivals.unlock()
    }
  }

  private func finish(_ chain: DescriptorChain) {
    let bytes = Array(chain.copyReadable(limit: 1 << 20).reversed())
    let written = chain.write(bytes)
    lock.lock()
    queue?.complete(chain, written: written)
    lock.unlock()
  }
}

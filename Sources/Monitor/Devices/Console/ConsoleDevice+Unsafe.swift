// The host-stream device: takes requests from its queue and gives them to HostStreams. Requests are answered within the
// kick, on the vCPU's thread; those that wait for the host are answered by the watching thread, with an interrupt.

import Glibc

/// The device behind the command's standard descriptors, the terminal, and the trace file.
@safe public final class ConsoleDevice: VirtioDevice, @unchecked Sendable {
  private let streams: HostStreams
  /// Guards the used ring, which the watching thread fills too, and `queue`.
  private let completion = QueueLock()
  private var queue: Virtqueue?
  private var interrupt: @Sendable () -> Void = {}

  public init(streams: HostStreams) { self.streams = streams }

  /// "AP": not a device of the virtio specification, whose console cannot report errors, readiness or positions.
  public var kind: UInt32 { 0x4150 }
  public var queueCount: Int { 1 }
  /// A byte for each stream: `StreamPresence`.
  public var configuration: [UInt8] { streams.presence.map(\.rawValue) }

  public func attach(memory: GuestMemory, interrupt: @escaping @Sendable () -> Void) { self.interrupt = interrupt }

  public func setQueue(_ index: Int, _ queue: Virtqueue?) {
    completion.acquire()
    self.queue = queue
    completion.release()
  }

  public func kick(_ index: Int) {
    completion.acquire()
    let queue = queue
    completion.release()
    guard let queue else { return }
    while let chain = queue.next() { serve(chain, queue) }
  }

  public func shutDown() { HostStreams.restoreTerminal() }

  /// A request: the head, then at most one buffer of data to write; room for the result, then at most one for data.
  private func serve(_ chain: DescriptorChain, _ queue: Virtqueue) {
    guard unsafe chain.writable.first.map({ $0.count >= 8 }) ?? false else {
      return finish(chain, queue, nil)
    }
    guard unsafe chain.readable.first.map({ $0.count == StreamRequest.length }) ?? false,
      let request = StreamRequest(chain.copyReadable(limit: StreamRequest.length))
    else { return finish(chain, queue, -Int64(EINVAL)) }
    // SAFETY: the buffers were checked against guest memory when the chain was taken; the guest may change them
    // meanwhile, which harms the guest alone.
    let output =
      unsafe chain.readable.count > 1
      ? UnsafeRawBufferPointer(chain.readable[1]) : UnsafeRawBufferPointer(start: nil, count: 0)
    let input =
      unsafe chain.writable.count > 1
      ? chain.writable[1] : UnsafeMutableRawBufferPointer(start: nil, count: 0)
    let late = LateRequest(chain: chain, queue: queue)
    let result = unsafe streams.perform(request, output: output, input: input) { [self] result in
      finish(late.chain, late.queue, result)
      interrupt()
    }
    if let result { finish(chain, queue, result) }
  }

  private func finish(_ chain: DescriptorChain, _ queue: Virtqueue, _ result: Int64?) {
    var bytes: [UInt8] = []
    if let result {
      for shift in stride(from: Int64(0), to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: result >> shift)) }
    }
    completion.acquire()
    defer { completion.release() }
    // A queue that was taken away or replaced meanwhile gets no answers any more.
    guard self.queue === queue else { return }
    chain.write(bytes)
    let data = max(0, result ?? 0)
    queue.complete(chain, written: bytes.count + Int(truncatingIfNeeded: data))
  }

  /// What a request needs to be answered by another thread.
  private struct LateRequest: @unchecked Sendable {
    let chain: DescriptorChain
    let queue: Virtqueue
  }
}

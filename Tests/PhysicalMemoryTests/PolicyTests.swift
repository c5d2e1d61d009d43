import LinuxABI
import TestSupport
import Testing

@testable import PhysicalMemory

@Suite struct PolicyTests {
  @Test func `interleaving goes round the nodes of the set`() throws {
    let test = TestMemory(megabytes: 128, nodes: 4)
    var policy = MemoryPolicy(.interleave, nodes: 0b1011)
    var seen: [Int] = []
    for _ in 0..<9 { seen.append(test.memory.node(of: try test.memory.allocate(options: .movable, by: &policy))) }
    #expect(seen == [0, 1, 3, 0, 1, 3, 0, 1, 3])
  }

  @Test func `bound allocations fail when their nodes are full, preferring ones go elsewhere`() throws {
    let test = TestMemory(megabytes: 64, nodes: 4)
    var bound = MemoryPolicy(.bind, nodes: 0b0100)
    var preferring = MemoryPolicy(.preferred, nodes: 0b0100)
    var frames: [PageFrameNumber] = []
    while let frame = try? test.memory.allocate(options: [.movable, .zeroed], by: &bound) { frames.append(frame) }
    #expect(frames.count > 2000)
    for frame in frames where test.memory.node(of: frame) != 2 { Issue.record("frame \(frame) is not of the node") }
    let other = try test.memory.allocate(options: .movable, by: &preferring)
    #expect(test.memory.node(of: other) != 2)
    test.memory.free(frames.removeLast())
    #expect(test.memory.node(of: try test.memory.allocate(options: .movable, by: &preferring)) == 2)
    // A set without a node that exists is no restriction.
    var strange = MemoryPolicy(.bind, nodes: 1 << 40)
    _ = try test.memory.allocate(options: .movable, by: &strange)
  }
}

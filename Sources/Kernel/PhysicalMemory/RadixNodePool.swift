// The nodes of the kernel's radix trees: a slab cache, a reserve on each CPU for inserts that must not fail, and a grace
// period before a node that readers may be in is used again.

import DataStructures
import KernelCore
import LinuxABI

/// Where trees that are read without locks get their nodes.
public final class RadixNodePool: RadixNodeSource {
  public static let shared = RadixNodePool()

  /// Nodes that `reserveNodes` has put aside, linked through their first words.
  private struct Reserve {
    var count = 0
    var first: UnsafeMutableRawPointer?
  }

  /// Made with the first node.
  private static let cache: SlabCache = {
    do throws(Errno) {
      return try SlabCache.make(name: "radix_tree_node", objectSize: RadixTree.nodeSize)
    } catch {
      panic("no slab cache for radix-tree nodes")
    }
  }()
  private let reserves = unsafe PerCPU<Reserve> { _ in unsafe Reserve() }

  // SAFETY (of this file): a node that the cache or the reserve gives is nobody else's; nodes in the reserve are not in
  // use, so their first words are ours; only their CPU touches a reserve.

  public func allocateNode() -> UnsafeMutableRawPointer? {
    do throws(Errno) { return unsafe try Self.cache.allocate() } catch {
      // There is no memory but what was put aside.
      let reserve = unsafe reserves.current
      guard let node = unsafe reserve.first else { return nil }
      unsafe reserves.current = unsafe Reserve(
        count: reserve.count - 1, first: node.load(as: UnsafeMutableRawPointer?.self))
      return unsafe node
    }
  }

  public func reserveNodes(_ count: Int) -> Bool { reserveNodes(count, options: []) }

  /// As `reserveNodes`, for callers that may use more of the memory than others.
  public func reserveNodes(_ count: Int, options: AllocationOptions) -> Bool {
    while unsafe reserves.current.count < count {
      do throws(Errno) {
        let node = unsafe try Self.cache.allocate(options: options)
        let reserve = unsafe reserves.current
        unsafe node.storeBytes(of: reserve.first, as: UnsafeMutableRawPointer?.self)
        unsafe reserves.current = unsafe Reserve(count: reserve.count + 1, first: node)
      } catch {
        return false
      }
    }
    return true
  }

  public func freeNode(_ node: UnsafeMutableRawPointer) { unsafe Self.cache.free(node) }

  public func freeNodeAfterReaders(_ node: UnsafeMutableRawPointer) {
    let call = unsafe (node + RadixTree.deferralOffset).assumingMemoryBound(to: DeferredCall.self)
    unsafe call.initialize(to: DeferredCall())
    unsafe RCU.defer(call) { call in
      unsafe RadixNodePool.shared.freeNode(call - RadixTree.deferralOffset)
    }
  }
}

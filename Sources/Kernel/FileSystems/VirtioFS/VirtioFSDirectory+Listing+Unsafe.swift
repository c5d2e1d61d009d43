// Listing a directory of the host. READDIRPLUS brings the attributes along, which saves a LOOKUP for each entry that is
// looked at afterwards (`ls -l`) and costs about as much for each that is not (`find -name`): `ListingPolicy` learns from
// what happened to the last listings which of both comes.

import CLinuxABI
import FileSystem
import KernelCore
import LinuxABI
import Virtio
import VirtualMemory

extension VirtioFSDirectory {
  /// The host's offsets may be 0, 1 and 2, which are the positions of "." and ".." here; these go up here.
  private static var lowOffsets: UInt64 { 1 << 62 }

  private static func cookie(_ offset: UInt64) -> UInt64 { offset <= 2 ? lowOffsets | offset : offset }
  private static func offset(_ cookie: UInt64) -> UInt64 {
    cookie & ~3 == lowOffsets && cookie & 3 != 3 ? cookie & 3 : cookie
  }

  final func list(from cookie: UInt64, _ emit: (DirectoryEntry) -> Bool) throws(Errno) {
    let memory = try MemoryPressure.retrying { () throws(Errno) in try DeviceMemory(orderAtMost: 3) }
    let version = names.withLock { names in
      if cookie == 0 { names.beginListing() }
      return names.version
    }
    var offset = Self.offset(cookie)
    var told = 0
    defer { session.listings.didList(told) }
    while true {
      let start = offset
      let isPlus = session.listings.wantsAttributes
      let count = try session.call(
        isPlus ? LINUX_FUSE_READDIRPLUS : LINUX_FUSE_READDIR, node, room: 0,
        target: [memory.segment(0, memory.count)]
      ) { (message) throws(Errno) in
        var body = linux_fuse_read_in()
        body.offset = start
        body.size = UInt32(memory.count)
        message.append(body)
      } reply: { (message) throws(Errno) in
        min(message.replyLength, memory.count)
      }
      if count == 0 { return }
      var isFull = false
      var position = 0
      let head = MemoryLayout<linux_fuse_dirent>.size
      while position < count {
        var found: linux_fuse_entry?
        if isPlus {
          guard position + MemoryLayout<linux_fuse_entry>.size <= count else { throw .EIO }
          // SAFETY: the entry lies within the bytes that the device wrote.
          found = unsafe memory.bytes.loadUnaligned(fromByteOffset: position, as: linux_fuse_entry.self)
          position += MemoryLayout<linux_fuse_entry>.size
        }
        guard position + head <= count else { break }
        // SAFETY: the head lies within the bytes that the device wrote.
        let entry = unsafe memory.bytes.loadUnaligned(fromByteOffset: position, as: linux_fuse_dirent.self)
        let length = Int(entry.name_length)
        guard length > 0, length <= 255, position + head + length <= count else { throw .EIO }
        // SAFETY: checked above.
        let name = ByteString(unsafe Array(memory.bytes[position + head..<position + head + length]))
        position += (head + length + 7) & ~7
        offset = entry.offset
        // Look-ups that the server counted must be counted here, also when nobody wants more entries.
        if let found, found.node != 0 { learn(name, found, version) }
        if name == "." || name == ".." { continue }
        told += 1
        if isFull || name.bytes.contains(0x2f) || name.bytes.contains(0) { continue }
        isFull = !emit(
          DirectoryEntry(
            name: name, number: entry.inode, kind: FileKind(mode: entry.type << 12),
            cookie: Self.cookie(entry.offset)))
        if isFull, !isPlus { return }
      }
      if isFull { return }
      // A server that answers without getting on would keep this loop from ending.
      guard offset != start else { throw .EIO }
    }
  }

  /// Keeps the inode that a listing told of, and its name.
  private func learn(_ name: ByteString, _ found: linux_fuse_entry, _ version: UInt64) {
    guard let inode = try? virtioFS?.inode(for: found) else { return }
    let valid = session.validity(found.entry_valid, found.entry_valid_nanoseconds)
    names.withLock { $0.note(name, .node(inode.node), valid, ifStill: version) }
  }
}

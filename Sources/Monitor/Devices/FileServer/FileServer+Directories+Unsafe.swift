// Reading directories, with or without the attributes of the entries.

import CDevices
import CLinuxABI
import Glibc

extension FileServer {
  func openDirectory(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let node = try table.node(request.header.node)
    if !node.isSealed, node.view.others != .nothing { _ = try table.stream(of: node) }
    return .value(linux_fuse_open_out())
  }

  func readDirectory(_ request: inout FUSERequest, isPlus: Bool) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_read_in.self)
    guard let offset = Int64(exactly: body.offset) else { throw HostError(EINVAL) }
    let node = try table.node(request.header.node)
    if node.isSealed { return .empty }
    let room = min(Int(body.size), request.chain.writableCount - MemoryLayout<linux_fuse_out_header>.size)
    guard room > 0 else { throw HostError(EINVAL) }
    if node.view.others == .nothing {
      var listing = Listing(room: min(room, Self.largestTransfer), isPlus: isPlus)
      try fill(&listing, withNamesOf: node, from: Int(clamping: offset))
      return .bytes(listing.bytes)
    }
    let stream = try table.stream(of: node)
    return try stream.lock.withLock { () throws(HostError) -> FUSEReply in
      if stream.position != offset {
        stream.position = nil
        try HostError.check(host_seek(stream.descriptor.number, offset, SEEK_SET))
      }
      stream.position = nil
      var listing = Listing(room: min(room, Self.largestTransfer), isPlus: isPlus)
      stream.position = try fill(&listing, from: stream.descriptor, in: node)
      return .bytes(listing.bytes)
    }
  }

  /// Puts entries into `listing` until it is full or the directory ends.
  /// - Returns: where the host's position is; nil when it is past the last entry taken.
  private func fill(_ listing: inout Listing, from descriptor: HostDescriptor, in node: FileNode) throws(HostError)
    -> Int64?
  {
    // The host's records are a little shorter than those of the protocol: this much fills the room, mostly.
    var buffer = [UInt8](repeating: 0, count: max(1024, listing.room / (listing.isPlus ? 6 : 1)))
    var position: Int64?
    while true {
      // SAFETY: the call fills at most the buffer.
      let count = try HostError.check(
        unsafe buffer.withUnsafeMutableBytes {
          unsafe host_directory_entries(descriptor.number, $0.baseAddress, $0.count)
        })
      if count == 0 { return position }
      var cursor = 0
      // struct linux_dirent64: inode, offset (8 bytes each), record length (2), type (1), the name and a NUL.
      while cursor + 19 < count {
        // SAFETY: checked that the fixed part lies in the buffer.
        let (inode, next, length) = unsafe buffer.withUnsafeBytes {
          unsafe (
            $0.loadUnaligned(fromByteOffset: cursor, as: UInt64.self),
            $0.loadUnaligned(fromByteOffset: cursor + 8, as: Int64.self),
            Int($0.loadUnaligned(fromByteOffset: cursor + 16, as: UInt16.self))
          )
        }
        guard length > 19, cursor + length <= count else { throw HostError(EIO) }
        let name = buffer[cursor + 19..<cursor + length].prefix { $0 != 0 }
        guard isShown(name, in: node) else {
          position = next
          cursor += length
          continue
        }
        let dirent = linux_fuse_dirent(
          inode: inode, offset: UInt64(bitPattern: next), name_length: UInt32(name.count),
          type: UInt32(buffer[cursor + 18]))
        guard listing.hasRoom(name.count) else {
          // An entry of the next answer; the first must fit into any.
          if listing.bytes.isEmpty { throw HostError(EINVAL) }
          return nil
        }
        add(dirent, name, &listing, in: node)
        position = next
        cursor += length
      }
      // The next batch would most likely not fit: leave the host's position where the guest goes on.
      if listing.room - listing.bytes.count < listing.room / 8 { return position }
    }
  }

  /// Puts the entries that a view names into `listing`, from number `first` on: the host's directory is not read.
  private func fill(_ listing: inout Listing, withNamesOf node: FileNode, from first: Int) throws(HostError) {
    let anchor = try table.anchor(of: node)
    let names = [".", ".."] + node.view.entries.keys.sorted()
    for (index, name) in names.enumerated().dropFirst(first) {
      let bytes = Array(name.utf8)
      // "." and "..": their inode numbers are the guest's affair. An entry that the host lacks is in no listing.
      guard let found = try? index < 2 ? readStatus(anchor) : readStatus(anchor, FileName(bytes)) else { continue }
      guard listing.hasRoom(bytes.count) else { return }
      let dirent = linux_fuse_dirent(
        inode: found.attributes.inode, offset: UInt64(index + 1), name_length: UInt32(bytes.count),
        type: (found.attributes.mode & UInt32(S_IFMT)) >> 12)
      add(dirent, bytes[...], &listing, in: node)
    }
  }

  /// Whether the entry is in view.
  private func isShown(_ name: ArraySlice<UInt8>, in node: FileNode) -> Bool {
    guard node.view.others == .publicFiles, name != [0x2e], name != [0x2e, 0x2e] else { return true }
    guard let name = try? FileName(name), let anchor = try? table.anchor(of: node),
      let status = try? readStatus(anchor, name)
    else { return false }
    return node.view.admits(status.attributes.mode)
  }

  private func add(_ dirent: linux_fuse_dirent, _ name: ArraySlice<UInt8>, _ listing: inout Listing, in node: FileNode)
  {
    guard listing.isPlus else { return listing.append(dirent, name) }
    var found = linux_fuse_entry()
    // Node 0 for "." and "..", and for what went away meanwhile: no look-up was made.
    if let name = try? FileName(name), let anchor = try? table.anchor(of: node),
      let status = try? readStatus(anchor, name),
      let child = try? table.enter(status, node, name)
    {
      found = entry(child, status)
    }
    listing.append(found, dirent, name)
  }

  /// The bytes of an answer.
  private struct Listing {
    let room: Int
    let isPlus: Bool
    private(set) var bytes: [UInt8] = []

    init(room: Int, isPlus: Bool) {
      self.room = room
      self.isPlus = isPlus
      bytes.reserveCapacity(room)
    }

    private static func padded(_ count: Int) -> Int { (count + 7) & ~7 }

    func hasRoom(_ nameLength: Int) -> Bool {
      let head = MemoryLayout<linux_fuse_dirent>.size + (isPlus ? MemoryLayout<linux_fuse_entry>.size : 0)
      return bytes.count + head + Self.padded(nameLength) <= room
    }

    mutating func append(_ dirent: linux_fuse_dirent, _ name: ArraySlice<UInt8>) {
      bytes += bytesOf(dirent)
      bytes += name
      bytes += repeatElement(0, count: Self.padded(name.count) - name.count)
    }

    mutating func append(_ entry: linux_fuse_entry, _ dirent: linux_fuse_dirent, _ name: ArraySlice<UInt8>) {
      bytes += bytesOf(entry)
      append(dirent, name)
    }
  }
}

// Content: opening, reading and writing. Data moves between the host's page cache and the guest's page frames directly.

import CDevices
import CLinuxABI
import Glibc

extension FileServer {
  func open(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_open_in.self)
    let node = try table.node(request.header.node)
    switch Int32(truncatingIfNeeded: body.flags) & O_ACCMODE {
    case O_RDONLY: _ = try table.content(of: node, .read)
    default:
      if options.isReadOnly { throw HostError(EROFS) }
      _ = try table.content(of: node, .write)
    }
    return .value(Self.openReply)
  }

  func release(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_release_in.self)
    // An open writer would keep the host from executing the file (ETXTBSY).
    if Int32(truncatingIfNeeded: body.flags) & O_ACCMODE != O_RDONLY {
      table.dropWriter(try table.node(request.header.node))
    }
    return .empty
  }

  func read(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_read_in.self)
    guard let offset = Int64(exactly: body.offset) else { throw HostError(EINVAL) }
    let file = try table.content(of: table.node(request.header.node), .read)
    let count = request.chain.withVectors(
      unsafe request.chain.writable, from: MemoryLayout<linux_fuse_out_header>.size, limit: Int(body.size)
    ) { vectors, count in
      // SAFETY: the vectors lie in guest memory, which stays mapped; the host checks nothing but its own limits.
      count == 0 ? 0 : unsafe host_read(file.number, vectors, count, offset)
    }
    return .placed(try HostError.check(count))
  }

  func write(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_write_in.self)
    guard let offset = Int64(exactly: body.offset) else { throw HostError(EINVAL) }
    let file = try table.content(of: table.node(request.header.node), .write)
    let head = FUSERequest.headerLength + MemoryLayout<linux_fuse_write_in>.size
    let known = file.isAppending ? try lengthBefore(offset, in: file, limit: Int(body.size)) : 0
    let count = request.chain.withVectors(
      unsafe request.chain.readable, from: head + known, limit: Int(body.size) - known
    ) {
      // SAFETY: as in `read`.
      $1 == 0 ? 0 : unsafe host_write(file.number, $0, $1, offset + Int64(known))
    }
    return .value(linux_fuse_write_out(size: UInt32(clamping: known + Int(try HostError.check(count))), padding: 0))
  }

  /// How many bytes from `offset` on an append-only file has already. The guest writes whole pages, of which the first
  /// begins before what was appended.
  private func lengthBefore(_ offset: Int64, in file: HostDescriptor, limit: Int) throws(HostError) -> Int {
    let size = Int64(clamping: try readStatus(file).attributes.size)
    guard offset <= size else { throw HostError(EPERM) }
    return Int(min(Int64(limit), size - offset))
  }

  func sync(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_fsync_in.self)
    let node = try table.node(request.header.node)
    let file =
      node.isDirectory
      ? try table.stream(of: node).descriptor
      : try table.content(of: node, options.isReadOnly ? .read : .write)
    try HostError.check(host_sync(file.number, Int32(body.flags & 1)))
    return .empty
  }

  func syncAll() throws(HostError) -> FUSEReply {
    if !options.isReadOnly { try HostError.check(host_sync_all(table.stream(of: table.root).descriptor.number)) }
    return .empty
  }

  func allocate(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_fallocate_in.self)
    guard let offset = Int64(exactly: body.offset), let length = Int64(exactly: body.length) else {
      throw HostError(EINVAL)
    }
    let file = try table.content(of: table.node(request.header.node), .write)
    try HostError.check(host_allocate(file.number, Int32(truncatingIfNeeded: body.mode), offset, length))
    return .empty
  }

  func seek(_ request: inout FUSERequest) throws(HostError) -> FUSEReply {
    let body = try request.take(linux_fuse_lseek_in.self)
    // Only SEEK_DATA and SEEK_HOLE: they depend on the file alone, not on the descriptor's position.
    guard body.whence == 3 || body.whence == 4, let offset = Int64(exactly: body.offset) else {
      throw HostError(EINVAL)
    }
    let file = try table.content(of: table.node(request.header.node), .read)
    let place = try HostError.check(host_seek(file.number, offset, Int32(body.whence)))
    return .value(linux_fuse_lseek_out(offset: UInt64(place)))
  }
}

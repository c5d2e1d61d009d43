// The files that the guest knows, by number and by identity, and the cache of their descriptors.
//
// The lock guards tables and fields; no system call is made under it that could wait. A descriptor that is in use by a
// request is kept open by its reference, also when the clock has taken it out of its node.

import CDevices
import CLinuxABI
import Glibc

/// All nodes of an export.
final class FileNodeTable: @unchecked Sendable {
  /// More nodes than this a guest never needs: its caches are smaller. ENFILE beyond.
  static let nodeLimit = 1 << 20

  let root: FileNode
  /// /proc/self/fd: through it an O_PATH descriptor is opened for reading.
  let descriptors: HostDescriptor
  private let descriptorLimit: Int
  /// Whether set-ID programs keep their bits when a guest opens them for writing.
  private let keepsSetID: Bool
  private let lock = QueueLock()
  /// Held while a name goes or moves, until the nodes have their new places. Taken before `lock`, and held during calls of the host.
  private let naming = QueueLock()
  private var nodes: [UInt64: FileNode]
  private var identities: [FileIdentity: FileNode] = [:]
  private var nextNumber: UInt64 = UInt64(LINUX_FUSE_ROOT) + 1
  /// The devices seen below the root, in order of appearance: inode numbers of different devices must differ.
  private var devices: [UInt64: UInt64]
  /// Nodes with descriptors, and the clock's hand.
  private var open: [FileNode] = []
  private var openCount = 0
  private var hand = 0

  /// - Throws: ENOSYS when the host has no /proc or no openat2(2); what opening the directory gives.
  init(rootPath: String, isReadOnly: Bool, view: FileView, descriptorLimit: Int?, keepsSetID: Bool) throws(HostError) {
    self.keepsSetID = keepsSetID
    guard host_can_confine() != 0 else { throw HostError(ENOSYS) }
    descriptors = try HostDescriptor(checking: host_open_descriptors())
    let anchor = try HostDescriptor(checking: openRoot(rootPath, isReadOnly: isReadOnly))
    guard host_is_pseudo(anchor.number) == 0 else { throw HostError(EINVAL) }
    let status = try readStatus(anchor)
    guard status.attributes.mode & UInt32(S_IFMT) == UInt32(S_IFDIR) else { throw HostError(ENOTDIR) }
    root = FileNode(
      number: UInt64(LINUX_FUSE_ROOT), status: status, isSealed: false, view: view, parent: nil, name: .none)
    root.anchor = anchor
    root.isPinned = true
    root.lookups = 1
    nodes = [root.number: root]
    devices = [status.device: 0]
    self.descriptorLimit = descriptorLimit ?? Int(min(max(host_raise_file_limit() / 2, 64), 8192))
    identities[root.identity] = root
  }

  /// How many nodes there are, and how many descriptors they hold.
  var counts: (nodes: Int, descriptors: Int) { lock.withLock { (nodes.count, openCount) } }

  // MARK: Nodes

  /// The node with this number.
  /// - Throws: ESTALE.
  func node(_ number: UInt64) throws(HostError) -> FileNode {
    guard let node = lock.withLock({ nodes[number] }) else { throw HostError(ESTALE) }
    return node
  }

  /// The node of the file that `name` in `parent` was found to be; counts a look-up.
  /// - Throws: ENOENT when the guest is not to see it.
  func enter(_ status: host_status, _ parent: FileNode, _ name: FileName) throws(HostError) -> FileNode {
    guard let view = parent.view(of: name), parent.view.admits(status.attributes.mode) else { throw HostError(ENOENT) }
    if let node = lock.withLock({ known(status, view, parent, name) }) { return node }
    var isSealed = false
    if status.device != parent.identity.device {
      let probe = try open(name, in: parent, openPathOnly)
      isSealed = host_is_pseudo(probe.number) != 0
    }
    return try lock.withLock { () throws(HostError) -> FileNode in
      if let node = known(status, view, parent, name) { return node }
      guard nodes.count < Self.nodeLimit else { throw HostError(ENFILE) }
      let node = FileNode(
        number: nextNumber, status: status, isSealed: isSealed, view: view, parent: parent, name: name)
      nextNumber += 1
      node.lookups = 1
      nodes[node.number] = node
      identities[node.identity] = node
      if devices[status.device] == nil { devices[status.device] = UInt64(devices.count) }
      return node
    }
  }

  /// The node of a file that has no name: `file` is the only way to it.
  func enterTemporary(_ status: host_status, _ directory: FileNode, _ file: HostDescriptor) throws(HostError)
    -> FileNode
  {
    let node = try lock.withLock { () throws(HostError) -> FileNode in
      guard nodes.count < Self.nodeLimit else { throw HostError(ENFILE) }
      let node = FileNode(
        number: nextNumber, status: status, isSealed: false, view: .everything, parent: directory, name: .none)
      nextNumber += 1
      node.lookups = 1
      node.isPinned = true
      nodes[node.number] = node
      identities[node.identity] = node
      if devices[status.device] == nil { devices[status.device] = UInt64(devices.count) }
      return node
    }
    setOpen(node, file)
    return node
  }

  private func known(_ status: host_status, _ view: FileView, _ parent: FileNode, _ name: FileName) -> FileNode? {
    guard let node = identities[FileIdentity(status)], node !== root else { return nil }
    // A directory that is mounted in two places may show more in one of them.
    guard !node.isDirectory || node.view == view else { return nil }
    // The host may have removed the file and used its inode number again.
    guard node.kind == status.attributes.mode & UInt32(S_IFMT) else { return nil }
    // A file without a name has got one (LINK, or another of its names): it can be found again.
    node.isPinned = false
    node.parent = parent
    node.name = name
    node.lookups += 1
    return node
  }

  /// The guest forgets `count` of the look-ups of a node.
  func forget(_ number: UInt64, _ count: UInt64) {
    guard number != root.number else { return }
    var dead: FileNode?
    lock.withLock {
      guard let node = nodes[number] else { return }
      node.lookups -= min(count, node.lookups)
      guard node.lookups == 0 else { return }
      nodes[number] = nil
      if identities[node.identity] === node { identities[node.identity] = nil }
      leaveClock(node)
      dead = node
    }
    // Descriptors are closed here, outside the lock.
    withExtendedLifetime(dead) {}
  }

  /// The guest starts over (INIT, DESTROY): it knows only the root.
  func forgetAll() {
    var dead: [FileNode] = []
    lock.withLock {
      dead = Array(nodes.values)
      for node in dead where node !== root { leaveClock(node) }
      nodes = [root.number: root]
      identities = [root.identity: root]
    }
    for node in dead where node !== root { lock.withLock { node.closeDescriptors() } }
  }

  /// The inode number that the guest sees: the host's, made different for files of other devices.
  func visibleInode(_ status: host_status) -> UInt64 {
    let index = lock.withLock { devices[status.device] ?? 0 }
    return status.attributes.inode ^ index << 48
  }

  // MARK: Places

  /// The status of a node, checked to be that of the same file.
  /// - Throws: ESTALE when the file is no longer where the guest saw it.
  func status(of node: FileNode) throws(HostError) -> host_status {
    try whenSettled { () throws(HostError) in try findStatus(of: node) }
  }

  /// Looks for a file, and if it is not in its place, again while no name is on the move: another request may have renamed the file
  /// on the host, and not said so yet.
  private func whenSettled<Result>(_ look: () throws(HostError) -> Result) throws(HostError) -> Result {
    do throws(HostError) { return try look() } catch {
      guard error.code == ESTALE else { throw error }
      return try naming.withLock(look)
    }
  }

  private func findStatus(of node: FileNode) throws(HostError) -> host_status {
    if let descriptor = lock.withLock({ use(node) }) { return try readStatus(descriptor) }
    let (parent, name) = lock.withLock { (node.parent, node.name) }
    guard let parent else { throw HostError(ESTALE) }
    let result: host_status
    do throws(HostError) { result = try readStatus(findAnchor(of: parent), name) } catch {
      throw error.code == ENOENT ? HostError(ESTALE) : error
    }
    guard FileIdentity(result) == node.identity else { throw HostError(ESTALE) }
    return result
  }

  private func use(_ node: FileNode) -> HostDescriptor? {
    node.wasUsed = true
    return node.anyDescriptor
  }

  /// A descriptor (O_PATH) of the node: for looking up names in it, and for opening it.
  /// - Throws: ESTALE when the file is no longer where the guest saw it.
  func anchor(of node: FileNode) throws(HostError) -> HostDescriptor {
    try whenSettled { () throws(HostError) in try findAnchor(of: node) }
  }

  private func findAnchor(of node: FileNode) throws(HostError) -> HostDescriptor {
    if let held = lock.withLock({ heldAnchor(node) }) { return held }
    // Up to the nearest directory that is open, then down again; a loop, because the guest chooses the depth.
    var missing: [FileNode] = []
    let start = lock.withLock { () -> HostDescriptor? in
      var place: FileNode? = node
      while let current = place {
        if let held = heldAnchor(current) { return held }
        missing.append(current)
        place = current.parent
      }
      return nil
    }
    guard var descriptor = start else { throw HostError(ESTALE) }
    for step in missing.reversed() {
      let name = lock.withLock { step.name }
      let result = openBeneath(descriptor, name, openPathOnly)
      if result == -ENOENT { throw HostError(ESTALE) }
      descriptor = try HostDescriptor(checking: result)
      guard FileIdentity(try readStatus(descriptor)) == step.identity else { throw HostError(ESTALE) }
      let found = descriptor
      keep(step) { $0.anchor = found }
    }
    return descriptor
  }

  /// An open directory does as well.
  private func heldAnchor(_ node: FileNode) -> HostDescriptor? {
    node.wasUsed = true
    return node.anchor ?? node.directory?.descriptor ?? node.reader
  }

  /// Opens `name` in the directory `parent`, never anything outside of it.
  func open(_ name: FileName, in parent: FileNode, _ flags: Int32, mode: UInt32 = 0) throws(HostError)
    -> HostDescriptor
  {
    let directory = try anchor(of: parent)
    return try HostDescriptor(
      checking: openBeneath(directory, name, flags, mode: mode))
  }

  /// What content is to be reached for.
  enum Access { case read, write }

  /// A descriptor for the content of a regular file.
  /// - Throws: ENXIO for what has no content that could be served: devices, sockets, FIFOs of the host.
  func content(of node: FileNode, _ access: Access) throws(HostError) -> HostDescriptor {
    let held = lock.withLock { () -> HostDescriptor? in
      node.wasUsed = true
      return access == .read ? node.reader : node.writer
    }
    if let held { return held }
    guard node.isRegular else { throw HostError(node.isDirectory ? EISDIR : ENXIO) }
    guard !node.isSealed else { throw HostError(EACCES) }
    let anchor = try anchor(of: node)
    switch access {
    case .read:
      let descriptor = try HostDescriptor(checking: host_reopen(descriptors.number, anchor.number, O_RDONLY))
      keep(node) {
        $0.reader = descriptor
        // The reader tells the status too, and opens again.
        $0.anchor = nil
      }
      return descriptor
    case .write:
      let descriptor = try openForWriting(anchor)
      keep(node) { $0.writer = descriptor }
      return descriptor
    }
  }

  private func openForWriting(_ anchor: HostDescriptor) throws(HostError) -> HostDescriptor {
    let status = try readStatus(anchor)
    // New contents under the rights of the file's owner: only where the export is made for that.
    if status.attributes.mode & FileServer.setIDBits != 0, !keepsSetID {
      let mode = status.attributes.mode & 0o7777 & ~FileServer.setIDBits
      let result = host_set_mode(descriptors.number, anchor.number, mode)
      // The host itself clears the bits when a user writes who is neither root nor the owner.
      if result != -EPERM { try HostError.check(result) }
    }
    let isAppending = status.attributes.flags & UInt32(LINUX_FUSE_ATTR_APPEND) != 0
    let flags = isAppending ? O_APPEND : 0
    var result = host_reopen(descriptors.number, anchor.number, O_RDWR | flags)
    if result == -EACCES { result = host_reopen(descriptors.number, anchor.number, O_WRONLY | flags) }
    return try HostDescriptor(checking: result, isAppending: isAppending)
  }

  /// The open directory of a node.
  func stream(of node: FileNode) throws(HostError) -> DirectoryStream {
    if let held = lock.withLock({ node.directory }) { return held }
    guard node.isDirectory else { throw HostError(ENOTDIR) }
    let anchor = try anchor(of: node)
    let descriptor = try HostDescriptor(
      checking: openBeneath(anchor, FileName.itself, O_RDONLY | O_DIRECTORY))
    let stream = DirectoryStream(descriptor)
    keep(node) { $0.directory = stream }
    return stream
  }

  /// A regular file or directory, opened in whatever way the host permits: for attributes that belong to the file, not to
  /// what it contains.
  func opened(_ node: FileNode) throws(HostError) -> HostDescriptor {
    if node.isDirectory { return try stream(of: node).descriptor }
    do throws(HostError) { return try content(of: node, .read) } catch {
      guard error.code == EACCES else { throw error }
    }
    // A file that may be written and not read.
    return try HostDescriptor(
      checking: host_reopen(descriptors.number, anchor(of: node).number, O_WRONLY))
  }

  // MARK: Changes of the tree

  /// Removes or moves names by `change`, a call of the host that answers a negative error number: the files stay reachable, and
  /// no other request looks for them in between.
  ///
  /// - Parameters:
  ///   - removing: the name whose file may go.
  ///   - moving: names that have other files afterwards.
  func changeNames(
    removing: (name: FileName, parent: FileNode)?, moving: [(name: FileName, parent: FileNode)], _ change: () -> Int32
  ) throws(HostError) {
    let result = naming.withLock {
      if let removing { pin(removing.name, in: removing.parent) }
      let result = change()
      // After a failure the pinned node gets its old place.
      for place in moving { unpin(place.name, in: place.parent) }
      if result < 0, moving.isEmpty, let removing { unpin(removing.name, in: removing.parent) }
      return result
    }
    try HostError.check(result)
  }

  /// Keeps a file reachable whose name is about to go.
  private func pin(_ name: FileName, in parent: FileNode) {
    guard let status = try? readStatus(findAnchor(of: parent), name),
      let node = lock.withLock({ identities[FileIdentity(status)] })
    else { return }
    // Other links may go on; the place that is remembered is the one that goes. Pinned first, so that the descriptor stays.
    let isLast = status.attributes.link_count < 2 || node.isDirectory
    if isLast { lock.withLock { node.isPinned = true } }
    if (try? findAnchor(of: node)) == nil { lock.withLock { node.isPinned = false } }
  }

  /// The removal did not happen after all, or the file has another name.
  private func unpin(_ name: FileName, in parent: FileNode) {
    guard let status = try? readStatus(findAnchor(of: parent), name) else { return }
    lock.withLock {
      guard let node = identities[FileIdentity(status)], node !== root else { return }
      node.isPinned = false
      node.parent = parent
      node.name = name
    }
  }

  /// Remembers a new file, which is open for reading and writing whatever its permissions.
  func setOpen(_ node: FileNode, _ descriptor: HostDescriptor) {
    keep(node) {
      $0.reader = descriptor
      $0.writer = descriptor
    }
  }

  /// Closes the writer: nobody in the guest has the file open for writing.
  func dropWriter(_ node: FileNode, where condition: (HostDescriptor) -> Bool = { _ in true }) {
    let old = lock.withLock { () -> [HostDescriptor?] in
      guard let writer = node.writer, condition(writer) else { return [] }
      // The last way to a file without a name stays. A new file's reader may write as well: a program could not be executed.
      let readerWrites = node.reader === writer
      guard !node.isPinned || node.anchor != nil || !readerWrites && node.reader != nil else { return [] }
      let before = node.slot >= 0 ? node.descriptorCount : 0
      node.writer = nil
      if readerWrites { node.reader = nil }
      if node.slot >= 0 { openCount -= before - node.descriptorCount }
      return [writer]
    }
    withExtendedLifetime(old) {}
  }

  // MARK: The cache of descriptors

  private func keep(_ node: FileNode, _ change: (FileNode) -> Void) {
    var victims: [HostDescriptor?] = []
    lock.withLock {
      let before = node.slot >= 0 ? node.descriptorCount : 0
      change(node)
      // A node that was forgotten meanwhile is closed with its last request.
      guard node === root || node.lookups > 0 || node.slot >= 0 || hasChildrenUse(node) else { return }
      openCount += node.descriptorCount - before
      node.wasUsed = true
      if node.slot < 0 {
        node.slot = open.count
        open.append(node)
      }
      evict(&victims, except: node)
    }
    withExtendedLifetime(victims) {}
  }

  /// Directories that the guest forgot may still be the way to files that it knows; their descriptors count as well.
  private func hasChildrenUse(_ node: FileNode) -> Bool { node.isDirectory }

  private func evict(_ victims: inout [HostDescriptor?], except current: FileNode) {
    var steps = 2 * open.count
    while openCount > descriptorLimit, steps > 0, !open.isEmpty {
      steps -= 1
      if hand >= open.count { hand = 0 }
      let node = open[hand]
      if node.isPinned || node === current || node === root || node.wasUsed {
        node.wasUsed = false
        hand += 1
        continue
      }
      victims += [node.anchor, node.reader, node.writer, node.directory?.descriptor]
      leaveClock(node)
      node.closeDescriptors()
    }
  }

  private func leaveClock(_ node: FileNode) {
    guard node.slot >= 0 else { return }
    openCount -= node.descriptorCount
    let last = open.removeLast()
    if last !== node {
      open[node.slot] = last
      last.slot = node.slot
    }
    node.slot = -1
  }
}

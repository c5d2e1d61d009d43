// The lists of the process tree, with their links in the processes: a process enters and leaves its parent's children and its
// group in constant time, however many there are. All of it is guarded by the lock of `ProcessTable`.
//
// A parent also lists the children that have something to tell, zombies and those with a stop or continuation that it has not
// seen. wait(2) looks at these alone. They stand in the order of `children`, in which Linux reports them.

import DataStructures

/// The children of a process.
enum Children: ListMembership {
  static func links(of process: Process) -> ListLinks<Process> { process.siblings }
  static func setLinks(_ links: ListLinks<Process>, of process: Process) { process.siblings = links }
}

/// The children of a process that have something to tell it.
enum ChangedChildren: ListMembership {
  static func links(of process: Process) -> ListLinks<Process> { process.changedSiblings }
  static func setLinks(_ links: ListLinks<Process>, of process: Process) { process.changedSiblings = links }
}

/// The members of a process group.
enum GroupMembers: ListMembership {
  static func links(of process: Process) -> ListLinks<Process> { process.groupLinks }
  static func setLinks(_ links: ListLinks<Process>, of process: Process) { process.groupLinks = links }
}

extension Process {
  /// Makes this the parent of `child`, which has none.
  func adopt(_ child: Process, _ state: inout ProcessTable.State) {
    state.adoptions += 1
    child.place = state.adoptions
    child.parent = self
    children.append(child)
    if child.hasNews { child.tellParent() }
  }

  /// Takes a child away from its parent.
  func leaveParent() {
    guard let parent else { return }
    parent.children.remove(self)
    if changedSiblings.isLinked { parent.changedChildren.remove(self) }
    self.parent = nil
  }

  private var hasNews: Bool { isZombie || report != nil }

  /// Enters the process among those that have something to tell.
  func tellParent() {
    guard let parent, !changedSiblings.isLinked else { return }
    var later: Process?
    var candidate = parent.changedChildren.last
    while let other = candidate, other.place > place {
      later = other
      candidate = parent.changedChildren.previous(before: other)
    }
    if let later { parent.changedChildren.insert(self, before: later) } else { parent.changedChildren.append(self) }
  }

  /// The parent has seen the stop or the continuation.
  func clearReport() {
    report = nil
    if !isZombie, changedSiblings.isLinked { parent?.changedChildren.remove(self) }
  }
}

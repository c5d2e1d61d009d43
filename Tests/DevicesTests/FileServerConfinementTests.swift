// Attacks of a guest whose kernel obeys nobody: each must stay inside of the served directory. Where a rule stops an
// attack, a control shows that the attack works without it.

import CDevices
import CLinuxABI
import Foundation
import Testing

@testable import Devices

@Suite(.serialized) struct FileServerConfinementTests {
  @Test(arguments: ["..", ".", "", "../secret", "/etc/passwd", "a/b", "./x", String(repeating: "n", count: 256)])
  func `a name that is not one component is refused`(name: String) {
    let place = Playground()
    let guest = Guest(place)
    // Control: the host itself would follow it out of the directory.
    #expect(access(place.root + "/../secret", R_OK) == 0)
    let error = guest.lookup(name).error
    #expect(error == -EINVAL || name.count > 255 && error == -ENAMETOOLONG)
    for opcode in [LINUX_FUSE_UNLINK, LINUX_FUSE_RMDIR] {
      #expect(guest.request(opcode, 1, Array(name.utf8) + [0])!.error < 0)
    }
    let mkdir = bytesOf(linux_fuse_mkdir_in(mode: 0o755, umask: 0)) + Array(name.utf8) + [0]
    #expect(guest.request(LINUX_FUSE_MKDIR, 1, mkdir)!.error < 0)
    #expect(FileManager.default.fileExists(atPath: place.base + "/secret"))
  }

  @Test func `a symbolic link is shown, never followed`() {
    let place = Playground()
    symlink(place.base + "/secret", place.root + "/absolute")
    symlink("../secret", place.root + "/relative")
    symlink("..", place.root + "/up")
    let guest = Guest(place)
    for name in ["absolute", "relative", "up"] {
      let link = guest.lookup(name)
      #expect(link.mode & UInt32(S_IFMT) == UInt32(S_IFLNK))
      #expect(guest.open(link.node, O_RDONLY) < 0)
      #expect(guest.read(link.node).error < 0)
      #expect(guest.lookup("secret", in: link.node).error == -ENOTDIR)
      #expect(guest.list(link.node).error == -ENOTDIR)
    }
    // Control: the host's open follows.
    #expect(access(place.root + "/up/secret", R_OK) == 0)
  }

  @Test func `a directory that becomes a link behind the guest's back is not followed`() {
    let place = Playground()
    place.makeDirectory("d")
    place.write("d/secret", "public")
    for name in ["x", "y", "z"] { place.makeDirectory(name) }
    // So few descriptors that the server has to find the directory again by its name.
    let guest = Guest(place, descriptorLimit: 1)
    let directory = guest.lookup("d").node
    #expect(guest.lookup("secret", in: directory).error == 0)
    for name in ["x", "y", "z"] { _ = guest.list(guest.lookup(name).node) }
    rename(place.root + "/d", place.root + "/e")
    symlink(place.base, place.root + "/d")
    #expect(
      guest.lookup("secret", in: directory).error == -ELOOP || guest.lookup("secret", in: directory).error == -ESTALE)
    // Control: by name, without the rules of openat2, the secret is reached.
    let root = open(place.root, O_RDONLY | O_DIRECTORY)
    defer { close(root) }
    #expect(faccessat(root, "d/secret", R_OK, 0) == 0)
  }

  @Test func `a directory that was moved out is not found again`() {
    let place = Playground()
    place.makeDirectory("a/b")
    place.write("a/b/inside", "text")
    for name in ["x", "y", "z"] { place.makeDirectory(name) }
    let guest = Guest(place, descriptorLimit: 1)
    let directory = guest.lookup("b", in: guest.lookup("a").node).node
    let file = guest.lookup("inside", in: directory).node
    #expect(guest.read(file).text == "text")
    for name in ["x", "y", "z"] { _ = guest.list(guest.lookup(name).node) }
    rename(place.root + "/a/b", place.base + "/b")
    #expect(guest.lookup("inside", in: directory).error == -ESTALE)
    #expect(guest.list(directory).error == -ESTALE)
    #expect(guest.read(file).error == -ESTALE)
  }

  @Test func `a replaced file is noticed by its identity`() {
    let place = Playground()
    place.write("file", "mine")
    for name in ["x", "y", "z"] { place.write(name, name) }
    let guest = Guest(place, descriptorLimit: 1)
    let file = guest.lookup("file").node
    #expect(guest.read(file).text == "mine")
    for name in ["x", "y", "z"] { _ = guest.read(guest.lookup(name).node) }
    place.write("other", "another")
    rename(place.root + "/other", place.root + "/file")
    #expect(guest.read(file).error == -ESTALE)
    #expect(guest.read(guest.lookup("file").node).text == "another")
  }

  @Test func `file systems of the host's kernel are empty directories`() {
    let guest = Guest("/", isReadOnly: true)
    let proc = guest.lookup("proc")
    #expect(proc.mode & UInt32(S_IFMT) == UInt32(S_IFDIR))
    #expect(guest.list(proc.node).names.isEmpty)
    for name in ["self", "1", "\(getpid())", "sys", "kcore"] {
      #expect(guest.lookup(name, in: proc.node).error == -ENOENT)
    }
    // Control: the host has them, with the way into this process's memory.
    #expect(access("/proc/self/mem", R_OK) == 0)
  }

  @Test func `sockets, FIFOs and devices of the host cannot be opened`() {
    let place = Playground()
    mkfifo(place.root + "/fifo", 0o666)
    let guest = Guest(place)
    let fifo = guest.lookup("fifo")
    #expect(fifo.mode & UInt32(S_IFMT) == UInt32(S_IFIFO))
    #expect(guest.open(fifo.node, O_RDONLY) == -ENXIO)
    #expect(guest.open(fifo.node, O_RDWR) == -ENXIO)
    let create = bytesOf(linux_fuse_create_in(flags: UInt32(O_RDWR), mode: 0o644, umask: 0, open_flags: 0))
    #expect(guest.request(LINUX_FUSE_CREATE, 1, create + Array("fifo\0".utf8))!.error == -ENXIO)
    let device = bytesOf(
      linux_fuse_mknod_in(mode: UInt32(S_IFCHR) | 0o666, special_device: 0x101, umask: 0, padding: 0))
    #expect(guest.request(LINUX_FUSE_MKNOD, 1, device + Array("mem\0".utf8))!.error == -EPERM)
    #expect(access(place.root + "/mem", F_OK) != 0)
    let dev = Guest("/dev", isReadOnly: true)
    #expect(dev.open(dev.lookup("null").node, O_RDONLY) == -ENXIO)
  }

  @Test func `a node that was never given out is stale`() {
    let guest = Guest(Playground())
    for node: UInt64 in [0, 2, 999, .max] {
      #expect(guest.lookup("x", in: node).error == -ESTALE)
      #expect(guest.request(LINUX_FUSE_GETATTR, node, bytesOf(linux_fuse_getattr_in()))!.error == -ESTALE)
    }
  }

  @Test func `a directory that cannot be served is refused with the reason`() {
    var failure: Int32 = 0
    let options = FileServer.Options(isReadOnly: true)
    #expect(FileServer(tag: "t", directory: "/nonexistent", options: options, failure: &failure) == nil)
    #expect(failure == ENOENT)
    #expect(FileServer(tag: "t", directory: "/etc/passwd", options: options, failure: &failure) == nil)
    #expect(failure == ENOTDIR)
    #expect(FileServer(tag: "t", directory: "/proc", options: options, failure: &failure) == nil)
    #expect(failure == EINVAL)
  }

  @Test func `descriptors and nodes stay bounded while a guest looks up everything`() {
    let place = Playground()
    for index in 0..<300 {
      place.makeDirectory("d\(index)")
      place.write("d\(index)/f", "x")
    }
    let guest = Guest(place, descriptorLimit: 10)
    var nodes: [UInt64] = []
    for index in 0..<300 {
      let directory = guest.lookup("d\(index)").node
      let file = guest.lookup("f", in: directory).node
      #expect(guest.read(file).text == "x")
      nodes += [directory, file]
    }
    #expect(guest.server.table.counts.descriptors <= 12)
    #expect(guest.server.table.counts.nodes == 601)
    for node in nodes { _ = guest.request(LINUX_FUSE_FORGET, node, bytesOf(linux_fuse_forget_in(lookups: 1))) }
    #expect(guest.server.table.counts.nodes == 1)
  }
}

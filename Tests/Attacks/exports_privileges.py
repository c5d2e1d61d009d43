#!/usr/bin/env python3
# Root of a sandbox leaves on a writable export what would be a privilege on the host: programs that run as root, device files,
# file capabilities, labels. None of it may arrive on the host, whatever the sandbox is told; what is nobody's privilege does.
#
# host: @
# expect: nothing arrived
# expect: the sandbox sees its set-ID bits
import os, stat, subprocess

place = os.path.join(os.environ["SCRATCH"], "export")
os.mkdir(place)
inside = r"""
import os, stat
os.umask(0)
os.chdir("/srv")
bits = [0o4755, 0o2755, 0o6755, 0o4555]
def attempt(what, *arguments):
    try: what(*arguments)
    except OSError: return False
    return True
for i, mode in enumerate(bits):
    open(f"changed-{i}", "w").close()
    os.chmod(f"changed-{i}", mode)
    os.close(os.open(f"created-{i}", os.O_CREAT | os.O_RDWR, mode))
    temporary = os.open(".", os.O_TMPFILE | os.O_RDWR, mode)
    descriptors = os.open("/proc/self/fd", os.O_RDONLY)
    os.link(str(temporary), f"temporary-{i}", src_dir_fd=descriptors, follow_symlinks=True)
    os.mknod(f"made-{i}", stat.S_IFREG | mode)
    for name in (f"changed-{i}", f"created-{i}", f"temporary-{i}", f"made-{i}"):
        seen = stat.S_IMODE(os.stat(name).st_mode)
        assert seen == mode, (name, oct(seen), oct(mode))
assert not attempt(os.mknod, "device", stat.S_IFCHR | 0o666, os.makedev(1, 1))
assert not attempt(os.mknod, "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))
capability = bytes([1, 0, 0, 2, 0, 0x20]) + bytes(14)
assert not attempt(os.setxattr, "changed-0", "security.capability", capability)
assert not attempt(os.setxattr, "changed-0", "trusted.attack", b"v")
assert not attempt(os.setxattr, "changed-0", "user.apus.mode", b"7")
# What is nobody's privilege passes.
os.setxattr("changed-0", "user.attack", b"v")
os.mkdir("directory")
os.chmod("directory", 0o2775)
os.mkfifo("fifo")
print("the sandbox sees its set-ID bits")
"""
subprocess.run([os.environ["APUS"], "run", "--user", "0:0", "--bind", f"{place}:/srv", "--", "python3", "-c", inside], check=True)
found = 0
for name in os.listdir(place):
    path = os.path.join(place, name)
    status = os.lstat(path)
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o6000: raise SystemExit(f"{name} has mode {oct(status.st_mode)}")
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode): raise SystemExit(f"{name} is a device")
    if not stat.S_ISFIFO(status.st_mode):
        names = [a for a in os.listxattr(path) if not a.startswith("user.")]
        if names: raise SystemExit(f"{name} has {names}")
    found += 1
# Control: the same directory has what may arrive, and the host could have had the rest.
assert found == 18, found
assert os.getxattr(os.path.join(place, "changed-0"), "user.attack") == b"v"
assert os.stat(os.path.join(place, "directory")).st_mode & 0o7777 == 0o2775
os.chmod(os.path.join(place, "changed-0"), 0o4755)
assert os.stat(os.path.join(place, "changed-0")).st_mode & 0o4000
print("nothing arrived")

#!/usr/bin/env python3
# Sockets of the host in exported directories, and sockets of a sandbox as the host sees them. A path leads to no socket on the other side:
# whoever connects is refused, and a read-only export takes no socket file. The host's side is asked for nothing meanwhile.
#
# host: @
# expect: the sandbox is refused
# expect: the sandbox's own socket works on the export
# expect: the host is refused
# expect: nobody came
import os, socket, subprocess

place = os.path.join(os.environ["SCRATCH"], "export")
os.mkdir(place)
os.chmod(place, 0o777)
stream = socket.socket(socket.AF_UNIX)
stream.bind(place + "/stream")
stream.listen(5)
datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
datagrams.bind(place + "/datagrams")
for name in ("stream", "datagrams"): os.chmod(f"{place}/{name}", 0o777)
abstract = socket.socket(socket.AF_UNIX)
abstract.bind(f"\0apus-attack-{os.getpid()}")
abstract.listen(5)
inside = f"""
import errno, os, socket
def refused(kind, name, error=errno.ECONNREFUSED):
    s = socket.socket(socket.AF_UNIX, kind)
    try: s.connect(name)
    except OSError as e: assert e.errno == error, (name, e); return
    raise SystemExit("connected to " + repr(name))
for directory in ("/srv", "/media"):
    refused(socket.SOCK_STREAM, directory + "/stream")
    refused(socket.SOCK_DGRAM, directory + "/datagrams")
    try: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", directory + "/datagrams")
    except ConnectionRefusedError: pass
    else: raise SystemExit("sent")
refused(socket.SOCK_STREAM, "\\0apus-attack-{os.getpid()}")
s = socket.socket(socket.AF_UNIX)
try: s.bind("/media/own")
except OSError as e: assert e.errno == errno.EROFS, e
else: raise SystemExit("bound on a read-only export")
print("the sandbox is refused")
s.bind("/srv/own")
s.listen(1)
c = socket.socket(socket.AF_UNIX)
c.connect("/srv/own")
p, _ = s.accept()
c.send(b"x")
assert p.recv(1) == b"x"
os.chmod("/srv/own", 0o777)
print("the sandbox's own socket works on the export", flush=True)
input()
"""
sandbox = subprocess.Popen(
    [os.environ["APUS"], "run", "--user", "0:0", "--bind", f"{place}:/srv", "--bind", f"{place}:/media:ro", "--", "python3", "-c", inside],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
for _ in range(2): print(sandbox.stdout.readline(), end="", flush=True)
try: socket.socket(socket.AF_UNIX).connect(place + "/own")
except ConnectionRefusedError: print("the host is refused")
sandbox.communicate("\n")
assert sandbox.returncode == 0
# Control: the host's own sockets work, and nobody else has used them.
for s in (stream, datagrams, abstract): s.setblocking(False)
for s in (stream, abstract):
    try: s.accept()
    except BlockingIOError: continue
    raise SystemExit("somebody connected")
try: datagrams.recv(10)
except BlockingIOError: print("nobody came")
socket.socket(socket.AF_UNIX).connect(place + "/stream")
stream.accept()

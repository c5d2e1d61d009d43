# Programs that speak through local sockets.

## python
python3 - <<'END'
import multiprocessing, socket, os, threading, socketserver, tempfile
def child(pipe):
    pipe.send([1, 2, {"a": b"x" * 100000}])
    print(pipe.recv(), flush=True)
if __name__ == "__main__":
    a, b = multiprocessing.Pipe()
    p = multiprocessing.Process(target=child, args=(b,))
    p.start(); print(len(a.recv()[2]["a"]), flush=True); a.send("to the child"); p.join()
    with multiprocessing.Manager() as manager:
        d = manager.dict(); d["k"] = 5; print(dict(d))
    with multiprocessing.Pool(3) as pool: print(sum(pool.map(abs, range(-100, 100))))
    class Echo(socketserver.StreamRequestHandler):
        def handle(self): self.wfile.write(self.rfile.readline().upper())
    place = tempfile.mkdtemp() + "/echo"
    with socketserver.ThreadingUnixStreamServer(place, Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(place); s.sendall(b"hello\n"); text = s.recv(100)
        print(text); server.shutdown()
    os.unlink(place)
END

## agent
d=$(mktemp -d)
eval "$(ssh-agent -a "$d/agent")" >"$d/out"
ssh-keygen -q -t ed25519 -N '' -C key -f "$d/key"
ssh-add -q "$d/key"; ssh-add -l | cut -d ' ' -f 1,3,4
ssh-add -q -D; ssh-add -l
kill "$SSH_AGENT_PID"; rm -r "$d"

## bus
d=$(mktemp -d)
cat >"$d/conf" <<END
<busconfig><type>session</type><listen>unix:path=$d/bus</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*"/><allow own="*"/><allow receive_sender="*"/></policy></busconfig>
END
dbus-daemon --config-file="$d/conf" --fork --print-pid >"$d/pid"
export DBUS_SESSION_BUS_ADDRESS=unix:path=$d/bus
dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames | tail -n 4 | tr -s ' '
dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.GetConnectionUnixUser string:org.freedesktop.DBus | tail -n 1
kill "$(cat "$d/pid")"; rm -r "$d"

## log
d=$(mktemp -d)
python3 - "$d/log" <<'END'
import socket, subprocess, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])
subprocess.run(["logger", "-u", sys.argv[1], "--", "a line"]); print(s.recv(500)[-6:])
END
rm -r "$d"

## tmux
d=$(mktemp -d); export TMUX_TMPDIR=$d
tmux -f /dev/null new-session -d -x 80 -y 24 'echo in the window; exec sleep 60'
until tmux capture-pane -p | grep 'in the window'; do sleep 0.1; done
tmux list-sessions -F '#{session_windows}'
tmux kill-server; rm -r "$d"

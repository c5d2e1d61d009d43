# Debian's own programs, dynamically linked: the same commands natively and in Apus.

## bash
echo "$BASH_VERSION"
for i in 1 2 3; do date +%s; done | wc -l
declare -A m; m[a]=1; m[b]=2; echo "${m[@]}" | tr ' ' '\n' | sort
diff <(seq 3) <(seq 4); echo $?
mapfile -t lines < <(seq 5); echo "${#lines[@]}"
[[ abc =~ b(.) ]] && echo "${BASH_REMATCH[1]}"
coproc cat; echo hi >&"${COPROC[1]}"; read -r x <&"${COPROC[0]}"; echo "$x"; exec {COPROC[1]}>&-; wait
time_out=$(timeout 0.2 sleep 5; echo $?); echo "$time_out"
echo {1..5} $((2 ** 20)) ${PATH:+set}

## python
python3 - <<'END'
import os, sys, subprocess, threading, tempfile, json, hashlib
print(sum(range(10**6)))
print(subprocess.run(["echo", "child"], capture_output=True, text=True).stdout.strip())
lock, total = threading.Lock(), 0
def add():
    global total
    for _ in range(1000):
        with lock: total += 1
ts = [threading.Thread(target=add) for _ in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
print(total)
with tempfile.TemporaryDirectory() as d:
    p = os.path.join(d, "f")
    open(p, "w").write("x" * 100000)
    print(os.stat(p).st_size, hashlib.sha256(open(p, "rb").read()).hexdigest()[:16], os.listdir(d))
r, w = os.pipe()
if os.fork() == 0:
    os.write(w, b"from child"); os._exit(3)
print(os.read(r, 100), os.waitstatus_to_exitcode(os.wait()[1]))
try: open("/none/such")
except OSError as e: print(e.strerror)
print(json.dumps({"a": [1, 2, {"b": None}]}), sys.version_info[0])
END

## python-processes
python3 -c '
import multiprocessing as m
def f(x): return x * x
if __name__ == "__main__":
    with m.get_context("fork").Pool(4) as p: print(p.map(f, range(10)))
' 2>&1 | tail -n 1

## coreutils
cd /usr/bin
ls | wc -l; ls -l /usr/bin | awk '{print $1, $5, $9}' | md5sum
ls -ld / /usr /etc | awk '{print $1, $3, $4}'
cat /etc/debian_version; head -c 1000 /bin/ls | md5sum
stat -c '%a %U %F %s' /etc/passwd; readlink -f /proc/self/exe; id -u
seq 1 100000 | sort -R --random-source=/dev/zero | sort -n | md5sum
factor 1234567890; printf '%s\n' c a b | sort | uniq -c | wc -l; tac /etc/passwd | md5sum
cut -d: -f1 /etc/passwd | paste -sd, | md5sum; du -s /etc/passwd | cut -f2
date -d @0 -u; basename $(pwd); nproc >/dev/null; echo $?; env -i A=1 env; test -x /bin/ls; echo $?
echo abc | tee /dev/null | rev; expr 5 + 3; sleep 0.01; true; false; echo $?

## grep-find
grep -r root /etc/passwd /etc/group | sort
grep -rl . /etc/apt 2>/dev/null | sort | md5sum
grep -c . /etc/passwd; grep -E '^(root|daemon):' /etc/passwd | cut -d: -f1
find /etc -maxdepth 2 -name '*.conf' 2>/dev/null | sort | md5sum
find /usr/share/doc -type f 2>/dev/null | head -n 3000 | wc -l
find /usr/bin -type l -name 'p*' | sort | md5sum

## tar-gzip
d=$(mktemp -d); cd $d
mkdir -p t/a/b; for i in $(seq 50); do seq $i > t/a/f$i; done; ln -s ../a t/a/link; chmod 600 t/a/f1
tar cf x.tar t; tar tf x.tar | sort | md5sum; gzip -9n < x.tar > x.gz; gzip -dc x.gz | cmp - x.tar && echo same
mkdir out; tar xf x.tar -C out; diff -r t out/t && echo equal; stat -c %a out/t/a/f1
tar czf - t | tar tzf - | wc -l; cd /; rm -rf $d

## awk-sed
seq 1 1000 | awk '{s += $1; q += $1 * $1} END {print s, q}'
awk -F: '{print $1}' /etc/passwd | sort | md5sum
seq 10 | sed -n '3,5p;s/^1/x/p'; echo 'a b c' | sed 's/\(.\) \(.\)/\2 \1/'
awk 'BEGIN {while (("seq 3" | getline x) > 0) print "got", x; close("seq 3"); print "out" | "cat"}'
d=$(mktemp -d); cp /etc/passwd $d/p; sed -i s/root/ROOT/ $d/p; head -n 1 $d/p; rm -rf $d

## perl
perl -e 'my %h; $h{$_ % 7}++ for 1..10000; print join(",", map {"$_=$h{$_}"} sort keys %h), "\n"; my $o = `echo sub`; print $o; my $p = fork; exit 5 if !$p; waitpid $p, 0; print $? >> 8, "\n"; local $SIG{ALRM} = sub { print "alarm\n" }; alarm 1; select undef, undef, undef, 3;'

## hundred-processes
for i in $(seq 100); do /bin/true; done; echo done
p=(); for i in $(seq 20); do (exit $i) & p+=($!); done; n=0; for i in "${p[@]}"; do wait $i; n=$((n + $?)); done; echo $n
seq 200 | xargs -P 4 -n 1 echo | sort -n | md5sum

## big-output
seq 1 200000 | md5sum
head -c 20000000 /dev/zero | md5sum
head -c 3000000 /dev/urandom | wc -c

## broken-pipe
yes | head -n 1; echo "${PIPESTATUS[@]}"
seq 1000000 | true; echo "${PIPESTATUS[1]}"

## limits
(ulimit -n 20; bash -c 'exec 30</dev/null' 2>/dev/null; echo $?)
(ulimit -v 200000; python3 -c 'x = bytearray(10**9)' 2>&1 | tail -n 1)
(ulimit -f 1; head -c 100000 /dev/zero > /tmp/limit.$$; echo $?) 2>/dev/null; rm -f /tmp/limit.$$
(ulimit -t 1; while :; do :; done) 2>/dev/null; echo $?

## setarch
# Without random addresses two runs are alike; with ADDR_COMPAT_LAYOUT mappings begin at a third of the space.
places() { setarch "$@" cat /proc/self/maps | grep -E 'stack|libc' | cut -d- -f1; }
[ "$(places -R)" = "$(places -R)" ] && echo alike
[ "$(cat /proc/self/maps)" = "$(cat /proc/self/maps)" ] || echo different
setarch -R -L cat /proc/self/maps | grep ld-linux | head -n 1 | cut -c1-4

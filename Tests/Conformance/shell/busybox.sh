# Cases for busybox's ash: each block is run natively and in Apus, and the outputs are compared.
# `## NAME SHELL` begins a case.

## pipeline busybox
echo one two three | tr ' ' '\n' | sort -r | busybox nl
busybox seq 1 1000 | busybox sort -n | busybox tail -n 3 | busybox wc -l
yes | head -n 5000 | wc -c
echo $?

## variables busybox
a=5; b=$((a * 7 + 2)); echo "$b"
for i in 1 2 3 4 5; do printf '%s ' "$((i * i))"; done; echo
f() { local x=$1; echo "f $x"; return 3; }
f arg; echo "status $?"
case abc.txt in *.txt) echo text ;; *) echo other ;; esac
x=hello; echo "${x%lo}" "${x#he}" "${#x}" "${y:-default}"

## background-jobs busybox
(for i in 1 2 3; do (busybox sleep 0.0$i; echo "job $i") & done; wait; echo waited) | sort
busybox sleep 10 & p=$!
kill $p; wait $p; echo "killed: $?"
(exit 7) & wait $!; echo "status $?"

## files busybox
d=$(mktemp -d); cd $d
echo hello > a; cat a; cp a b; mv b c; ln -s a l; ln c h; cat l h
ls -1; [ -L l ] && echo link; [ -f c ] && echo file; wc -c < a
mkdir -p x/y/z; touch x/y/z/f; find x | sort; rm -rf x; ls -1 | wc -l
echo more >> a; cat < a; : > a; ls -l a | awk '{print $1, $5}'
cat > here <<END
here $((1 + 1)) document
END
cat here; cd /; rm -rf $d

## redirection busybox
exec 3>&1; echo to-three >&3; exec 3>&-
(echo out; echo err >&2) 2>&1 | sort
echo gone > /dev/null
{ echo a; echo b; } | while read x; do echo "got $x"; done
cat nofile 2>/dev/null || echo "failed $?"
read line < /etc/hostname; echo "read $?"

## traps busybox
trap 'echo trapped' USR1; kill -USR1 $$; echo after
trap 'echo bye' EXIT
(trap 'echo inner; exit 4' TERM; kill -TERM $(busybox sh -c 'echo $PPID'); sleep 1); echo "sub $?"
exit 6

## exit-from-stdin busybox
echo 'exit 3' | busybox sh; echo $?
busybox sh -c 'kill -9 $$'; echo $?
busybox sh -c 'kill -TERM $$'; echo $?
/nonexistent 2>/dev/null; echo $?
/etc/passwd 2>/dev/null; echo $?

## loops busybox
i=0; while [ $i -lt 300 ]; do i=$((i + 1)); busybox true || echo bad; done; echo $i
i=0; until [ $i -ge 50 ]; do x=$(echo $i); i=$((i + 1)); done; echo $x

## tools busybox
printf 'b 2\na 1\nc 3\n' | busybox sort | busybox awk '{s += $2; print $1} END {print s}'
echo 'hello world' | busybox sed 's/o/0/g' | busybox md5sum
busybox seq 100 | busybox grep 7 | busybox tr '\n' ' '; echo
busybox dd if=/dev/zero bs=1k count=64 2>/dev/null | busybox sha256sum
busybox expr 6 \* 7; busybox basename /a/b/c.d .d; busybox dirname /a/b/c
echo abc | busybox od -c | busybox head -n 1
busybox yes x | busybox dd bs=2 count=50000 2>/dev/null | busybox wc -c

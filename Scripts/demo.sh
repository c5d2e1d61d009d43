# The demonstration that `make run` boots: a busybox script on a kernel of its own. /mnt is this directory of the host.
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say "The kernel"
cat /proc/version
echo "booted and running this script $(cut -d' ' -f1 /proc/uptime) s after its first instruction"

say "A directory of the host, served by the monitor through VirtioFS"
ls -l /mnt | head -n 6

say "Writing into the overlay: the sandbox sees the change, the host does not"
echo "written inside Apus" >/etc/motd
rm /etc/passwd
cat /etc/motd
ls /etc/passwd
mount | head -n 4

say "A pipe of three programs: ls | sort | wc"
ls /usr/bin | sort | wc

say "Background jobs"
for i in 3 2 1; do
  (sleep 0.$i; echo "job $i has finished") &
done
wait
echo "all jobs are done"

say "Time and memory"
echo "up for $(cut -d' ' -f1 /proc/uptime) s, $(ls -d /proc/[0-9]* | wc -l) processes, $(nproc) CPUs"
grep -E '^Mem(Total|Free)|^Cached|^AnonPages|^Slab|^PageTables' /proc/meminfo
echo

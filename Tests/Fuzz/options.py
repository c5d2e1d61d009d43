#!/usr/bin/env python3
"""Fuzzes the command line of apus and, through --append, the options of the kernel's command line: options.py APUS SEED RUNS.

Each run has a few options with random values and a command that ends with 0. It must end with that, or with 125 and a line that says why;
never by a signal, with a trap of the monitor, or with a bug of the kernel.
"""
import atexit
import random
import shutil
import subprocess
import sys
import tempfile

apus, seed, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
directory = tempfile.mkdtemp()
atexit.register(shutil.rmtree, directory, ignore_errors=True)

numbers = ["0", "1", "-1", "2", "64", "65", "4294967296", "18446744073709551616", "-9223372036854775808", "1e3", "0x10", "", " ", "٣", "1.5", "nan", "inf"]
sizes = numbers + ["16M", "15M", "1T", "2T", "16m", "32MB", "M", "99999999999999999999G", "17179869184G", "16MM", "33554431"]
paths = ["/", "/tmp", "/etc", "/none", "", ".", "..", "//", "/proc", directory, "/etc/hostname", "x" * 5000, "a\nb", "/tmp/\x1b[31m"]
words = ["slob", "numa=fake=2", "numa=fake=", "numa=fake=99999999999999999999", "numa", "=", "==", "a=b", "quiet", "-", "--", "slob=1", '"', "\\", "x" * 3000, "é", "\t", "init=",
         "mem=1", "loglevel=99999999999"]


def text():
    return "".join(chr(chance.choice([chance.randrange(1, 127), chance.randrange(1, 0x500)])) for _ in range(chance.randrange(12)))


def one_of(values):
    return text() if chance.randrange(6) == 0 else chance.choice(values)


options = {
    "--memory": lambda: one_of(sizes),
    "--cpus": lambda: one_of(numbers + ["1", "2", "3"]),
    "--user": lambda: one_of(numbers) + chance.choice(["", ":", ":" + one_of(numbers)]),
    "--root": lambda: one_of(["/", "/"] + paths),
    "--bind": lambda: one_of(paths) + ":" + one_of(paths) + chance.choice(["", ":ro", ":rw", ":"]),
    "--env": lambda: one_of(["A=B", "A", "=", "A=", "=B", "A=B=C"]),
    "--cwd": lambda: one_of(paths),
    "--hostname": lambda: one_of(["box", "", "x" * 64, "x" * 65, "a b"]),
    "--append": lambda: one_of(words),
    "--disk": lambda: one_of(paths) + chance.choice(["", ":ro", ":x"]),
    # Swap files are made: only here.
    "--swap": lambda: directory + one_of(["/swap", "/none/swap", "", "/"]).replace("..", "") + chance.choice(["", ":16M", ":" + one_of(sizes)]),
    "--timeout": lambda: one_of(["100", "200", "300"] + [n for n in numbers if n not in ("1", "2", "0")]),
    "--trace": lambda: one_of(["syscalls", "", "x"]),
    "--trace-file": lambda: one_of(["/dev/null", "/none/x", ""]),
    "--kernel": lambda: one_of(["/etc/hostname", "/bin/true", "/none", "/dev/null"]),
}

statuses = {}
faults = 0
for run in range(runs):
    line = [apus, "run"]
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        name = chance.choice(list(options))
        line += [name, options[name]().replace("\0", "")]
    line += ["--", "busybox", "true"]
    try:
        end = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, cwd="/")
        status, said = end.returncode, end.stderr.decode(errors="replace")
    except subprocess.TimeoutExpired:
        status, said = "hang", ""
    statuses[status] = statuses.get(status, 0) + 1
    bad = any(mark in said for mark in ("kernel bug", "panic", "Fatal error", "Precondition"))
    if status not in (0, 124, 125, 126, 127) or bad or (status == 125 and not said):
        faults += 1
        print(f"FAULT: status {status}: {line[1:]!r:.400}: {said[:300]!r}")
print(f"{runs} command lines in {runs} attempts: " + ", ".join(f"{count} with status {status}" for status, count in sorted(statuses.items(), key=str)))
sys.exit(faults != 0 or statuses.get(0, 0) == 0 or statuses.get(125, 0) == 0)

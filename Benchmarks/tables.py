# Prints the results of run.sh (JMH's JSON) as tables: nanoseconds for each operation.
import json
import re
import sys

OPERATIONS = 1000
NANOSECONDS = {"ns": 1, "μs": 1e3, "ms": 1e6, "s": 1e9}


def natural(text):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


tables = {}
for result in json.load(open(sys.argv[1])):
    _, _, target, name = result["benchmark"].split(".", 3)
    row, column = name.replace("_", " ").rsplit(", ", 1)
    clock = result["secondaryMetrics"]["Time (wall clock)"]
    fastest = min(sample for samples in clock["rawData"] for sample in samples)
    tables.setdefault(target, {}).setdefault(row, {})[column] = fastest * NANOSECONDS[clock["scoreUnit"]] / OPERATIONS

for target, rows in sorted(tables.items()):
    columns = sorted({column for row in rows.values() for column in row})
    print(f"### {target.removesuffix('Benchmarks')}\n")
    print("| ns per operation | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for row in sorted(rows, key=natural):
        print(f"| {row} | " + " | ".join(f"{rows[row][c]:.1f}" if c in rows[row] else "" for c in columns) + " |")
    print()

# Makes a table of figures on standard input, lines of CSV "suite.operation",value: tables.py TITLE UNIT. A figure
# that comes several times counts with the least of them.
import csv
import re
import sys


def natural(text):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def figure(value):
    """Small ones more exactly: bench.sh divides them."""
    return "" if value is None else f"{value:.{2 if 0 < value < 10 else 1}f}"


rows, columns = {}, []
for name, value in csv.reader(sys.stdin):
    suite, operation = name.split(".", 1)
    *kinds, column = suite.split(", ")
    row = ", ".join([operation, *kinds])
    figures = rows.setdefault(row, {})
    figures[column] = min(float(value), figures.get(column, float("inf")))
    if column not in columns:
        columns.append(column)

if rows:
    print(f"### {sys.argv[1]}\n")
    print(f"| {sys.argv[2]} | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for row in sorted(rows, key=natural):
        print(f"| {row} | " + " | ".join(figure(rows[row].get(c)) for c in columns) + " |")
    print()

# Draws the call of fork by size of the parent, from bench.sh's table: bench-plot.py TABLE. Both scales are logarithmic.
import math
import sys

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 320, 70, 50, 20, 110
COLOURS = {"native": "#888888", "Apus": "#c0392b"}

points = {"native": [], "Apus": []}
for line in open(sys.argv[1]):
    cells = [cell.strip() for cell in line.strip("|\n ").split("|")]
    if not cells[0].endswith(" MiB"):
        continue
    for name, cell in zip(points, cells[1:3]):
        try:
            points[name].append((int(cells[0].split()[0]), float(cell)))
        except ValueError:
            pass  # not measured

every = [point for line in points.values() for point in line]
if not every:
    sys.exit("no figures")
sizes = sorted({size for size, _ in every})
low = math.floor(math.log10(min(time for _, time in every)))
high = math.ceil(math.log10(max(time for _, time in every)))


def x(size):
    span = math.log2(sizes[-1] / sizes[0]) or 1
    return LEFT + math.log2(size / sizes[0]) / span * (WIDTH - LEFT - RIGHT)


def y(time):
    return HEIGHT - BOTTOM - (math.log10(time) - low) / ((high - low) or 1) * (HEIGHT - BOTTOM - TOP)


def text(at_x, at_y, words, anchor="middle", colour="#444444"):
    print(f'<text x="{at_x:.0f}" y="{at_y:.0f}" text-anchor="{anchor}" fill="{colour}">{words}</text>')


print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">')
print(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>')
for power in range(low, high + 1):
    at = y(10**power)
    print(f'<path d="M{LEFT} {at:.0f}H{WIDTH - RIGHT}" stroke="#dddddd"/>')
    label = {3: "1 ms", 4: "10 ms", 5: "100 ms", 6: "1 s"}.get(power, f"{10**power:g} us")
    text(LEFT - 8, at + 4, label, "end")
for size in sizes:
    text(x(size), HEIGHT - BOTTOM + 18, f"{size} MiB" if size < 1024 else f"{size // 1024} GiB")
text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "private memory of the parent")
for name, line in points.items():
    if not line:
        continue
    path = " ".join(f"{x(size):.1f},{y(time):.1f}" for size, time in line)
    print(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
    for size, time in line:
        print(f'<circle cx="{x(size):.1f}" cy="{y(time):.1f}" r="3" fill="{COLOURS[name]}"/>')
    text(x(line[-1][0]) + 10, y(line[-1][1]) + 4, name, "start", COLOURS[name])
print("</svg>")

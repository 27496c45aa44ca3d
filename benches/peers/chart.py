#!/usr/bin/env python3
"""chart.py OUT.svg TITLE=RESULTS.jsonl..: what compare.sh measured, as bars: seconds of wall time, of both sides' processors, and
MiB on the wire, one group for each kind of run and corpus, the shortest first. TITLE says what was different about the run ("", "50 Mbit/s")."""
import html, json, statistics, sys

KINDS = {"M1": "first fetch", "M2": "first fetch", "M3": "update", "M5": "ingest"}
FIGURES = (("wall, s", lambda r: r["wall"]), ("CPU of both sides, s", lambda r: r["cpu_s"] + r["cpu_r"]),
           ("on the wire, MiB", lambda r: (r["rx"] + r["tx"]) / 1048576))
LEFT, WIDTH, BAR, GAP = 110, 190, 14, 34

groups = {}
for argument in sys.argv[2:]:
    title, path = argument.split("=", 1)
    for row in map(json.loads, filter(str.strip, open(path))):
        if row["m"] in KINDS and row.get("rc") == 0:
            groups.setdefault((row["m"], row["corpus"], title), {}).setdefault(row["peer"], []).append(row)

out, y = [], 10


def text(x, y, words, style="", anchor="start"):
    out.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}"{style}>{html.escape(words)}</text>')


for (kind, corpus, title), systems in groups.items():
    y += GAP
    text(6, y, f"{corpus}, {KINDS[kind]}" + (f", {title}" if title else ""), ' font-weight="bold"')
    figures = FIGURES[:2] if kind == "M5" else FIGURES
    for column, (name, _) in enumerate(figures):
        text(LEFT + column * (WIDTH + 60), y + 16, name, ' fill="#555"')
    y += 22
    medians = {peer: [statistics.median(map(f, rows)) for _, f in figures] for peer, rows in systems.items()}
    most = [max(m[i] for m in medians.values()) or 1 for i in range(len(figures))]
    for peer, figure in sorted(medians.items(), key=lambda pair: pair[1][0]):
        ours = peer == "ours"
        text(LEFT - 6, y + BAR - 3, "softservice" if ours else peer, ' font-weight="bold"' if ours else "", "end")
        for column, value in enumerate(figure):
            x, width = LEFT + column * (WIDTH + 60), max(1, WIDTH * value / most[column])
            out.append(f'<rect x="{x}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{"#1f6f5c" if ours else "#b9c2c0"}"/>')
            text(round(x + width + 4), y + BAR - 3, f"{value:.1f}")
        y += BAR + 2
y += 14
head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + 3 * (WIDTH + 60)}" height="{y}" font-family="sans-serif" font-size="12">'
with open(sys.argv[1], "w") as file:
    file.write("\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *out, "</svg>", ""]))

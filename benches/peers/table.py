#!/usr/bin/env python3
"""table.py RESULTS.jsonl [LINK]: what compare.sh measured, as Markdown: medians (least-most), ours / rival, and the goal."""
import collections, json, statistics, sys

rows = [json.loads(line) for line in open(sys.argv[1]) if line.strip()]
link = sys.argv[2] if len(sys.argv) > 2 else ""
TITLE = {"M1": "First fetch of one file", "M2": "First fetch of a tree", "M3": "Update", "M5": "Ingest"}
WALL, CPU, WIRE = "wall", "cpu", "wire"
# The most that ours may need, as a share of a rival's: (kind, corpus, rival) -> {figure: share}.
GOALS = collections.defaultdict(dict)
for rival, share in {"rqbit": 0.6, "nix": 0.75, "sendme": 0.35, "rsync": 1.6}.items():
    GOALS["M1", "C1", rival][WALL] = share
GOALS["M1", "C1", "rqbit"][CPU] = 0.8
for corpus in ("C2", "C3"):
    for rival, share in {"ostree": 0.35, "libtorrent": 0.5, "rsync": 1.5}.items():
        GOALS["M2", corpus, rival][WALL] = share
    for rival in ("ostree", "casync", "restic", "borg"):
        GOALS["M5", corpus, rival][WALL] = 1.0
GOALS["M2", "C3", "sendme"][WALL] = 0.15
for corpus in ("C1b", "C2b", "C3b"):
    GOALS["M3", corpus, "rsync"][WALL] = 1.5
if link:
    # Where the link is the limit, bytes and time decide.
    GOALS.clear()
    for corpus in ("C2", "C3"):
        for rival in ("ostree", "casync"):
            GOALS["M2", corpus, rival].update({WALL: 1.0, WIRE: 1.0})
    for corpus in ("C1b", "C2b", "C3b"):
        for rival in ("rsync", "rsyncz", "zsync", "ostree", "ostreedelta", "casync"):
            GOALS["M3", corpus, rival].update({WALL: 1.0, WIRE: 1.0})

runs, wrong = collections.OrderedDict(), {}
for row in rows:
    if row["m"] == "verify":
        wrong[row["peer"], row["corpus"]] = row["content"]
    elif row["rc"] == 0:
        row[CPU] = row["cpu_s"] + row["cpu_r"]
        row[WIRE] = row["rx"] + row["tx"]
        runs.setdefault((row["m"], row["corpus"]), collections.OrderedDict()).setdefault(row["peer"], []).append(row)


def middle(some, figure):
    return statistics.median(row[figure] for row in some)


def share(ours, some, figure, goals):
    there = middle(some, figure)
    if not ours or not there:
        return "–"
    ratio = middle(ours, figure) / there
    if figure not in goals:
        return f"{ratio:.2f}"
    return f"**{ratio:.2f}** ({'≤' if ratio <= goals[figure] else 'not ≤'} {goals[figure]:g})"


for (kind, corpus), systems in runs.items():
    print(f"\n### {TITLE[kind]}: {corpus}{', ' + link + ' link' if link else ''}\n")
    ours = systems.get("ours")
    mib = 1048576
    wire = kind != "M5"
    print("| system | n | wall s (least–most) | CPU s send + receive | peak RSS MiB send / receive |"
          + (" wire MiB |" if wire else "") + " disk MiB | entries wrong | ours: wall | CPU |" + (" wire |" if wire else ""))
    print("|---|---|---|---|---|" + ("---|" if wire else "") + "---|---|---|---|" + ("---|" if wire else ""))
    for peer, some in sorted(systems.items(), key=lambda pair: middle(pair[1], WALL)):
        walls = [row[WALL] for row in some]
        cells = [f"**softservice**" if peer == "ours" else peer, len(some),
                 f"{statistics.median(walls):.2f} ({min(walls):.2f}–{max(walls):.2f})",
                 f"{middle(some, 'cpu_s'):.2f} + {middle(some, 'cpu_r'):.2f}",
                 f"{middle(some, 'hwm_s'):.0f} / {middle(some, 'hwm_r'):.0f}"]
        if wire:
            cells.append(f"{middle(some, WIRE) / mib:.1f}")
        cells += [f"{middle(some, 'disk') / mib:.0f}", wrong.get((peer, corpus), "–")]
        goals = GOALS.get((kind, corpus, peer), {})
        figures = [WALL, CPU] + ([WIRE] if wire else [])
        cells += ["–"] * len(figures) if peer == "ours" else [share(ours, some, f, goals) for f in figures]
        print("| " + " | ".join(str(c) for c in cells) + " |")
print("\nours: the median of ours / the rival's, and in brackets the most that it is meant to be.")

#!/usr/bin/env python3
"""Medians of a swarm's rounds as a table in Markdown: swarm_table.py RESULTS.jsonl N MBIT."""
import json
import statistics
import sys

rows = {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    rows.setdefault(r["peer"], []).append(r)
leechers, rate = int(sys.argv[2]), sys.argv[3]


def medians(name, of):
    values = [r[name] for r in of if r[name] is not None]
    return statistics.median(values) if values else float("nan")


print(f"{leechers} leechers, {rate} Mbit/s each way\n")
print("| system | n | finished | wrong | first s | last s (least–most) | last / bound | seeder, copies | sent in all, copies | CPU s seeder + leechers |")
print("|---|---|---|---|---|---|---|---|---|---|")
for peer, of in sorted(rows.items(), key=lambda item: medians("last", item[1])):
    lasts = [r["last"] for r in of if r["last"] is not None] or [float("nan")]
    last, bound = medians("last", of), medians("bound", of)
    name = "**softservice**" if peer == "ours" else peer
    print(
        f"| {name} | {len(of)} | {sum(r['done'] for r in of)} of {leechers * len(of)} | {sum(r['bad'] for r in of)} "
        f"| {medians('first', of):.1f} | {last:.1f} ({min(lasts):.1f}–{max(lasts):.1f}) | {last / bound:.2f} "
        f"| {medians('seeder_copies', of):.2f} | {medians('leech_copies', of):.2f} "
        f"| {medians('cpu_seed', of):.1f} + {medians('cpu_leech', of):.1f} |"
    )

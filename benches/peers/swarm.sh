#!/usr/bin/env bash
# Ours beside other systems in a swarm: one seeder and N leechers that start together, each in a network namespace of its
# own, each link shaped to MBIT both ways.
#   benches/peers/swarm.sh [RIVAL..]      prints one table in Markdown; ours alone when none is named
# RIVAL is a script of the harness: aria2bt libtorrent rqbit transmission sendme .. ; they take turns with ours, round by round.
#   RUNS=3  N=8  MBIT=50      rounds, leechers, Mbit/s
#   SOFTSERVICE, OURS_NODE: our program, and flags for each of its nodes (such as --no-mdns)
#   BENCH_PEERS, BP_CORPORA, BP_WORK, BP_LOCK, BP_BIN, BP_PYTHON: as in compare.sh
# The harness names a system by a file in its folder; it gets ours by links to it in a folder that is gone afterwards.
# Needs root. Bound: what no swarm can be faster than, max(F/u, F/d, NF/(u+Nu)).
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BENCH_PEERS=${BENCH_PEERS:-$(cd "$here/../../.." && pwd)/shared/bench-peers}
[ -r "$BENCH_PEERS/swarm.sh" ] || { echo "swarm.sh: no harness at $BENCH_PEERS; name its folder in BENCH_PEERS" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "swarm.sh: needs root for network namespaces" >&2; exit 2; }
export SOFTSERVICE=${SOFTSERVICE:-$(cd "$here/../.." && pwd)/target/release/softservice}
[ -x "$SOFTSERVICE" ] || { echo "swarm.sh: no program at $SOFTSERVICE: cargo build --release -p softservice" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$BENCH_PEERS"/* "$folder/"
rm "$folder/swarm"
mkdir "$folder/swarm"
ln -s "$BENCH_PEERS"/swarm/* "$folder/swarm/"
ln -s "$here/swarm-ours.sh" "$folder/swarm/ours.sh"
export BP_WORK=${BP_WORK:-/dev/shm/swarm$$} BP_CG=${BP_CG:-swarm$$} BP_LOCK=${BP_LOCK:-$folder/lock}
export BP_CORPORA=${BP_CORPORA:-/tmp/peers/corpora} BP_RESULTS=$folder/results.jsonl N=${N:-8} MBIT=${MBIT:-50}
if [ ! -e "$BP_CORPORA/M4/swarm.bin" ]; then
    bash "$BENCH_PEERS/corpora.sh" m4 >&2 || exit
fi
for round in $(seq "${RUNS:-3}"); do
    for system in ours "$@"; do
        RUNS=1 bash "$folder/swarm.sh" "$system" >&2 || echo "swarm.sh: $system failed in round $round" >&2
    done
done
rm -rf "$BP_WORK"
"${BP_PYTHON:-/usr/bin/python3}" "$here/swarm_table.py" "$folder/results.jsonl" "$N" "$MBIT"

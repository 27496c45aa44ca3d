#!/usr/bin/env bash
# What a publisher and a device do with two versions of a tree, without a network in the way, and what they need for it.
#   benches/generations.sh OLDER NEWER [BINARY]     prints one table in Markdown; BINARY is target/release/softservice unless named
# OLDER and NEWER are folders, copied before (benches/peers/fit.py gives names that a tree of ours refuses another form).
# Publish, publish again with nothing changed, and with the newer tree; on a device: up, a second softservice from the same
# content, update, update back to the older content as a third version; and then the device's node by itself.
# RUNS=3, each from nothing. Needs jq and python3, and four times the trees below TMPDIR.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -ge 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
older=$1 newer=$2 binary=$(realpath "${3:-$here/target/release/softservice}")
runs=${RUNS:-3}
work=$(mktemp -d)
pids=()
stop_all() { for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null && wait "$pid" 2> /dev/null || true; done; pids=(); }
trap 'stop_all; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
say() { echo "generations.sh: $*" >&2; }
await() {
    local what=$1 end=$((SECONDS + 60)); shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { say "waited in vain for $what"; exit 1; }
        sleep 0.02
    done
}
at() { local home=$1; shift; "$binary" --home "$work/$home" --json --quiet "$@"; }
node() {
    "$binary" --home "$work/$1" --json node --listen /ip4/127.0.0.1/tcp/0 --no-mdns --no-dht --web off > "$work/$1.ready" 2> "$work/$1.log" &
    pids+=($!)
    started=$!
    await "node $1" grep -q '"ready"' "$work/$1.ready"
}
mkdir "$work/figures"
note() { echo "$2" >> "$work/figures/$1"; say "  $1: $2"; }
step() { # NAME COMMAND..
    local name=$1 TIMEFORMAT=%R real
    shift
    sync -f "$work"
    real=$( { time "$@" > "$work/out" 2> "$work/err"; } 2>&1 ) || { say "$name: $(cat "$work/out" "$work/err")"; exit 1; }
    note "$name" "$real"
}
version() { # TREE VERSION
    mkdir -p "$work/source"
    rsync -aH --delete "$1"/ "$work/source/root/"
    python3 "$here/benches/peers/fit.py" "$work/source/root" 2> /dev/null
    printf 'format = 1\n[distro]\nname = "tree"\nversion = "%s"\nsummary = "Files"\n[role.main.artifact]\nroot = { tree = "root" }\n[update]\nsettle = "0s"\n' "$2" > "$work/source/distro.toml"
}
size() { du -s -B1 "$@" | awk '{ s += $1 } END { print s }'; }
rss() { awk '/^VmRSS/ { print $2 / 1024 }' "/proc/$1/status"; }

for round in $(seq "$runs"); do
    say "round $round"
    rm -rf "$work"/{a,b,source}
    node a
    publisher=$started
    version "$older" 1.0.0
    step publish at a publish "$work/source"
    sed -i 's/"1.0.0"/"1.0.1"/' "$work/source/distro.toml"
    step again at a publish "$work/source"
    node b
    at b subscribe "$(at a ticket | jq -r .ticket)" --as ann > /dev/null
    await "the release" at b show ann/tree@1.0.1
    step up at b up ann/tree@1.0.1 --yes --accept-reduced
    step second at b up ann/tree@1.0.1 --as second --yes --accept-reduced
    note objects "$(find "$work/b/store" -type f -path '*object*' -printf '%b\n' | awk '{ s += $1 * 512 } END { print s / 1048576 }')"
    note store "$(size "$work/b/store" | awk '{ print $1 / 1048576 }')"
    at b remove second > /dev/null
    one=$(size "$work/b")
    version "$newer" 1.1.0
    step publish.newer at a publish "$work/source"
    await "the newer release" at b show ann/tree@1.1.0
    step update at b update tree --yes --accept-reduced
    version "$older" 1.2.0
    step publish.back at a publish "$work/source"
    await "the third release" at b show ann/tree@1.2.0
    step back at b update tree --yes --accept-reduced
    note three "$(size "$work/b" | awk -v one="$one" '{ print $1 / one }')"
    note busy "$(rss "$publisher")"
    stop_all
    node b
    at b status > /dev/null
    note idle "$(rss "$started")"
    stop_all
done
middle() { sort -n "$work/figures/$1" | awk '{ v[NR] = $1 } END { printf "%.2f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
row() { echo "| $1 | $(middle "$2") | $(sort -n "$work/figures/$2" | awk '{ v[NR] = $1 } END { printf "%.2f–%.2f", v[1], v[NR] }') | ${3:-} |"; }
echo "| figure, n = $runs | median | least–most | goal |"
echo "|---|---|---|---|"
row "publish, s" publish
row "publish again, nothing changed, s" again "≤ 0.5"
row "publish the newer tree, s" publish.newer
row "up from nothing, s" up
row "a second softservice from the same content, s" second "≤ 1"
row "update to the newer tree, s" update
row "update back to the older content, s" back
row "objects in the store, MiB on the disk" objects
row "the store, MiB on the disk" store "≤ 1.1 × objects"
row "three generations / one, disk" three "≤ 1.5"
row "the publisher's memory after all of it, MiB" busy
row "the device's node, started again with all that: resident MiB" idle "≤ 48"

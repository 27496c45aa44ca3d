#!/usr/bin/env bash
# Real input, measured: a Debian root tree published on one host and fetched by another, beside rsync of the same trees.
#   benches/debian-root.sh [BINARY]     prints one table in Markdown; BINARY is target/release/softservice unless named
# The hosts are two network namespaces on a veth pair, on one machine: both sides share its cores. RUNS=3 rounds, each of
# them ours, then rsync, then (where socat is) tar over TCP as the limit; figures are medians with least and most.
# Needs root, iproute2, rsync, apt (package lists fetched) and 3 GB below TMPDIR; builds nothing, leaves nothing behind.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
binary=$(realpath "${1:-$here/target/release/softservice}")
runs=${RUNS:-3}
[ "$(id -u)" = 0 ] || { echo "debian-root.sh: needs root for network namespaces" >&2; exit 2; }
[ -x "$binary" ] || { echo "debian-root.sh: no program at $binary; cargo build --release -p softservice" >&2; exit 2; }
for tool in ip rsync apt-get; do
    command -v "$tool" > /dev/null || { echo "debian-root.sh: needs $tool" >&2; exit 2; }
done

work=$(mktemp -d)
ann="ssb$$a" bob="ssb$$b"
pids=()
stop_all() {
    for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null && wait "$pid" 2> /dev/null || true; done
    pids=()
}
clean() {
    stop_all
    ip netns del "$ann" 2> /dev/null || true
    ip netns del "$bob" 2> /dev/null || true
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

ip netns add "$ann"
ip netns add "$bob"
ip link add eth0 netns "$ann" type veth peer name eth0 netns "$bob"
for side in "$ann 1" "$bob 2"; do
    read -r host number <<< "$side"
    ip -n "$host" link set lo up
    ip -n "$host" addr add "10.88.0.$number/24" dev eth0
    ip -n "$host" link set eth0 up
done

say() { echo "$*" >&2; }
on() { local host=$1; shift; ip netns exec "$host" "$@"; }
# Waits for a condition, half a minute at most.
await() {
    local what=$1 end=$((SECONDS + 30)); shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { say "debian-root.sh: waited in vain for $what"; exit 1; }
        sleep 0.02
    done
}
wire() { on "$bob" cat /sys/class/net/eth0/statistics/rx_bytes /sys/class/net/eth0/statistics/tx_bytes | awk '{ s += $1 } END { print s }'; }
# CPU seconds of a process and of the children it has waited for; 0 for none.
cpu() { [ -n "$1" ] && sed 's/.*) //' "/proc/$1/stat" | awk -v hz="$(getconf CLK_TCK)" '{ print ($12 + $13 + $14 + $15) / hz }' || echo 0; }
peak() { awk '/^VmHWM/ { print $2 / 1024 }' "/proc/$1/status"; }
note() { echo "$2" >> "$work/figures/$1"; }

# step NAME SIDE PID_A PID_B COMMAND...: notes wall, CPU of both sides (the command's own belongs to SIDE) and bytes,
# those from an earlier count on where `since` says so: what B learns of a release between the steps belongs to its fetch.
step() {
    local name=$1 side=$2 a=$3 b=$4 before_a before_b before_wire real user sys out
    shift 4
    # Pages that an earlier step left dirty are not this one's.
    sync -f "$work"
    before_a=$(cpu "$a") before_b=$(cpu "$b") before_wire=${since:-$(wire)}
    local TIMEFORMAT='%3R %3U %3S'
    if ! out=$( { time "$@" > "$work/out" 2> "$work/err"; } 2>&1 ); then
        say "debian-root.sh: $name failed: $(cat "$work/out" "$work/err")"
        exit 1
    fi
    read -r real user sys <<< "$out"
    note "$name.wall" "$real"
    note "$name.wire" "$(awk -v x="$before_wire" -v y="$(wire)" 'BEGIN { print (y - x) / 1048576 }')"
    note "$name.a" "$(awk -v x="$before_a" -v y="$(cpu "$a")" -v u="$user" -v s="$sys" -v m="$side" 'BEGIN { print y - x + (m == "a" ? u + s : 0) }')"
    note "$name.b" "$(awk -v x="$before_b" -v y="$(cpu "$b")" -v u="$user" -v s="$sys" -v m="$side" 'BEGIN { print y - x + (m == "b" ? u + s : 0) }')"
    say "  $name: $real s"
}

# Names, kinds, link targets, executable bits and bytes.
same() {
    diff <(cd "$1" && find . -printf '%P %y %l\n' -type f -perm /100 -printf 'runs\n' | LC_ALL=C sort) \
        <(cd "$2" && find . -printf '%P %y %l\n' -type f -perm /100 -printf 'runs\n' | LC_ALL=C sort) > /dev/null &&
        diff -r --no-dereference "$1" "$2" > /dev/null || { say "debian-root.sh: $2 differs from $1"; exit 1; }
}

ours() { local host=$1 home=$2; shift 2; on "$host" "$binary" --home "$work/$home" --json "$@"; }
# What `ip netns exec` starts takes its process over, so $! is the node's.
node() {
    ip netns exec "$1" "$binary" --home "$work/$2" --json node --listen /ip4/0.0.0.0/tcp/0 --no-mdns --no-dht --web off > "$work/$2.ready" 2> "$work/$2.log" &
    pids+=($!)
    await "node $2" grep -q '"ready"' "$work/$2.ready"
}
source_of() {
    mkdir -p "$work/source"
    rm -rf "$work/source/root"
    cp -a "$work/$1" "$work/source/root"
    printf 'format = 1\n[distro]\nname = "debian-root"\nversion = "%s"\nsummary = "Files"\n[role.main.artifact]\nroot = { tree = "root" }\n' \
        "$2" > "$work/source/distro.toml"
}
field() { grep -o "\"$1\": *\"[^\"]*\"" "$work/out" | head -n 1 | sed 's/.*: *"//; s/"$//'; }

round_ours() {
    local a b ticket before
    node "$ann" a; a=$!
    node "$bob" b; b=$!
    source_of older 1.0.0
    step ours.publish a "$a" "$b" ours "$ann" a publish "$work/source"
    ticket=$(field ticket)
    before=$(wire)
    ours "$bob" b --quiet subscribe "$ticket" --as ann > /dev/null
    await "the release" ours "$bob" b show ann/debian-root@1.0.0
    since=$before step ours.first b "$a" "$b" ours "$bob" b fetch ann/debian-root@1.0.0
    step ours.made b "$a" "$b" ours "$bob" b improve ann/debian-root@1.0.0 "$work/copy1"
    same "$work/older" "$work/copy1/root"
    source_of newer 1.1.0
    before=$(wire)
    step ours.publish2 a "$a" "$b" ours "$ann" a publish "$work/source"
    await "the newer release" ours "$bob" b show ann/debian-root@1.1.0
    since=$before step ours.update b "$a" "$b" ours "$bob" b fetch ann/debian-root@1.1.0
    step ours.made2 b "$a" "$b" ours "$bob" b improve ann/debian-root@1.1.0 "$work/copy2"
    same "$work/newer" "$work/copy2/root"
    note ours.peak_a "$(peak "$a")"
    note ours.peak_b "$(peak "$b")"
    ours "$bob" b --quiet stop > /dev/null
    ours "$ann" a --quiet stop > /dev/null
    stop_all
    rm -rf "$work"/{a,b,copy1,copy2,source}
}

listens() { on "$1" bash -c "exec 3<> /dev/tcp/10.88.0.1/$2"; }
round_rsync() {
    local daemon
    # A host without a resolver would wait for its name; that is not what is measured.
    printf 'reverse lookup = no\nuse chroot = no\nuid = root\ngid = root\n[older]\npath = %s\n[newer]\npath = %s\n' \
        "$work/older" "$work/newer" > "$work/rsyncd.conf"
    ip netns exec "$ann" rsync --daemon --no-detach --config "$work/rsyncd.conf" --address 10.88.0.1 --port 8730 &
    daemon=$!
    pids+=("$daemon")
    await "rsync's daemon" listens "$bob" 8730
    mkdir "$work/copy"
    step rsync.first b "$daemon" "" on "$bob" rsync -a rsync://10.88.0.1:8730/older/ "$work/copy/"
    same "$work/older" "$work/copy"
    step rsync.update b "$daemon" "" on "$bob" rsync -a --delete rsync://10.88.0.1:8730/newer/ "$work/copy/"
    same "$work/newer" "$work/copy"
    rm -rf "$work/copy"; mkdir "$work/copy"
    step rsync.durable b "$daemon" "" on "$bob" bash -c 'rsync -a --delete "$1" "$2" && sync -f "$2"' - rsync://10.88.0.1:8730/older/ "$work/copy/"
    step rsync.durable2 b "$daemon" "" on "$bob" bash -c 'rsync -a --delete "$1" "$2" && sync -f "$2"' - rsync://10.88.0.1:8730/newer/ "$work/copy/"
    stop_all
    rm -rf "$work/copy"
}

round_tar() {
    local sender
    mkdir "$work/copy"
    ip netns exec "$ann" bash -c 'tar -C "$1" -c . | socat -u - TCP-LISTEN:8731,bind=10.88.0.1,reuseaddr
        exec sleep 60' - "$work/older" &
    sender=$!
    pids+=("$sender")
    await "tar's port" on "$ann" bash -c "grep -qi ':221B .* 0A ' /proc/net/tcp"
    step tar.first b "$sender" "" on "$bob" bash -c 'socat -u TCP:10.88.0.1:8731 - | tar -x -C "$1" && sync -f "$1"' - "$work/copy"
    same "$work/older" "$work/copy"
    # It stayed so that its processor time could be read.
    stop_all
    rm -rf "$work/copy"
}

say "making both trees"
say "$("$here/examples/debian-root/build.sh" "$work/older" --older | sed "s| in $work/| |")"
say "$("$here/examples/debian-root/build.sh" "$work/newer" | sed "s| in $work/| |")"
mkdir "$work/figures"
for round in $(seq "$runs"); do
    say "round $round"
    round_ours
    round_rsync
    if command -v socat > /dev/null; then round_tar; fi
done

# median FILE DIGITS
median() { sort -n "$work/figures/$1" | awk -v d="$2" '{ v[NR] = $1 } END { printf "%.*f", d, NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
range() { sort -n "$work/figures/$1" | awk -v d="$2" '{ v[NR] = $1 } END { printf "%.*f–%.*f", d, v[1], d, v[NR] }'; }
row() {
    [ -e "$work/figures/$2.wall" ] || return 0
    echo "| $1 | $(median "$2.wall" 2) ($(range "$2.wall" 2)) | $(median "$2.a" 2) + $(median "$2.b" 2) | $(median "$2.wire" 1) |"
}
echo "| step, n = $runs | wall s (least–most) | CPU s A + B | MiB through B's veth |"
echo "|---|---|---|---|"
row "first: tar over TCP, synced (the limit)" tar.first
row "first: rsync -a, not synced" rsync.first
row "first: rsync -a, synced" rsync.durable
row "first: **softservice fetch**, durable" ours.first
row "then: softservice improve, a working copy" ours.made
row "update: rsync -a, not synced" rsync.update
row "update: rsync -a, synced" rsync.durable2
row "update: **softservice fetch**, durable" ours.update
row "then: softservice improve, a working copy" ours.made2
row "before, on A: softservice publish" ours.publish
row "before, on A: softservice publish, newer" ours.publish2
echo
echo "Peak memory of the nodes over all of it: A $(median ours.peak_a 0) MiB, B $(median ours.peak_b 0) MiB."

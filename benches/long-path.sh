#!/usr/bin/env bash
# A fetch over a long and lossy path, beside iperf3 on the same path with the same congestion control.
#   benches/long-path.sh [BINARY]     prints one table in Markdown; BINARY is target/release/softservice unless named
# Two paths: 200 Mbit/s, 50 ms round trip, 0.1 % loss; 20 Mbit/s, 100 ms, 1 % loss. `link` (tests/src/link) is the path, since
# not every kernel has netem. RUNS=3 rounds on each, in each: iperf3, ours over TCP, both with the kernel's controls, then ours over QUIC.
# iperf3 sends as many bytes as a fetch. A fetch is timed by itself: from the request to the last byte's being durable.
# PATHS="200:25:0.1:48 20:50:1:6": Mbit/s, ms one way, percent, MiB. LINK_CHECK=1: what ping and iperf3 say of each path, first.
# Needs root, iperf3, jq, openssl, ss and `cargo build -p softservice-tests --bin link` (LINK_BINARY names another).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { echo "long-path.sh: $*" >&2; }

# On a path, made by link: rounds of everything, figures into $WORK/figures. Megabits a second.
inside() {
    local round control
    pids=()
    trap 'for pid in "${pids[@]}"; do kill "$pid" 2> /dev/null || true; done; wait' EXIT
    $LINK_A iperf3 -s > /dev/null &
    pids+=($!)
    await "iperf3" eval '$LINK_A ss -Hltn | grep -q :5201'
    for round in $(seq "$RUNS"); do
        for control in $CONTROLS; do
            $LINK_B iperf3 -J -R -C "$control" -n "$MIB"M -c "$LINK_ADDRESS_A" > "$WORK/iperf" || { say "iperf3: $(jq -r .error "$WORK/iperf")"; exit 1; }
            note "iperf3.$control" "$(jq .end.sum_received.bits_per_second "$WORK/iperf")"
            if controlled "$control"; then note "tcp.$control" "$(ours tcp/4300)"; fi
        done
        note quic "$(ours udp/4300/quic-v1)"
    done
}
# A host's own default is only what net.ipv4.tcp_allowed_congestion_control of the machine has.
controlled() {
    local side
    for side in "$LINK_A" "$LINK_B"; do $side sysctl -q -w "net.ipv4.tcp_congestion_control=$1" 2> /dev/null || return; done
}
await() {
    local what=$1 end=$((SECONDS + 60)); shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { say "waited in vain for $what"; exit 1; }
        sleep 0.05
    done
}
note() { say "  $NAME $1 $(awk -v b="$2" 'BEGIN { printf "%.1f Mbit/s", b / 1e6 }')"; echo "$2" >> "$WORK/figures/$KEY.$1"; }
# Starts a node on a host: SIDE HOME ADDRESS. Its process id is left in $started.
node() {
    rm -f "$2.ready"
    $1 "$BINARY" --home "$2" --json node --listen "$3" --no-mdns --no-dht --web off > "$2.ready" 2> "$2.log" &
    started=$!
    pids+=($started)
    await "node $2" grep -q '"ready"' "$2.ready"
}
# Bits a second of a fetch by a device that has nothing.
ours() {
    local a b
    rm -rf "$WORK/b"
    node "$LINK_A" "$WORK/a" "/ip4/$LINK_ADDRESS_A/$1"; a=$started
    node "$LINK_B" "$WORK/b" "/ip4/$LINK_ADDRESS_B/$1"; b=$started
    $LINK_B "$BINARY" --home "$WORK/b" --json --quiet subscribe "$($LINK_A "$BINARY" --home "$WORK/a" --json ticket | jq -r .ticket)" --as ann > /dev/null
    await "the release" $LINK_B "$BINARY" --home "$WORK/b" --json --quiet show ann/path
    $LINK_B "$BINARY" --home "$WORK/b" --json --quiet fetch ann/path > "$WORK/answer"
    kill "$a" "$b"
    wait "$a" "$b" 2> /dev/null || true
    jq '.new_bytes * 8 / .seconds' "$WORK/answer"
}
if [ "${1:-}" = --inside ]; then inside; exit; fi

export BINARY RUNS=${RUNS:-3} WORK KEY NAME MIB CONTROLS
BINARY=$(realpath "${1:-$here/target/release/softservice}")
link=${LINK_BINARY:-$here/target/debug/link}
[ "$(id -u)" = 0 ] || { say "needs root for network namespaces"; exit 2; }
[ -x "$BINARY" ] || { say "no program at $BINARY; cargo build --release -p softservice"; exit 2; }
[ -x "$link" ] || { say "no program at $link; cargo build -p softservice-tests --bin link"; exit 2; }
for tool in iperf3 jq openssl ss; do command -v "$tool" > /dev/null || { say "needs $tool"; exit 2; }; done
CONTROLS=$(sysctl -n net.ipv4.tcp_congestion_control)
case " $(sysctl -n net.ipv4.tcp_available_congestion_control) " in
    *" cubic "*) [ "$CONTROLS" = cubic ] || CONTROLS="$CONTROLS cubic" ;;
esac
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM
mkdir "$WORK/figures"
for path in ${PATHS:-200:25:0.1:48 20:50:1:6}; do
    IFS=: read -r rate delay loss MIB <<< "$path"
    NAME="$rate Mbit/s, $(awk -v d="$delay" 'BEGIN { print d * 2 }') ms, $loss %"
    KEY=$rate-$delay-$loss
    say "$NAME: $MIB MiB"
    [ -z "${LINK_CHECK:-}" ] || { echo "$NAME"; echo; "$link" --check --rate "$rate" --delay "$delay" --loss "$loss"; echo; }
    rm -rf "$WORK/a" "$WORK/source"
    mkdir -p "$WORK/source/files"
    # Nothing that compression could help with.
    openssl enc -aes-128-ctr -K 000102030405060708090a0b0c0d0e0f -iv 00000000000000000000000000000000 -in /dev/zero 2> /dev/null |
        head -c "${MIB}M" > "$WORK/source/files/some" || true
    printf 'format = 1\n[distro]\nname = "path"\nversion = "1.0.0"\nsummary = "Files"\n[role.main.artifact]\nfiles = { tree = "files" }\n' > "$WORK/source/distro.toml"
    "$BINARY" --home "$WORK/a" --quiet publish "$WORK/source" > /dev/null
    "$link" --rate "$rate" --delay "$delay" --loss "$loss" -- bash "${BASH_SOURCE[0]}" --inside
    echo "$KEY $NAME" >> "$WORK/paths"
done

middle() { sort -n "$WORK/figures/$1" | awk '{ v[NR] = $1 / 1e6 } END { printf "%.1f", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
range() { sort -n "$WORK/figures/$1" | awk '{ v[NR] = $1 / 1e6 } END { printf "%.1f–%.1f", v[1], v[NR] }'; }
echo "| path | control | n | iperf3, Mbit/s (least–most) | softservice, Mbit/s (least–most) | ours / iperf3 |"
echo "|---|---|---|---|---|---|"
row() { # WORDS IPERF OURS
    [ -e "$WORK/figures/$key.$3" ] || return 0
    echo "| $name | $1 | $RUNS | $(middle "$key.$2") ($(range "$key.$2")) | $(middle "$key.$3") ($(range "$key.$3")) | $(
        awk -v a="$(middle "$key.$3")" -v b="$(middle "$key.$2")" 'BEGIN { printf "%.2f", a / b }') |"
}
while read -r key name; do
    for control in $CONTROLS; do row "TCP, $control" "iperf3.$control" "tcp.$control"; done
    # QUIC brings its own congestion control, cubic.
    row "QUIC, cubic; iperf3 over TCP" "iperf3.${CONTROLS##* }" quic
done < "$WORK/paths"

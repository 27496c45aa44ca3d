# softservice as one system of a harness that times a swarm; sourced, not run. The harness gives `at` and `at_bg` (run a
# command on node I, 0 is the seeder), `IP I`, $W, $F (the file) and $N. Timed of ours, from nothing on a leecher: its node
# starts, follows the publisher by the seeder's ticket, fetches and provisions, until the file stands in a generation.
_home() { echo "$W/n$1/home"; }
_ours() { local i=$1; shift; at "$i" "$SOFTSERVICE" --home "$(_home "$i")" --json --quiet "$@"; }
sw_prep() {
    mkdir -p "$W/source/root"
    cp "$F" "$W/source/root/swarm.bin"
    cat > "$W/source/distro.toml" << TOML
format = 1
[distro]
name = "swarm"
version = "1.0.0"
summary = "One file"
[role.main.artifact]
root = { tree = "root" }
[update]
settle = "0s"
TOML
    mkdir -p "$W/n0"
    _ours 0 publish "$W/source" > "$W/published"
    # What a leecher does, by itself: it may know the release a moment after the publisher.
    cat > "$W/leech" << 'SH'
ours() { "$SOFTSERVICE" --home "$1" --json --quiet "${@:2}"; }
"$SOFTSERVICE" --home "$1" --json node --listen "/ip4/$2/tcp/4300" --web off $OURS_NODE > "$1.ready" 2>&1 &
until grep -q '"ready"' "$1.ready" 2> /dev/null; do sleep .01; done
ours "$1" subscribe "$(cat "$W/ticket")" --as sender > "$1.answer" || exit
for try in $(seq 600); do
    ours "$1" up sender/swarm --yes --accept-reduced > "$1.answer" 2> "$1.error" && { touch "$3"; break; }
    sleep .05
done
wait
SH
}
sw_seed() {
    at_bg 0 "$W/ready" "$SOFTSERVICE" --home "$(_home 0)" --json node --listen "/ip4/$(IP 0)/tcp/4300" --web off ${OURS_NODE:-}
    for i in $(seq 1000); do grep -q '"ready"' "$W/ready" && break; sleep .01; done
    _ours 0 ticket | jq -r .ticket > "$W/ticket"
}
sw_leech() { mkdir -p "$(_home "$1")"; at_bg "$1" "$W/l$1.log" env OURS_NODE="${OURS_NODE:-}" bash "$W/leech" "$(_home "$1")" "$(IP "$1")" "$W/done.$1"; }

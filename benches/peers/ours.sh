# softservice as one system of a harness that times how trees go from one host to another; sourced, not run.
# The harness gives `snd` and `rcv` (run a command on either host), `snd_bg` and `rcv_bg` (start a daemon there), $S and $R
# (what each host keeps), $IP_S, $IP_R, $BP_WORK and $BP_SRC, and times p_ingest, p_fetch and p_update.
#
# What is timed, decided as for the other systems that have a daemon on the receiver:
#   ingest  `publish` of a folder into an empty home, or into one that has the release before; no node runs beside it
#   fetch   from nothing on the receiver: its home is made, its node starts, follows the publisher by ticket, fetches, and
#           provisions: until the tree stands in a generation, hard-linked to the store, every byte verified, all durable
#   update  from a receiver with the older release and no node running: node, feed, fetch, and the newer tree beside the older
# Not timed: the sender's node and its ticket, as another system's daemon and its torrent; the definition around the tree.
#
# SOFTSERVICE: the program (target/release/softservice of this checkout). OURS_TRANSPORT: tcp or quic.
here_ours=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SOFTSERVICE=${SOFTSERVICE:-$(cd "$here_ours/../.." 2> /dev/null && pwd)/target/release/softservice}
OURS_SOURCE=$BP_WORK/ours
case ${OURS_TRANSPORT:-tcp} in
    quic) OURS_ADDRESS=udp/4300/quic-v1 ;;
    *) OURS_ADDRESS=tcp/4300 ;;
esac

# What a tree of ours refuses it gets under another name: p_want is what the receiver must then have. Contents, sizes and
# the number of entries stay. Owners, times and modes beyond "executable" are not part of a tree.
p_want() { echo "$OURS_SOURCE/root"; }
p_prepare() {
    mkdir -p "$OURS_SOURCE"
    rsync -aH --delete "$1"/ "$OURS_SOURCE/root/"
    python3 "$here_ours/fit.py" "$OURS_SOURCE/root" >&2 || return 1
    local version=1.0.0
    [ "$2" = a ] || version=1.1.0
    cat > "$OURS_SOURCE/distro.toml" << TOML
format = 1
[distro]
name = "bench"
version = "$version"
summary = "Files"
[role.main.artifact]
root = { tree = "root" }
[update]
settle = "0s"
TOML
    _let_through "$OURS_SOURCE"
}
# A Debian root has the host keys that its packages made, which `publish` refuses: the corpus is public, so each is written
# down in distro.allow beforehand, by a publish into a home that nobody uses. Not timed.
_let_through() {
    local place places=()
    while read -r place; do places+=(--allow-secret "$place"); done < <(
        "$SOFTSERVICE" --home "$BP_WORK/allow" --json check "$1" |
            jq -r '.problems[] | select(.hint // "" | contains("--allow-secret")) | "\(.file):\(.line)"'
    )
    [ ${#places[@]} = 0 ] || "$SOFTSERVICE" --home "$BP_WORK/allow" --json --quiet publish "$1" "${places[@]}" > /dev/null || return 1
    rm -rf "$BP_WORK/allow"
}
_sender() { snd "$SOFTSERVICE" --home "$S/home" --json --quiet "$@"; }
_receiver() { rcv "$SOFTSERVICE" --home "$R/home" --json --quiet "$@"; }
# Starts a node and waits for its first line: SIDE HOME ADDRESS.
_node() {
    local i
    mkdir -p "$2"
    "${1}_bg" "$2.ready" "$SOFTSERVICE" --home "$2" --json node --listen "/ip4/$3/$OURS_ADDRESS" --no-mdns --no-dht --web off
    for i in $(seq 3000); do grep -q '"ready"' "$2.ready" 2> /dev/null && return 0; sleep .01; done
    cat "$2.ready" >&2
    return 1
}
p_ingest() { _sender publish "$OURS_SOURCE" > "$S/published.$2"; }
p_serve() { _node snd "$S/home" "$IP_S" && _sender ticket | jq -r .ticket > "$S/ticket"; }
# The release may be known a moment after the publisher is: ask until it is.
_until() {
    local i
    for i in $(seq 600); do
        "$@" > "$R/answer" 2> "$R/error" && return 0
        case $? in 3 | 5) sleep .02 ;; *) break ;; esac
    done
    cat "$R/answer" "$R/error" >&2
    return 1
}
# The one tree of the one role.
_tree() { ln -s "$(readlink -f "$R"/home/softservices/bench/current/tree/*)" "$1"; }
p_fetch() {
    _node rcv "$R/home" "$IP_R" && _receiver subscribe "$(cat "$S/ticket")" --as sender > /dev/null &&
        _until _receiver up "sender/bench" --yes --accept-reduced && _tree "$2"
}
# `update` says that nothing is newer while the publisher has not been heard: ask until it has.
_newer() { _receiver update bench --yes --accept-reduced > "$R/update" || return; grep -q '"newer": *false' "$R/update" && return 5; cat "$R/update"; }
p_update() { _node rcv "$R/home" "$IP_R" && _until _newer && _tree "$3"; }

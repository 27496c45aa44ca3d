#!/usr/bin/env bash
# Ours beside other systems, in turn, on the same data, in the same two network namespaces.
#   benches/peers/compare.sh [M1|M2|M3|M5] RIVAL..     prints one table in Markdown for each corpus
#   M1 first fetch of one file (C1) · M2 first fetch of trees (C2, C3) · M3 update of the receiver's older version · M5 ingest
# All four when none is named. RIVAL is a script of the harness: rsync ostree casync nix libtorrent zsync rqbit sendme ..
#
# The harness, which makes the corpora and speaks with the rivals, is no part of this project: BENCH_PEERS names its
# folder (../shared/bench-peers beside this checkout). Each round runs every system once, one after the other, so that what
# else the machine does falls on all alike. A rival's line says how ours compares: ours / rival, with the goal beside it.
#   RUNS=3       rounds
#   ONLY="C3"    these corpora
#   LINK=50mbit  both ends of the link let so much through (tbf); nothing: as fast as the machine
#   BP_CORPORA, BP_WORK, BP_RESULTS, BP_LOCK, BP_BIN, BP_PYTHON, BP_TIMEOUT: as in the harness; SOFTSERVICE: our program
# Needs root. Everything that runs is ended and BP_WORK removed, whatever happens.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BENCH_PEERS=${BENCH_PEERS:-$(cd "$here/../../.." && pwd)/shared/bench-peers}
[ -r "$BENCH_PEERS/lib.sh" ] || { echo "compare.sh: no harness at $BENCH_PEERS; name its folder in BENCH_PEERS" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "compare.sh: needs root for network namespaces" >&2; exit 2; }
# Names of its own: two comparisons at a time disturb each other's figures, but nothing else.
export BENCH_PEERS BP_WORK=${BP_WORK:-${TMPDIR:-/tmp}/compare$$} NS_S=${NS_S:-cmp$$s} NS_R=${NS_R:-cmp$$r} BP_CG=${BP_CG:-cmp$$}
. "$BENCH_PEERS/lib.sh"

# What the systems may define, and where each keeps its own.
load() {
    p_prepare() { :; }; p_ingest() { :; }; p_serve() { :; }
    P_TAR='' P_CORPORA='C1 C2 C3' P_NOVERIFY='' P_TIMED=''
    P=$1 S=$BP_WORK/s R=$BP_WORK/r
    local script=$here/$1.sh
    [ -r "$script" ] || script=$BP_HOME/peers/$1.sh
    [ -r "$script" ] || { echo "compare.sh: no system called $1" >&2; exit 2; }
    . "$script"
}
# What a system is given of a corpus: the tree, or one tar of it.
given() { case " $P_TAR " in *" ${1%b} "*) echo "$BP_CORPORA/${1}tar" ;; *) echo "$BP_CORPORA/$1" ;; esac; }

# What meas.py times: --call SYSTEM CORPUS FUNCTION ARGS..
if [ "${1:-}" = --call ]; then
    load "$2"
    P_TIMED=1 P_UNPACKED='' BP_SRC=$(given "$3")
    export BP_SRC
    call=$4
    shift 4
    "$call" "$@" || exit
    case $call in p_fetch) out=$2 ;; p_update) out=$3 ;; *) exit 0 ;; esac
    # A tree that came as a tar is usable when it is unpacked.
    if [ -f "$BP_SRC/tree.tar" ] && [ -z "$P_UNPACKED" ]; then
        mkdir -p "$out.x" && rcv tar --numeric-owner -xpf "$out/tree.tar" -C "$out.x" || exit 9
    fi
    exit 0
fi

kinds=()
while [[ ${1:-} =~ ^M[1235]$ ]]; do kinds+=("$1"); shift; done
[ ${#kinds[@]} -gt 0 ] || kinds=(M1 M2 M3 M5)
[ $# -gt 0 ] || { sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
rivals=("$@")
base=$BP_WORK
runs=${RUNS:-3}
results=${BP_RESULTS%.jsonl}.$$.jsonl
BP_RESULTS=$results

say() { echo "compare.sh: $*" >&2; }
leave() {
    local p
    for p in ours "${rivals[@]}"; do BP_WORK=$base/$p stop_all; done
    net_down
    rmdir "$CG/snd" "$CG/rcv" "$CG" 2> /dev/null
    rm -rf "$base"
}
trap leave EXIT
trap 'exit 130' INT TERM
case $base in /tmp/?* | /dev/shm/?* | /var/tmp/?*) ;; *) say "BP_WORK=$base is emptied: name a folder below /tmp, /var/tmp or /dev/shm"; trap - EXIT; exit 2 ;; esac
rm -rf "$base"
mkdir -p "$base"
net_up
# Both ends let through what LINK says, or everything again: what is not timed need not wait for a slow link.
narrow() {
    [ -n "${LINK:-}" ] || return 0
    ip netns exec "$NS_S" tc qdisc add dev bpv0 root tbf rate "$LINK" burst 64k latency 50ms &&
        ip netns exec "$NS_R" tc qdisc add dev bpv1 root tbf rate "$LINK" burst 64k latency 50ms || exit 1
}
wide() { [ -z "${LINK:-}" ] || { ip netns exec "$NS_S" tc qdisc del dev bpv0 root; ip netns exec "$NS_R" tc qdisc del dev bpv1 root; }; }
ulimit -n "$(ulimit -Hn)"

# Runs a function of a system, in a shell of its own: as SYSTEM CORPUS FUNCTION ARGS..
as() {
    ( export BP_WORK=$base/$1 BP_AG=${UNTIMED_WEIGHT:--5}
      load "$1"
      BP_SRC=$(given "$2")
      export BP_SRC
      shift 2
      "$@" )
}
# The same, timed: timed KIND ROUND SYSTEM CORPUS DISK FUNCTION ARGS..
timed() {
    local kind=$1 round=$2 system=$3 corpus=$4 disk=$5
    shift 5
    BP_WORK=$base/$system "$BP_PYTHON" "$BP_HOME/meas.py" --cg "$CG" --ns "$NS_R" --dev bpv1 --out "$results" \
        --timeout "${BP_TIMEOUT:-900}" --du "$disk" --tag m="$kind" --tag peer="$system" --tag corpus="$corpus" --tag run="$round" \
        -- bash "$here/compare.sh" --call "$system" "$corpus" "$@" >&2
}
ended() { BP_WORK=$base/$1 stop_all; }
can() { as "$1" "$2" eval "case \" \$P_CORPORA \" in *\" $2 \"*) declare -F $3 > /dev/null ;; *) false ;; esac"; }
# How many entries of the tree in OUT differ from what was sent: SYSTEM CORPUS OUT.
differ() {
    local got=$3 want
    [ -d "$got.x" ] && got=$got.x
    want=$(as "$1" "$2" eval 'declare -F p_want > /dev/null && p_want' || echo "$BP_CORPORA/$2")
    rsync -rlcn --delete --exclude=/.stfolder --out-format=%n "$want/" "$got/" | wc -l
}
checked() { # SYSTEM CORPUS OUT
    local bad=-
    [ -n "$(as "$1" "$2" eval 'echo $P_NOVERIFY')" ] || bad=$(differ "$@")
    printf '{"m": "verify", "peer": "%s", "corpus": "%s", "content": "%s"}\n' "$1" "$2" "$bad" >> "$results"
    [ "$bad" = - ] || [ "$bad" = 0 ] || say "$1: $bad entries of $2 differ"
}
fresh() { ended "$1"; rm -rf "${base:?}/$1"; mkdir -p "$base/$1/s" "$base/$1/r"; }
alone() { exec 9> "$BP_LOCK"; flock 9; }
shared() { exec 9>&-; }

first() { # KIND CORPUS SYSTEM..
    local kind=$1 c=$2 p round src
    shift 2
    for p in "$@"; do
        fresh "$p"
        src=$(as "$p" "$c" given "$c")
        as "$p" "$c" p_prepare "$src" a && as "$p" "$c" p_ingest "$src" a && touch "$base/$p/ready" || say "$p cannot take $c in"
    done
    narrow
    for round in $(seq "$runs"); do
        for p in "$@"; do
            [ -e "$base/$p/ready" ] || continue
            src=$(as "$p" "$c" given "$c")
            rm -rf "$base/$p/r"
            mkdir -p "$base/$p/r"
            alone
            sync -f "$base"
            as "$p" "$c" p_serve "$src" a && timed "$kind" "$round" "$p" "$c" "$base/$p/r" p_fetch a "$base/$p/r/out" || say "$p failed"
            ended "$p"
            shared
            [ "$round" != "$runs" ] || checked "$p" "$c" "$base/$p/r/out"
        done
    done
    wide
}
update() { # KIND CORPUS SYSTEM..
    local kind=$1 c=$2 p round src later
    shift 2
    for p in "$@"; do
        fresh "$p"
        src=$(as "$p" "$c" given "$c") later=$(as "$p" "${c}b" given "${c}b")
        as "$p" "$c" p_prepare "$src" a && as "$p" "$c" p_ingest "$src" a && as "$p" "$c" p_serve "$src" a &&
            BP_RESULTS=/dev/null as "$p" "$c" bash "$here/compare.sh" --call "$p" "$c" p_fetch a "$base/$p/r/out" || { say "$p: no first fetch of $c"; continue; }
        ended "$p"
        mv "$base/$p/r" "$base/$p/r.old"
        as "$p" "${c}b" p_prepare "$later" b && as "$p" "${c}b" p_ingest "$later" b || { say "$p cannot take ${c}b in"; rm -rf "$base/$p/r.old"; }
    done
    narrow
    for round in $(seq "$runs"); do
        for p in "$@"; do
            [ -d "$base/$p/r.old" ] || continue
            later=$(as "$p" "${c}b" given "${c}b")
            rm -rf "$base/$p/r" "$base/$p/r.new"
            cp -a "$base/$p/r.old" "$base/$p/r"
            alone
            sync -f "$base"
            as "$p" "${c}b" p_serve "$later" b && timed "$kind" "$round" "$p" "${c}b" "$base/$p/r" p_update b "$base/$p/r/out" "$base/$p/r/new" || say "$p failed"
            ended "$p"
            shared
            [ "$round" != "$runs" ] || checked "$p" "${c}b" "$base/$p/r/new"
        done
    done
    wide
}
ingest() { # KIND CORPUS SYSTEM..
    local kind=$1 c=$2 p round src
    shift 2
    for round in $(seq "$runs"); do
        for p in "$@"; do
            src=$(as "$p" "$c" given "$c")
            fresh "$p"
            as "$p" "$c" p_prepare "$src" a
            alone
            sync -f "$base"
            timed "$kind" "$round" "$p" "$c" "$base/$p/s" p_ingest "$src" a || say "$p failed"
            ended "$p"
            shared
        done
    done
}

for kind in "${kinds[@]}"; do
    for c in C1 C2 C3; do
        case " ${ONLY:-C1 C2 C3} " in *" $c "*) ;; *) continue ;; esac
        case $kind$c in M1C[23] | M2C1) continue ;; esac
        [ -d "$BP_CORPORA/$c" ] || { say "no $c in $BP_CORPORA: the harness's corpora.sh makes it"; continue; }
        case $kind in M3) run=update call=p_update ;; M5) run=ingest call=p_ingest ;; *) run=first call=p_fetch ;; esac
        systems=()
        for p in ours "${rivals[@]}"; do
            if can "$p" "$c" $call; then systems+=("$p"); else say "$p does not do $kind of $c"; fi
        done
        say "$kind $c: ${systems[*]}"
        $run "$kind" "$c" "${systems[@]}"
        for p in "${systems[@]}"; do rm -rf "${base:?}/$p"; done
    done
done
"$BP_PYTHON" "$here/table.py" "$results" "${LINK:-}"
say "every run is in $results"

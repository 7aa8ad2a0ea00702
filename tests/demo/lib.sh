# Sourced by the demos: a private folder with a home of its own, programs in it, and what is right.
# Each demo sets `title` first. $AGENTFS_BIN is the program under test (target/release/agentfs), and what
# tests/apps/run.sh --install has installed is in $APPS_HOME (target/apps).
set -uo pipefail
demo=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$demo/../.." && pwd)
# shellcheck source=../apps/ports.sh
. "$root/tests/apps/ports.sh"
export APPS_HOME=${APPS_HOME:-$root/target/apps}
agentfs_bin=$(realpath -m "${AGENTFS_BIN:-$root/target/release/agentfs}")
# The demo has a home and a router of its own, and is in nobody's instance.
unset "${!AGENTFS_@}" LD_PRELOAD VISITS START DATA
export AGENTFS_BIN=$agentfs_bin AGENTFS_ROUTER=127.0.0.1:0 AGENTFS_ROUTER_TLS=127.0.0.1:0
scratch=$(mktemp -d /tmp/ad.XXXXXX)
chmod 711 "$scratch"
mkdir -p "$scratch/log" "$scratch/user"
export AGENTFS_HOME=$scratch/h AGENTFS_TRUST_ROOT=$scratch/nowhere
export HOME=$scratch/user npm_config_update_notifier=false npm_config_cache=$scratch/npm
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
wrong=0

say() { echo "$title: $*"; }
# wrong WHAT: goes on, so that one run tells of all wrong answers.
wrong() { wrong=$((wrong + 1)); echo "$title: WRONG: $*" >&2; }
# die WHY: what the rest needs is not there.
die() { wrong "$*"; exit 1; }
# equal WHAT RIGHT GOT
equal() { if [ "$2" = "$3" ]; then say "$1: $3"; else wrong "$1: expected \"$2\", got \"$3\""; fi; }

agentfs() { "$AGENTFS_BIN" "$@"; }
# run LOG FOLDER COMMAND…: a shell of its own in FOLDER; its pid is in $pid.
# Kept in `sessions`, so that nothing is left when the demo ends early.
run() {
    # Emptied at once: what an earlier program of this name said must not count for this one.
    : >"$scratch/log/$1"
    (cd "$2" && exec setsid "${@:3}") </dev/null >>"$scratch/log/$1" 2>&1 &
    pid=$!
    echo "$pid" >>"$scratch/sessions"
}
# wrap LOG FOLDER COMMAND…: the same under agentfs.
wrap() { run "$1" "$2" "$AGENTFS_BIN" wrap -- "${@:3}"; }
# wait_for SECONDS COMMAND…
wait_for() {
    local until=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $until ]; then return 1; fi
        sleep 0.2
    done
}
# What still runs of this demo.
ours() { /usr/bin/python3 "$root/tests/apps/left.py" "$AGENTFS_HOME" "$scratch/sessions"; }
# free_port: one of the host's that is neither taken nor ephemeral, in $free. Not a usual one: another program of this
# machine that looks for its server there would meet ours.
free_port() {
    local port=$((20000 + RANDOM % 10000))
    while taken "$port" || [[ " ${chosen[*]-} " == *" $port "* ]]; do port=$((20000 + RANDOM % 10000)); done
    chosen+=("$port")
    free=$port
}
# needs WHAT COMMAND…
needs() { "${@:2}" >/dev/null 2>&1 || { echo "$title: skip: cannot find $1 (tests/apps/run.sh --install)"; exit 77; }; }
# checkout FROM TO: a git checkout with the files of FROM.
checkout() {
    cp -r "$1" "$2"
    if [ -e "$2/gitignore" ]; then mv "$2/gitignore" "$2/.gitignore"; fi
    git -C "$2" init -q -b main && git -C "$2" add . &&
        git -C "$2" -c user.name=demo -c user.email=demo@localhost commit -q -m 'the app' || die "cannot make a checkout"
}
# modules CHECKOUT: a node_modules of its own, in which tools may write, with the packages that are installed.
modules() {
    mkdir "$1/node_modules" && ln -s "$APPS_HOME"/node/node_modules/* "$APPS_HOME/node/node_modules/.bin" "$1/node_modules/"
}

# stop_all: what the demo started is stopped by its own means, and nothing is left.
stop_all() {
    agentfs -q stop --all || wrong "agentfs stop --all: status $?"
    if [ "$(agentfs ps --json)" != '[]' ]; then wrong "listed after stop --all: $(agentfs ps)"; fi
    nothing_left() { [ -z "$(ls "$AGENTFS_HOME/run")" ]; }
    wait_for 20 nothing_left || wrong "left in the run dir: $(ls "$AGENTFS_HOME/run" | tr '\n' ' ')"
    agentfs -q daemon stop || wrong "agentfs daemon stop: status $?"
    no_process() { [ -z "$(ours)" ]; }
    wait_for 20 no_process || wrong "left running: $(ours | tr '\n' ';')"
}

# Only processes of this demo, found by its private home and its sessions.
leave() {
    local status=$? left
    trap - EXIT INT TERM
    # A part of this shell that gets a signal before it becomes a program has these traps too.
    if [ "$BASHPID" != $$ ]; then exit $status; fi
    if [ $status = 0 ] && [ $wrong != 0 ]; then status=1; fi
    if [ $status != 0 ] && [ $status != 77 ]; then
        agentfs ps 2>&1
        tail -n 20 "$scratch"/log/* "$AGENTFS_HOME/collector.log" 2>/dev/null
    fi >&2
    # The shell tells of each job that is killed.
    exec 2>/dev/null
    for _ in 1 2 3; do
        left=$(ours | grep -oE '^[0-9]+')
        [ -z "$left" ] && break
        # shellcheck disable=SC2086
        kill -9 $left
        sleep 0.2
    done
    rm -rf "$scratch"
    exit $status
}
trap leave EXIT
trap 'exit 130' INT TERM

#!/usr/bin/env bash
# Runs one program of cases/ and writes its result line. Called by run.sh: one.sh NAME RESULT_FILE.
#
# A case is a file of shell that sets `program` (its title), `port` (where it always listens) and defines
#   version              prints the version; empty output means: not installed, skip
#   setup                makes the instance's folder (the current one); $own is the content it must answer with
#   start                starts it with `wrap COMMAND…`, in the folder
#   ready                (optional) succeeds once it serves; else an HTTP answer on $port is waited for
#   check                (optional) more than that HTTP gives $own, by localhost and by name
#   stop                 (optional) instead of `agentfs stop`
# and may set what (how it was run), note (what a reader should know), http=no (no HTTP on $port), path (of the
# URL that answers $own), user (run as that user, with a home of its own), patience (seconds until ready).
# A case with `try` instead has no server: `try` is all that is run. A case may set limit (seconds for all of it).
#
# In a case: $instance, $own, $folder, $APPS; inside COMMAND… runs it in the instance's localhost, skip WHY,
# fail WHY, expect TEXT COMMAND… (TEXT in its output), wait_for SECONDS COMMAND…, demo SCRIPT… (one of tests/demo).
set -uo pipefail
name=$1 answer=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export APPS=$here/servers
# shellcheck source=ports.sh
. "$here/ports.sh"
cases=$here/cases
program=$name what= note= http=yes path=/ user= patience=40 port=
instances=(a b)
scratch=$(mktemp -d /tmp/aa.XXXXXX)
chmod 711 "$scratch"
export AGENTFS_ROUTER=127.0.0.1:0 AGENTFS_ROUTER_TLS=127.0.0.1:0 AGENTFS_HOME=$scratch/h
# The machine's own trust stores are not for tests.
export AGENTFS_TRUST_ROOT=$scratch/nowhere
unset AGENTFS_RUN AGENTFS_APP AGENTFS_INSTANCE LD_PRELOAD
version_text=
become=(env)
node_bin=$APPS_HOME/node/node_modules/.bin
python=$APPS_HOME/venv/bin
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

result() {
    printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$name" "$version_text" "$program" "$what" \
        "$(printf %s "${2-}" | tr '\t\n' '  ')" >"$answer"
}
fail() { finish FAIL "${instance:+$instance: }$*"; }
skip() { finish skip "$*"; }

# What still runs of this case.
ours() { /usr/bin/python3 "$here/left.py" "$AGENTFS_HOME" "$scratch/sessions"; }

finish() {
    trap - TERM EXIT
    local left
    if [ "$1" = FAIL ]; then
        echo "=== FAIL $2"
        as "$AGENTFS_BIN" ps 2>&1 || true
        tail -n 40 "$scratch"/*/log "$scratch"/*/*.log "$scratch/h/collector.log" 2>/dev/null
        ls -l "$scratch/h/run/" 2>/dev/null
    fi
    as timeout 20 "$AGENTFS_BIN" -q stop --all --timeout 2 >/dev/null 2>&1
    as timeout 20 "$AGENTFS_BIN" -q daemon stop >/dev/null 2>&1
    # Only processes of this very case, found by its private home.
    for _ in 1 2 3; do
        left=$(ours | grep -oE '^[0-9]+')
        [ -z "$left" ] && break
        kill -9 $left 2>/dev/null
        sleep 0.2
    done
    result "$1" "$2"
    rm -rf "$scratch"
    exit 0
}
trap 'fail "not done in time"' TERM

# The user of the case.
as() { "${become[@]}" "$@"; }
agentfs() { as "$AGENTFS_BIN" "$@"; }
wrap() {
    (exec "${become[@]}" setsid "$AGENTFS_BIN" -q wrap --app "$name" --instance "$instance" ${wrap_options-} -- "$@") \
        </dev/null >"$folder/log" 2>&1 &
    echo $! >"$folder/wrap.pid"
    echo $! >>"$scratch/sessions"
}
inside() { as timeout 30 "$AGENTFS_BIN" -q exec "$name/$instance" -- "$@"; }
router() { agentfs daemon status --json | sed -n 's/.*"'"${1:-http}"'_port":\([0-9]*\).*/\1/p'; }
# by_name HOST PATH [curl options…]
by_name() { curl -sS --max-time 20 -H "Host: $1" "http://127.0.0.1:$(router)$2" "${@:3}"; }
wait_for() {
    local until=$((SECONDS + $1)); shift
    until "$@" >"$scratch/wait.log" 2>&1; do
        if [ $SECONDS -ge $until ]; then return 1; fi
        sleep 0.1
    done
}
running() { kill -0 "$(cat "$folder/wrap.pid")" 2>/dev/null; }
expect() {
    local text=$1 output; shift
    output=$("$@" 2>&1)
    case $output in
        *"$text"*) echo "[$instance] $* -> ${output:0:200}" ;;
        *) fail "\`${*:0:12}\` gave \"$(head -c 300 <<<"$output" | tr '\n' ' ')\", not \"$text\"" ;;
    esac
}
demo() {
    local output status
    output=$("$here/../demo/$1" "${@:2}" 2>&1)
    status=$?
    echo "$output"
    case $status in
        0) ;;
        77) skip "$output" ;;
        *) fail "$(grep -m 3 WRONG <<<"$output" || echo "status $status")" ;;
    esac
}
default_ready() { if [ $http = yes ]; then inside curl -s -o "$folder/ready" --max-time 5 "http://localhost:$port$path"; else inside nc -z localhost "$port"; fi; }
started() { running || return 0; if declare -F ready >/dev/null; then ready; else default_ready; fi; }

# Runs a command in each instance's folder; fails if it failed in one.
each() {
    local status=0
    for instance in "${instances[@]}"; do
        own=$name-own-$instance folder=$scratch/$instance
        cd "$folder" || fail "no folder"
        "$@" || status=1
    done
    instance=
    return $status
}

# shellcheck source=/dev/null
. "$cases/$name.sh"
version_text=$(version 2>/dev/null | head -n 1)
if [ -z "$version_text" ]; then skip "not installed (tests/apps/run.sh --install)"; fi
if [ -n "$user" ]; then
    chown "$user" "$scratch"
    become=(setpriv --reuid="$user" --regid="$user" --init-groups env HOME="$scratch")
fi

if declare -F try >/dev/null; then
    instance=t own=$name-own folder=$scratch/t
    mkdir -p "$folder"; cd "$folder" || exit
    try
    instance=
    finish ok "$note"
fi

for instance in "${instances[@]}"; do
    mkdir -p "$scratch/$instance"
    if [ -n "$user" ]; then chown "$user" "$scratch/$instance"; fi
done
host_busy=
if taken "$port"; then host_busy=1; echo "port $port of the host is taken by someone else"; fi
if declare -F setup >/dev/null; then each setup; fi
each start
wait_ready() {
    if ! wait_for "$patience" started; then fail "not ready on port $port after $patience s: $(tail -n 3 "$scratch/wait.log" | tr '\n' ' ')"; fi
    running || declare -F detached >/dev/null || fail "ended at the start: $(tail -n 3 "$folder/log" | tr '\n' ' ')"
}
each wait_ready
check_http() {
    expect "$own" inside curl -sS --max-time 20 "http://localhost:$port$path"
    expect "$own" inside curl -sS --max-time 20 "http://127.0.0.1:$port$path"
    expect "$own" by_name "$instance.$name.localhost" "$path"
    expect "$own" by_name "$port.$instance.$name.localhost" "$path"
}
if [ $http = yes ]; then each check_http; fi
if declare -F check >/dev/null; then each check; fi
if [ -z "$host_busy" ] && taken "$port"; then fail "port $port of the host is taken"; fi
each running || fail "ended while it was used"
echo "--- stopping"
stop_one() {
    if declare -F stop >/dev/null; then stop; else
        agentfs -q stop "$name/$instance" --timeout 10 || fail "agentfs stop failed with $?"
    fi
    wait_for 5 eval '! running' || fail "wrap runs on after agentfs stop"
}
each stop_one
nothing_left() { ! compgen -G "$scratch/h/run/*" >/dev/null; }
wait_for 3 nothing_left || fail "left in the run dir: $(ls "$scratch/h/run" | tr '\n' ' ')"
no_process() { ! ours | grep -qv 'agentfs.* daemon run'; }
wait_for 3 no_process || fail "left running: $(ours | grep -v 'agentfs.* daemon run' | tr '\n' ';')"
if [ -z "$host_busy" ] && taken "$port"; then fail "port $port of the host is taken afterwards"; fi
finish ok "$note"

#!/usr/bin/env bash
# Real programs under agentfs: two instances of each at once, on the port the program always uses.
#   tests/apps/run.sh                  every program; one line each: ok | FAIL | skip
#   tests/apps/run.sh --only REGEX     the programs whose name matches
#   tests/apps/run.sh --install        installs them first: Debian packages (root), and into $APPS_HOME
#                                      what comes from PyPI, npm and crates.io
#   tests/apps/run.sh --table          afterwards writes docs/compatibility.md from all results so far
#   tests/apps/run.sh --list           names only
# AGENTFS_BIN is the program under test (target/release/agentfs), APPS_HOME keeps what was installed, the
# logs and results.tsv (target/apps), APPS_LIMIT is how many seconds one program may take. Exit status 1 if a
# program failed. Each program is one file in cases/; one.sh says what such a file has and what is checked.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export APPS_HOME=${APPS_HOME:-$root/target/apps}
export AGENTFS_BIN=${AGENTFS_BIN:-$root/target/release/agentfs}
export PATH=$PATH:/usr/sbin:/sbin

only=. install= table= list=
while [ $# -gt 0 ]; do
    case $1 in
        --only) only=${2:?--only needs a regular expression}; shift ;;
        --install) install=1 ;;
        --table) table=1 ;;
        --list) list=1 ;;
        *) sed -n '2,11s/^# \?//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
    shift
done

# In the order of the table; what is not listed in it comes last.
names() {
    local name
    { grep -v '^#' "$here/order"; (cd "$here/cases" && ls -- *.sh) | sed 's/\.sh$//'; } | awk 'NF && !seen[$1]++ { print $1 }' |
        while read -r name; do if [ -e "$here/cases/$name.sh" ]; then echo "$name"; fi; done | grep -E -- "$only"
}

if [ -n "$list" ]; then names; exit; fi
mkdir -p "$APPS_HOME/logs"
if [ -n "$install" ]; then "$here/install.sh" || exit 1; fi
if [ ! -x "$AGENTFS_BIN" ]; then
    echo "$0: cannot find $AGENTFS_BIN: cargo build --release, or set AGENTFS_BIN" >&2
    exit 1
fi

failed=0 passed=0 skipped=0
results=$APPS_HOME/results.tsv
touch "$results"
for name in $(names); do
    # one.sh writes one line: result, name, version, program, what was run, note.
    answer=$APPS_HOME/logs/$name.result
    rm -f "$answer"
    seconds=$(sed -n 's/^limit=\([0-9]*\)$/\1/p' "$here/cases/$name.sh")
    seconds=${APPS_LIMIT:-${seconds:-150}}
    timeout --signal=TERM --kill-after=30 "$seconds" "$here/one.sh" "$name" "$answer" \
        </dev/null >"$APPS_HOME/logs/$name.log" 2>&1
    status=$?
    if [ ! -s "$answer" ]; then
        printf 'FAIL\t%s\t\t%s\t\tno result: status %s%s\n' "$name" "$name" "$status" \
            "$([ $status = 124 ] && echo ", not done within $seconds s")" >"$answer"
    fi
    IFS=$'\x1f' read -r result _ version _ _ note < <(tr '\t' '\037' <"$answer")
    case $result in
        ok) passed=$((passed + 1)); echo "ok $name $version" ;;
        skip) skipped=$((skipped + 1)); echo "skip $name: $note" ;;
        *) failed=$((failed + 1)); echo "FAIL $name $version: $note (log: $APPS_HOME/logs/$name.log)" ;;
    esac
    { awk -F '\t' -v name="$name" '$2 != name' "$results"; cat "$answer"; } >"$results.new" && mv "$results.new" "$results"
done
if [ -n "$table" ]; then only=. ; names | "$here/table.sh" "$results" >"$root/docs/compatibility.md.new" &&
    mv "$root/docs/compatibility.md.new" "$root/docs/compatibility.md"; fi
echo "$passed ok, $failed failed, $skipped skipped"
[ $failed = 0 ]

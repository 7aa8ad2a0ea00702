#!/usr/bin/env bash
# Counts who reaches whom: a Playwright suite with `reuseExistingServer` in fork B, while fork A (wrapped) and the
# main checkout (without agentfs) serve the same port.
#   tests/demo/playwright.sh [RUNS]    100 by default
# Right is: each run passes, so it met B's own server; no connection came to A or main. The same without agentfs must
# fail, because it tests main; otherwise the runs have shown nothing. Exit status 1 if something is wrong, 77 if
# something is not installed. In turn, B's server is started by Playwright in a new instance, in one where it ran
# before and ended, or is found running.
title=playwright.sh
runs=${1:-100}
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[[ $runs =~ ^[1-9][0-9]*$ ]] || { sed -n '4p' "${BASH_SOURCE[0]}" >&2; exit 2; }
needs "$AGENTFS_BIN" test -x "$AGENTFS_BIN"
needs "@playwright/test" test -e "$APPS_HOME/node/node_modules/@playwright/test"
free_port; export WEB_PORT=$free

checkout "$demo/suite" "$scratch/main"
for fork in a b; do git -C "$scratch/main" worktree add -q -b "fork/$fork" "$scratch/$fork" || die "no worktree $fork"; done
for each in main a b; do
    modules "$scratch/$each"
    : >"$scratch/$each/visits"
done

# count CHECKOUT WHAT: how many came to its server.
count() { grep -c "^$2" "$scratch/$1/visits"; }
listens() { grep -qx listening "$scratch/log/$1"; }
# suite COMMAND…: runs the suite in B.
suite() { (cd "$scratch/b" && timeout --foreground 300 "$@" npx playwright test) </dev/null >"$scratch/log/suite" 2>&1; }

run main "$scratch/main" node server.js
main=$pid
wait_for 60 listens main || die "main does not listen"
wrap a "$scratch/a" node server.js
wait_for 60 listens a || die "fork A does not listen"

passed=0 failed=0
start=$SECONDS
for ((i = 0; i < runs; i++)); do
    case $((i % 3)) in
        0) ;;
        1) # Something else of B runs, and B had a server.
            wrap b-other "$scratch/b" tail -f /dev/null
            wrap b-before "$scratch/b" node server.js
            wait_for 60 listens b-before || die "B's first server does not listen"
            kill "$pid"; wait "$pid" ;;
        2) wrap b-server "$scratch/b" node server.js
            wait_for 60 listens b-server || die "B's server does not listen" ;;
    esac
    if suite "$AGENTFS_BIN" wrap --; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        wrong "run $((i + 1)): $(tail -n 15 "$scratch/log/suite")"
    fi
    if [ $((i % 3)) = 2 ] || [ $((i + 1)) = "$runs" ]; then
        if agentfs ps --json | grep -q '"instance":"fork-b"'; then agentfs -q stop counted/fork-b || wrong "stop of B: status $?"; fi
    fi
done
say "$passed of $runs runs passed in $((SECONDS - start)) s; requests: B $(count b request), A $(count a request), main $(count main request)"
equal "runs that failed" 0 "$failed"
for each in a main; do
    equal "connections to $each" 0 "$(count $each connection)"
    cat "$scratch/$each/visits"
done
[ "$(count b request)" -ge "$runs" ] || wrong "B's servers answered only $(count b request) requests"

# A and main would have been there to be met.
equal "A answers" a "$(agentfs exec counted/fork-a -- curl -s "http://localhost:$WEB_PORT/")"
equal "main answers" main "$(curl -s "http://localhost:$WEB_PORT/")"

# Without agentfs, B's suite takes main's server for its own.
before=$(count main request)
if suite env; then wrong "the suite passes in B without agentfs"; else say "without agentfs the suite fails"; fi
grep -q 'Received: *"main"' "$scratch/log/suite" || wrong "without agentfs: $(tail -n 15 "$scratch/log/suite")"
reached=$(($(count main request) - before))
[ "$reached" -ge 1 ] && say "without agentfs, main got $reached requests of B's suite" || wrong "main got no request"

kill "$main"; wait "$main"
stop_all
if taken "$WEB_PORT"; then wrong "port $WEB_PORT of the host is taken afterwards"; fi
[ $wrong = 0 ] && say "right"

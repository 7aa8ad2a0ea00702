#!/usr/bin/env bash
# A checkout and four worktrees of one app (Vite, Express, PostgreSQL, Redis), all five on the same ports at once, each
# started in pieces from several shells. A Playwright run in each must show the row and the value of that checkout.
#   tests/demo/worktrees.sh [--usual]
# Meanwhile the main checkout runs without agentfs too, on those ports of the host; nobody may reach that one. In one
# worktree only the databases run: Playwright starts the rest, with `reuseExistingServer`. The ports are some that the
# host has free; with --usual they are 5173, 3000, 5432 and 6379. Exit status 1 if something is wrong, and stderr says
# what; 77 if something is not installed.
title=worktrees.sh
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
patience=120 # seconds until a program answers, on a busy machine

PG_BIN=$(dirname "$(ls -d /usr/lib/postgresql/*/bin/postgres 2>/dev/null | tail -n 1)" 2>/dev/null)
CHROMIUM=/usr/bin/chromium
export PG_BIN CHROMIUM
needs "$AGENTFS_BIN" test -x "$AGENTFS_BIN"
needs PostgreSQL test -x "$PG_BIN/initdb"
needs redis-server redis-server --version
needs Chromium test -x "$CHROMIUM"
needs jq jq --version
for package in vite express pg redis @playwright/test; do
    needs "$package" test -e "$APPS_HOME/node/node_modules/$package"
done
if [ "${1-}" = --usual ]; then
    export WEB_PORT=5173 API_PORT=3000 DB_PORT=5432 CACHE_PORT=6379
else
    free_port; export WEB_PORT=$free
    free_port; export API_PORT=$free
    free_port; export DB_PORT=$free
    free_port; export CACHE_PORT=$free
fi
for port in $WEB_PORT $API_PORT $DB_PORT $CACHE_PORT; do
    if taken "$port"; then die "port $port of the host is taken"; fi
done
say "ports: $WEB_PORT (Vite), $API_PORT (Express), $DB_PORT (PostgreSQL), $CACHE_PORT (Redis)"

# The folder of each checkout is what its data say; its instance is called after the branch.
main=$scratch/taskboard
declare -A instance=([taskboard]=main [one]=feature-auth [two]=fix-auth [hotfix]=hotfix [mono]=search)
folders=(taskboard one two hotfix mono)
checkout "$demo/stack" "$main"
printf 'main = %s\n' "$WEB_PORT" >"$main/agentfs.toml"
git -C "$main" add . && git -C "$main" -c user.name=demo -c user.email=demo@localhost commit -q -m 'the port of the pages'
git -C "$main" worktree add -q -b feature/auth "$scratch/one" &&
    git -C "$main" worktree add -q -b fix/auth "$scratch/two" &&
    git -C "$main" worktree add -q --detach "$scratch/hotfix" &&
    git -C "$main" worktree add -q -b search "$scratch/mono" || die "cannot make the worktrees"

# PostgreSQL does not run as root.
database_user=()
if [ "$(id -u)" = 0 ]; then database_user=(setpriv --reuid=postgres --regid=postgres --init-groups); fi
# Programs start in a folder that PostgreSQL's user may enter.
cd "$scratch" || die "no folder"
mkdir "$scratch/pg" && if [ "$(id -u)" = 0 ]; then chown postgres "$scratch/pg"; fi
"${database_user[@]}" "$PG_BIN/initdb" -D "$scratch/pg/template" -A trust -N -U postgres >"$scratch/log/initdb" 2>&1 || die "initdb failed"
# data FOLDER NAME: databases of its own, with nothing in them.
data() {
    mkdir -p "$1/.data/$2/cache" && cp -a "$scratch/pg/template" "$1/.data/$2/db" || die "no data in $1"
}
for folder in "${folders[@]}"; do
    data "$scratch/$folder" own
    modules "$scratch/$folder"
done
data "$main" bare

# fill NAME COMMAND…: waits for the databases that COMMAND… reaches at localhost, and writes NAME into both.
fill() {
    wait_for $patience "${@:2}" "$PG_BIN/pg_isready" -q -h localhost -p "$DB_PORT" -U postgres || die "$1: PostgreSQL does not answer"
    wait_for $patience "${@:2}" redis-cli -p "$CACHE_PORT" ping || die "$1: Redis does not answer"
    "${@:2}" psql -q -h localhost -p "$DB_PORT" -U postgres -c "create table checkout as select '$1'::text as name" &&
        [ "$("${@:2}" redis-cli -p "$CACHE_PORT" set checkout "$1")" = OK ] || die "$1: cannot write to the databases"
}
# board COMMAND…: what the front end that COMMAND… reaches at localhost gets from its API.
board() { "$@" curl -sS --max-time 60 "http://localhost:$WEB_PORT/api/board" 2>&1; }
both() { echo "{\"row\":\"$1\",\"value\":\"$1\"}"; }
listens() { agentfs ps --json | jq -e ".[] | select(.instance == \"$1\").listeners[] | select(.port == $2)"; }
# listening FOLDER PORT…: waits for it. Until then the instance `main` reaches the host's, which is of its own checkout.
listening() {
    local port
    for port in "${@:2}"; do
        wait_for $patience listens "${instance[$1]}" "$port" || die "$1 (${instance[$1]}) does not listen on $port"
    done
}
inside() { agentfs exec "taskboard/$1" -- "${@:2}"; }

# The main checkout without agentfs. $VISITS counts who comes to it.
export DATA=bare
run bare-db "$main" infra/db.sh; bare=("$pid")
run bare-cache "$main" infra/cache.sh; bare+=("$pid")
fill bare env
visits=$scratch/visits
: >"$visits"
VISITS=$visits run bare-api "$main/packages/api" node server.js; bare+=("$pid")
VISITS=$visits run bare-web "$main/packages/web" "$main/node_modules/.bin/vite"; bare+=("$pid")
unset DATA
wait_for $patience grep -q 'listening' "$scratch/log/bare-api" || die "the API without agentfs does not start"
wait_for $patience grep -q 'Local:' "$scratch/log/bare-web" || die "Vite without agentfs does not start"

# Each checkout by several shells, in several folders. The last one is used from inside the packages alone.
for folder in taskboard one two hotfix; do
    wrap "$folder-db" "$scratch/$folder" npm run db
    wrap "$folder-cache" "$scratch/$folder/infra" ./cache.sh
done
wrap mono-db "$scratch/mono/packages/api" ../../infra/db.sh
wrap mono-cache "$scratch/mono/packages/web" ../../infra/cache.sh
for folder in taskboard one two hotfix mono; do
    listening "$folder" "$DB_PORT" "$CACHE_PORT"
    fill "$folder" inside "${instance[$folder]}"
done
# pieces FOLDER: the API and the front end of it.
pieces() {
    wrap "$1-api" "$scratch/$1/packages/api" npm start
    wrap "$1-web" "$scratch/$1/packages/web" npm run dev
}
wrap one-api "$scratch/one" npm run api
wrap one-web "$scratch/one" npm run web
for folder in taskboard hotfix mono; do pieces "$folder"; done

answers() { [ "$(board inside "${instance[$1]}")" = "$(both "$1")" ]; }
for folder in taskboard one hotfix mono; do
    listening "$folder" "$API_PORT" "$WEB_PORT"
    wait_for $patience answers "$folder" || wrong "$folder: the front end's API answers $(board inside "${instance[$folder]}")"
done

router=$(agentfs daemon status --json | jq .http_port)
# url INSTANCE [PORT]
url() { echo "http://${2:+$2.}$([ "$1" = main ] || echo "$1.")taskboard.localhost:$router"; }
# pages FOLDER FOLDER_OF_SHELL COMMAND…: a Playwright run in FOLDER, started in a shell there.
right=0
pages() {
    local text="row $1, value $1" at
    at=$(url "${instance[$1]}")
    if (cd "$2" && timeout --foreground 300 "${@:3}") </dev/null >"$scratch/log/$1-test" 2>&1 &&
        grep -qxF "answer at http://localhost:$WEB_PORT/: $text" "$scratch/log/$1-test" &&
        grep -qxF "answer at $at: $text" "$scratch/log/$1-test"; then
        right=$((right + 1))
        say "$1 (${instance[$1]}): the pages at localhost:$WEB_PORT and $at show: $text"
    else
        wrong "$1 (${instance[$1]}): $(grep -E '^answer|Error|Expected|Received' "$scratch/log/$1-test" || tail -n 15 "$scratch/log/$1-test")"
    fi
}
test=(npx playwright test)
pages taskboard "$main" "$AGENTFS_BIN" wrap -- "${test[@]}"
pages one "$scratch/one" "$AGENTFS_BIN" wrap -- "${test[@]}"
START=1 pages two "$scratch/two" "$AGENTFS_BIN" wrap -- "${test[@]}"
pages hotfix "$scratch/hotfix" "$AGENTFS_BIN" exec hotfix.taskboard -- "${test[@]}"
pages mono "$scratch/mono/packages/web" "$AGENTFS_BIN" wrap -- "${test[@]}" --config ../../playwright.config.js

# What Playwright started has ended with it; now shells start it.
pieces two
listening two "$API_PORT" "$WEB_PORT"
wait_for $patience answers two || wrong "two: after the run, the front end's API answers $(board inside fix-auth)"

# ps lists these five with their four ports, their URLs and nothing else.
listed() {
    agentfs ps --json | jq -r '.[] | "\(.app)/\(.instance) \(.directory | ltrimstr("'"$scratch/"'") | split("/")[0]) \(.url) "
        + ([.listeners[] | "\(.port)=\(.url)"] | unique | join(" "))' | sort
}
expected() {
    local folder i
    for folder in "${folders[@]}"; do
        i=${instance[$folder]}
        echo "taskboard/$i $folder $(url "$i") $(for port in $WEB_PORT $API_PORT $DB_PORT $CACHE_PORT; do
            if [ "$port" = "$WEB_PORT" ]; then echo "$port=$(url "$i")"; else echo "$port=$(url "$i" "$port")"; fi
        done | sort | tr '\n' ' ' | sed 's/ $//')"
    done | sort
}
if [ "$(listed)" = "$(expected)" ]; then say "ps lists: $(agentfs ps --json | jq -r '[.[] | "\(.instance) \(.url)"] | join(", ")')"
else wrong "ps: $(diff <(expected) <(listed))"; fi
for folder in "${folders[@]}"; do
    equal "shells in $folder" 4 "$(agentfs ps --json | jq ".[] | select(.instance == \"${instance[$folder]}\").commands | length")"
done
# by_name URL PATH: as a browser asks, which resolves *.localhost by itself.
by_name() { curl -sS --max-time 60 -H "Host: ${1#http://}" "http://127.0.0.1:$router$2" 2>&1; }
for folder in "${folders[@]}"; do
    i=${instance[$folder]}
    by_name "$(url "$i")" / | grep -q '<title>Taskboard</title>' || wrong "$(url "$i"): $(by_name "$(url "$i")" / | head -c 300)"
    equal "$(url "$i")/api/board" "$(both "$folder")" "$(by_name "$(url "$i")" /api/board)"
    equal "$(url "$i" "$API_PORT")/api/board" "$(both "$folder")" "$(by_name "$(url "$i" "$API_PORT")" /api/board)"
done

equal "connections to the copy without agentfs" "" "$(sort "$visits" | uniq -c)"
equal "the copy without agentfs" "$(both bare)" "$(board env)"

kill -INT "${bare[@]}"; wait "${bare[@]}"
stop_all
for port in $WEB_PORT $API_PORT $DB_PORT $CACHE_PORT; do
    if taken "$port"; then wrong "port $port of the host is taken afterwards"; fi
done
equal "right answers" 5 "$right"
[ $wrong = 0 ] && say "right"

program="agentfs's own pages"
what="index, unknown name, ended instance, one that starts and opens by itself: in Chromium (links followed, narrow and dark, nothing fetched from elsewhere), as JSON and as text"
port=3000
version() { [ -x /usr/bin/chromium ] && chromium --version | cut -d' ' -f1,2; }

page() { HOME=$folder expect ok node "$APPS/pages.js" "$(router)" "$@"; }
# json HOST STATUS KEY VALUE: what a program gets.
json() {
    local answer
    answer=$(by_name "$1" / -H 'Accept: application/json' -w '\n%{http_code}')
    [ "${answer##*$'\n'}" = "$2" ] || fail "$1 as JSON: $answer, not $2"
    [ "$(sed '$d' <<<"$answer" | python3 -c "import json, sys; print(json.load(sys.stdin)[\"$3\"])")" = "$4" ] || fail "$1 as JSON: $answer: $3 is not $4"
}
serve() { instance=$1; wrap "${@:2}"; }

try() {
    local text begin
    echo "$own" >own; cp "$APPS/http.js" .
    printf '#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.1; done\nexec node http.js\n' >late; chmod +x late
    serve live node http.js
    wait_for 20 by_name "live.$name.localhost" / -f || fail "does not answer"
    page index "live.$name.localhost" "$own"
    page unknown "live.$name.localhost" "$own"
    json nobody.localhost 404 error unknown_host
    text=$(by_name agentfs.localhost /)
    case $text in *"http://live.$name.localhost:$(router)/"*) ;; *) fail "index as text: $text" ;; esac

    serve gone node http.js
    wait_for 20 by_name "gone.$name.localhost" / -f || fail "does not answer"
    agentfs -q stop "$name/gone"
    page dead "gone.$name.localhost" "node http.js"
    json "gone.$name.localhost" 502 error no_listener

    serve late ./late
    wait_for 10 eval "agentfs ps --json | grep -q '\"late\"'" || fail "agentfs ps does not know what was started"
    page starting "late.$name.localhost" "$own" "$folder/go"
    expect "$own" by_name "late.$name.localhost" /
    # A program waits as well, and is answered as soon as there is a listener.
    rm go; serve later ./late
    wait_for 10 eval "agentfs ps --json | grep -q '\"later\"'" || fail "agentfs ps does not know what was started"
    (sleep 1; : >go) &
    begin=$SECONDS
    expect "$own" by_name "later.$name.localhost" /
    [ $((SECONDS - begin)) -lt 9 ] || fail "waited $((SECONDS - begin)) s for a listener"
}

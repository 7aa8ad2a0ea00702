program="Playwright"
what="playwright-core with Chromium through exec against localhost:3000 of each instance, both at once"
port=3000
version() { [ -x /usr/bin/chromium ] && "$node_bin/playwright-core" --version; }
setup() { echo "$own" >own; }
start() { wrap node "$APPS/http.js"; }
check() {
    [ "$instance" = a ] || return 0
    local tests=() each
    for each in a b; do
        (instance=$each; HOME=$folder inside node "$APPS/playwright.js" >"$scratch/$each/test" 2>&1) & tests+=($!)
    done
    for each in "${tests[@]}"; do wait "$each" || fail "$(cat "$scratch"/?/test)"; done
    for each in a b; do
        expect "request $name-own-$each" cat "$scratch/$each/test"
        [ "$(grep -c "$name-own-$each" "$scratch/$each/test")" = 4 ] || fail "$(cat "$scratch/$each/test")"
    done
}

program="Hugo"
what="hugo server, port 1313; a change is rebuilt and served"
port=1313
version() { hugo version | cut -d' ' -f2; }
setup() {
    mkdir -p layouts content
    echo 'title = "own"' >config.toml
    echo "$own" >layouts/index.html
}
start() { HOME=$folder wrap hugo server --disableFastRender --poll 200ms; }
check() {
    echo "$own changed" >layouts/index.html
    rebuilt() { inside curl -s localhost:1313 | grep -q changed; }
    wait_for 15 rebuilt || fail "a change is not served"
}

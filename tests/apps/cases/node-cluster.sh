program="Node cluster"
what="two workers on port 3000; a killed worker is replaced"
port=3000
version() { node --version; }
setup() { echo "$own" >own; }
start() { wrap node "$APPS/cluster.js"; }
workers() { for _ in 1 2 3 4 5 6; do inside curl -s localhost:3000 | grep -o 'who=[0-9]*'; done | sort -u; }
check() {
    both() { [ "$(workers | wc -l)" = 2 ]; }
    wait_for 20 both || fail "not two workers answer: $(workers)"
    local victim; victim=$(workers | head -n 1)
    kill -9 "${victim#who=}"
    replaced() { both && ! workers | grep -q "$victim"; }
    wait_for 20 replaced || fail "the killed worker was not replaced: $(workers)"
}

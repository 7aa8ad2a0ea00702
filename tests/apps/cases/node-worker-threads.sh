program="Node worker_threads"
what="a server in a thread on port 3000; a second thread gets EADDRINUSE"
port=3000
version() { node --version; }
setup() { echo "$own" >own; }
start() { wrap node "$APPS/threads.js"; }
check() { refused() { grep -q 'second: EADDRINUSE' log; }; wait_for 10 refused || fail "the second thread: $(cat log)"; }

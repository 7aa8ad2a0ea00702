program="Redis"
what="redis-server on its default bind, port 6379; redis-benchmark; BGSAVE forks"
port=6379 http=no
version() { redis-server --version | grep -o 'v=[0-9.]*'; }
start() { wrap redis-server --dir "$folder" --enable-debug-command yes; }
ready() { inside redis-cli ping | grep -q PONG; }
check() {
    expect OK inside redis-cli set own "$own"
    expect "$own" inside redis-cli get own
    expect "addr=127.0.0.1:" inside redis-cli client list
    expect "Background saving started" inside redis-cli bgsave
    saved() { inside redis-cli info persistence | grep -q rdb_bgsave_in_progress:0; }
    wait_for 10 saved || fail "BGSAVE does not end"
    expect "GET" inside redis-benchmark -q -n 20000 -c 50 -t get
    expect "$own" inside redis-cli -h ::1 get own
}

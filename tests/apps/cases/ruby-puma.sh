program="Puma"
what="puma -w 2, port 9292; phased restart by USR1"
port=9292
version() { puma --version; }
setup() { echo "run ->(env) { [200, {}, [\"$own peer=#{env['REMOTE_ADDR']} pid=#{Process.pid}\"]] }" >config.ru; }
start() { wrap puma -w 2 --pidfile pid config.ru; }
check() {
    expect "peer=127.0.0.1" inside curl -s 127.0.0.1:9292
    local old; old=$(inside curl -s localhost:9292 | grep -o 'pid=.*')
    kill -USR1 "$(cat pid)"
    renewed() { local now; now=$(for _ in 1 2 3 4; do inside curl -s localhost:9292 | grep -o 'pid=.*'; done); [ -n "$now" ] && ! grep -q "$old" <<<"$now"; }
    wait_for 20 renewed || fail "USR1 did not renew the workers"
}

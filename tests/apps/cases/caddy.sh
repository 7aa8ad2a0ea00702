program="Caddy"
what="caddy file-server, port 2019 and 80"
version() { caddy version; }
try() {
    echo "$own" >own
    local free; free=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    HOME=$folder wrap caddy file-server --listen "127.0.0.1:$free"
    served() { curl -sf "http://127.0.0.1:$free/own" | grep -q "$own"; }
    wait_for 20 served || fail "does not serve on the host's port under wrap: $(tail -n 2 log)"
    expect "$own" inside curl -s "localhost:$free/own"
    agentfs -q stop "$name/$instance" || fail "agentfs stop"
    skip "Go makes no libc calls on Linux, so preloading cannot reach it: it runs as without agentfs, on the host's port"
}

program="Caddy"
what="caddy file-server, port 2019 and 80"
version() { caddy version; }
try() {
    echo "$own" >own
    local free; free=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    HOME=$folder wrap caddy file-server --listen "127.0.0.1:$free"
    served() { inside curl -sf "http://127.0.0.1:$free/own" | grep -q "$own"; }
    wait_for 20 served || fail "does not serve in its instance: $(tail -n 2 log)"
    ! curl -sf "http://127.0.0.1:$free/own" || fail "it has the host's port"
    expect "$own" inside curl -s "localhost:$free/own"
    agentfs -q stop "$name/$instance" || fail "agentfs stop"
}

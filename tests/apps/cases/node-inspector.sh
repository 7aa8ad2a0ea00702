program="Node inspector"
what="node --inspect, port 9229 beside port 3000"
port=3000
note="the inspector answers only to Host: localhost or an address (its own rule), so it is reached from exec, and by a route with --rewrite-host"
version() { node --version; }
setup() { echo "$own" >own; }
start() { wrap node --inspect "$APPS/http.js"; }
check() {
    expect "$APPS/http.js" inside curl -s http://localhost:9229/json/list
    expect '"value":42' inside "$python/python" "$APPS/inspector_client.py" 9229
    ! taken 9229 || fail "port 9229 of the host is taken"
}

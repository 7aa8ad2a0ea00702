program="Node http"
what="http.createServer().listen(3000)"
port=3000
version() { node --version; }
setup() { echo "$own" >own; }
start() { wrap node "$APPS/http.js"; }
check() { expect "peer=::" inside curl -s "localhost:3000"; }

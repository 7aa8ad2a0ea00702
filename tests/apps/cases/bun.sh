program="Bun"
what="Bun.serve, port 3000, WebSocket; bun --watch restarts it"
port=3000
bun=$APPS_HOME/node/node_modules/bun/bin/bun.exe
version() { [ -x "$bun" ] && "$bun" --version; }
setup() {
    cat >main.ts <<END
Bun.serve({ port: 3000,
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response('$own peer=' + server.requestIP(request)?.address);
  },
  websocket: { message(socket, text) { socket.send('$own ' + text); } } });
END
}
start() { wrap "$bun" --watch main.ts; }
check() {
    expect "127.0.0.1" inside curl -s 127.0.0.1:3000
    expect "$own hello" inside "$python/python" "$APPS/websocket_client.py" ws://localhost:3000/
    expect "$own" inside "$bun" -e 'console.log(await (await fetch("http://localhost:3000")).text())'
    sed -i 's/peer=/changed=/' main.ts
    reloaded() { inside curl -s localhost:3000 | grep -q changed=; }
    wait_for 15 reloaded || fail "bun --watch did not restart it on the same port"
}

program="Deno"
what="deno serve, port 8000"
port=8000
deno=$(ls "$APPS_HOME"/node/node_modules/@deno/linux-*/deno 2>/dev/null | head -n 1)
version() { [ -n "$deno" ] && "$deno" --version | head -n 1; }
setup() { echo "export default { fetch: (request, info) => new Response('$own peer=' + info.remoteAddr.hostname) };" >main.ts; }
start() { wrap env DENO_DIR="$folder/.deno" DENO_NO_UPDATE_CHECK=1 "$deno" serve --port 8000 main.ts; }
check() {
    expect "peer=127.0.0.1" inside curl -s 127.0.0.1:8000
    expect "$own" inside env DENO_DIR="$folder/.deno" "$deno" eval 'console.log(await (await fetch("http://localhost:8000")).text())'
}

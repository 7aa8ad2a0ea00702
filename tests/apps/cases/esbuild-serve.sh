program="esbuild"
what="esbuild --serve, port 8000 (Go, from npm); the bundle too"
port=8000
note="serves only the host names that it is told"
http=no
version() { "$node_bin/esbuild" --version; }
setup() { echo "$own" >index.html; echo "console.log('$own')" >app.js; }
ready() { inside curl -sf --max-time 5 http://localhost:8000/; }
start() { wrap "$node_bin/esbuild" app.js --bundle --outdir=out --servedir=. --serve=8000 --watch=forever; }
check() {
    expect "$own" inside curl -s localhost:8000/
    expect "$own" inside curl -s 127.0.0.1:8000/out/app.js
}

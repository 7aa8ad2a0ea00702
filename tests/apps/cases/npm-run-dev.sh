program="npm run dev"
what="npm → sh → node, port 3000, script with && and a shell"
port=3000
version() { echo "npm $(npm --version)"; }
setup() {
    echo "$own" >own; cp "$APPS/http.js" .
    echo '{"name":"x","version":"1.0.0","scripts":{"predev":"true","dev":"cd . && NODE_ENV=development node http.js"}}' >package.json
}
start() { wrap npm run dev; }

program="aiohttp"
what="web.run_app, port 8080"
port=8080
version() { "$python/python" -c 'import aiohttp; print(aiohttp.__version__)'; }
setup() { echo "$own" >own; }
start() { wrap "$python/python" "$APPS/aiohttp_app.py"; }
check() { expect "peer=127.0.0.1" inside curl -s localhost:8080; }

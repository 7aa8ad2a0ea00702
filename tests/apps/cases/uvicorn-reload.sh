program="FastAPI, uvicorn"
what="uvicorn --reload, port 8000, WebSocket; a change is reloaded"
port=8000
version() { "$python/uvicorn" --version | cut -d' ' -f2,3; }
setup() { cp "$APPS/asgi_app.py" .; echo "$own" >own; }
start() { wrap "$python/uvicorn" --reload asgi_app:app; }
check() {
    expect '"peer":"127.0.0.1"' inside curl -s localhost:8000
    expect "$own hello" inside "$python/python" "$APPS/websocket_client.py" ws://localhost:8000/socket
    expect "$own hello" "$python/python" "$APPS/websocket_client.py" "ws://127.0.0.1:$(router)/socket" "$instance.$name.localhost"
    sed -i 's/"pid"/"reloaded"/' asgi_app.py
    reloaded() { inside curl -s localhost:8000 | grep -q reloaded; }
    wait_for 20 reloaded || fail "the reloader did not restart it on the same port"
}

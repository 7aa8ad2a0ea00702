program="Flask"
what="app.run(debug=True), reloader and debugger on port 5000; a change is reloaded"
port=5000
version() { "$python/flask" --version | grep Flask; }
setup() { cp "$APPS/flask_app.py" .; echo "TEXT = '$own'" >own.py; }
start() { wrap "$python/python" flask_app.py; }
check() {
    expect "peer=127.0.0.1" inside curl -s localhost:5000
    echo "TEXT = '$own changed'" >own.py
    reloaded() { inside curl -s localhost:5000 | grep -q changed; }
    wait_for 20 reloaded || fail "the reloader did not restart it on the same port"
    expect "$own changed" by_name "$instance.$name.localhost" /
}

program="Chromium headless"
what="--remote-debugging-port=9222 with a page of the instance's port 3000; fetched through its own network service"
port=9222 path=/json/version http=no patience=60
version() { chromium --version | cut -d' ' -f1,2; }
setup() {
    echo "$own" >own; cp "$APPS/http.js" .
    cat >run <<END
#!/bin/sh
node http.js &
for i in 1 2 3 4 5 6 7 8 9 10; do nc -z localhost 3000 && break; sleep 0.2; done
export HOME=$folder
exec chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --disable-dev-shm-usage --user-data-dir=$folder/profile --remote-debugging-port=9222 http://localhost:3000/
END
    chmod +x run
}
start() { wrap ./run; }
ready() { inside curl -sf http://localhost:9222/json/list | grep -q localhost:3000; }
check() {
    expect "$own" inside "$python/python" "$APPS/cdp_client.py" 9222
    expect "$own" inside curl -s http://localhost:3000
    ! taken 3000 || fail "port 3000 of the host is taken"
}

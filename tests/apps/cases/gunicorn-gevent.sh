program="gunicorn"
what="gunicorn -k gevent -w 2, port 8000; HUP reloads the workers"
port=8000
version() { "$python/gunicorn" --version; }
setup() { cp "$APPS/wsgi_app.py" .; echo "$own" >own; }
start() { wrap "$python/gunicorn" -k gevent -w 2 -p pid wsgi_app; }
answering() { for _ in 1 2 3 4 5 6; do inside curl -s localhost:8000 | grep -o 'pid=[0-9]*'; done | sort -u | tr '\n' ' '; }
check() {
    expect "peer=127.0.0.1" inside curl -s localhost:8000
    local before; before=$(answering)
    kill -HUP "$(cat pid)"
    renewed() { local now; now=$(answering); for old in $before; do case $now in *"$old"*) return 1 ;; esac; done; [ -n "$now" ]; }
    wait_for 20 renewed || fail "HUP did not renew the workers: $before, $(answering)"
}

program="FastAPI, uvicorn"
what="uvicorn --workers 2, port 8000"
port=8000
version() { "$python/uvicorn" --version | cut -d' ' -f2,3; }
setup() { cp "$APPS/asgi_app.py" .; echo "$own" >own; }
start() { wrap "$python/uvicorn" --workers 2 asgi_app:app; }
pid_of_answer() { inside curl -s localhost:8000 | grep -o '"pid":[0-9]*'; }
check() {
    both() { for _ in 1 2 3 4 5 6 7 8; do pid_of_answer; done | sort -u | wc -l | grep -qx 2; }
    wait_for 20 both || fail "only one worker answers"
}

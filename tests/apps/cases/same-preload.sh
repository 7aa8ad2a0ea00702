program="a program's own LD_PRELOAD"
what="libfaketime, jemalloc and tcmalloc beside ours; the server still has its own port"
port=8000 path=/own
version() { faketime --version 2>/dev/null | head -n 1 || dpkg-query -W -f '${Version}' libfaketime; }
setup() { echo "$own" >own; }
start() { wrap env LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME='@2001-02-03 04:05:06' python3 -m http.server 8000; }
check() {
    expect "2001" inside curl -sSi localhost:8000/own
    expect "2001" agentfs -q wrap --app "$name-x" -- env LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME='@2001-02-03 04:05:06' date
    expect "2001" env LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME='@2001-02-03 04:05:06' "$AGENTFS_BIN" -q wrap --app "$name-x" -- date
    expect "ok" env LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2 "$AGENTFS_BIN" -q wrap --app "$name-x" -- echo ok
    expect "ok" env LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 "$AGENTFS_BIN" -q wrap --app "$name-x" -- echo ok
}

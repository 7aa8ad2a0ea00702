program="memcached"
what="port 11211, root's start with -u nobody, four threads"
port=11211 http=no
version() { memcached --version; }
start() { wrap memcached -u nobody -U 0; }
talk() { printf '%s\r\nquit\r\n' "$1" | inside nc -q 3 localhost 11211; }
ready() { talk version | grep -q VERSION; }
check() {
    expect STORED talk "set own 0 0 ${#own}"$'\r\n'"$own"
    expect "$own" talk "get own"
}

program="rsync daemon"
what="port 873; rsync rsync://localhost/own/"
port=873 http=no
version() { rsync --version | head -n 1 | cut -d' ' -f1-4; }
setup() {
    chmod 755 .; mkdir served; echo "$own" >served/own
    printf 'pid file=%s/pid\nuid=root\nuse chroot=no\nhosts allow=127.0.0.1 ::1\n[own]\npath=%s/served\n' "$folder" "$folder" >conf
}
start() { wrap rsync --daemon --no-detach --config="$folder/conf"; }
ready() { inside rsync rsync://localhost/; }
check() {
    inside rsync -a rsync://localhost/own/ copy/ || fail "rsync failed"
    expect "$own" cat copy/own
}

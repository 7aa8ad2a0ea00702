program="HAProxy"
what="master-worker, frontend :80, a server on 127.0.0.1:8080 of the same instance, from an empty root (chroot); reload by USR2"
port=80
version() { haproxy -v | head -n 1 | cut -d' ' -f3; }
setup() {
    chmod 755 .; mkdir -p empty; echo "$own" >index.html
    cat >haproxy.cfg <<END
global
    user haproxy
    chroot $PWD/empty
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend front
    bind :80
    http-response set-header Peer %[src]
    default_backend back
backend back
    server own 127.0.0.1:8080 check inter 200ms
END
    printf '#!/bin/sh\npython3 -m http.server 8080 &\nhaproxy -W -f haproxy.cfg -p pid &\nwait\n' >run; chmod +x run
}
start() { wrap ./run; }
ready() { inside curl -sf localhost; }
check() {
    header() { inside curl -sSi -4 localhost | tr 'A-Z' 'a-z'; }
    expect "peer: 127.0.0.1" header
    sed -i 's/Peer/Reloaded/' haproxy.cfg
    kill -USR2 "$(cat pid | head -n 1)"
    reloaded() { header | grep -q reloaded; }
    wait_for 10 reloaded || fail "reload: $(tail -n 3 log)"
    expect "$own" by_name "$instance.$name.localhost" /
}

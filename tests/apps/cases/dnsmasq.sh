program="dnsmasq"
what="port 5353 over TCP and UDP, one instance at a time per UDP port"
note="UDP is not intercepted: TCP is each instance's own, UDP stays the host's, so the second copy of a DNS server on one port needs another UDP port"
port=5353 http=no
version() { dnsmasq --version | head -n 1 | cut -d' ' -f1-3; }
instances=(a)
start() { wrap dnsmasq -k -C /dev/null -p 5353 -a 127.0.0.1 -z --no-resolv --no-hosts --txt-record="own.test,$own" -u root --pid-file="$folder/pid"; }
ask() { dig +short +tries=1 +time=3 -p 5353 @127.0.0.1 txt own.test "$@"; }
ready() { inside dig +short +tcp +tries=1 +time=3 -p 5353 @127.0.0.1 txt own.test | grep -q own; }
check() {
    expect "$own" inside dig +short +tcp +tries=1 +time=3 -p 5353 @127.0.0.1 txt own.test
    expect "$own" inside dig +short +tries=1 +time=3 -p 5353 @127.0.0.1 txt own.test
    expect "$own" ask
}

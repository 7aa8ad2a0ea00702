program="NATS server"
what="nats-server, ports 4222 and 8222 (monitoring); publish and subscribe"
port=4222
http=no
version() { nats-server --version | grep -o 'v[0-9].*'; }
start() { wrap nats-server --name "$own" --http_port 8222; }
ready() { inside curl -sf --max-time 5 http://localhost:8222/healthz; }
check() {
    expect "$own" inside curl -s http://127.0.0.1:8222/varz
    expect "$own" by_name "8222.$instance.$name.localhost" /varz
    expect "MSG greeting 1 5" inside bash -c 'exec 3<>/dev/tcp/localhost/4222
        printf "CONNECT {\"verbose\":false}\r\nSUB greeting 1\r\nPUB greeting 5\r\nhello\r\n" >&3
        while read -r -t 5 line <&3; do echo "$line"; case $line in MSG*) exit ;; esac; done'
}

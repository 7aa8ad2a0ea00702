program="curl, wget, nc, python urllib"
what="as clients of port 8080: IPv4, IPv6, localhost, *.localhost, keep-alive, parallel, a refused port"
port=8080
version() { echo "$(curl --version | head -n 1 | cut -d' ' -f1,2), $(wget --version | head -n 1 | cut -d' ' -f2,3)"; }
setup() { echo "$own" >index.html; }
start() { wrap python3 -m http.server -b :: 8080; }
check() {
    expect "$own" inside curl -sS http://127.0.0.1:8080/ http://localhost:8080/
    expect "$own" inside curl -sS -6 http://localhost:8080/
    expect "$own" inside curl -sS "http://[::1]:8080/"
    expect "$own" inside curl -sS http://any.name.localhost:8080/
    expect "$own" inside curl -sS --parallel http://localhost:8080/ http://localhost:8080/ http://localhost:8080/ http://localhost:8080/
    expect "$own" inside wget -q -O - http://localhost:8080/
    expect "$own" inside wget -q -O - http://any.localhost:8080/
    expect "$own" inside /usr/bin/python3 -c 'import urllib.request; print(urllib.request.urlopen("http://localhost:8080/").read())'
    expect "$own" inside sh -c 'printf "GET / HTTP/1.0\r\n\r\n" | nc localhost 8080'
    expect "$own" inside bash -c 'exec 3<>/dev/tcp/localhost/8080; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3'
    expect "Connection refused" inside sh -c 'curl -sS http://127.0.0.1:8079/ 2>&1 | sed "s/Couldn.t connect to server/Connection refused/"'
}

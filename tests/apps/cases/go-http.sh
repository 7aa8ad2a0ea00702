program="Go"
what="net/http on port 8080, CGO_ENABLED=0; a Go client"
port=8080
cgo=0
version() { go version | cut -d' ' -f3; }
setup() {
    cat >server.go <<END
package main

import ("fmt"; "net/http")

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "$own peer="+r.RemoteAddr) })
	panic(http.ListenAndServe(":8080", nil))
}
END
    cat >client.go <<'END'
package main

import ("io"; "net/http"; "os")

func main() {
	answer, err := http.Get("http://localhost:8080/")
	if err != nil { panic(err) }
	io.Copy(os.Stdout, answer.Body)
}
END
    if [ "$cgo" = 1 ]; then sed -i 's/^import (/\/\/ #include <unistd.h>\nimport "C"\nimport (/; s/func main() {/var _ = C.getpid()\n&/' server.go; fi
    local each
    for each in server client; do
        HOME=$folder GOCACHE=$APPS_HOME/go GO111MODULE=off CGO_ENABLED=$cgo nice go build -o $each $each.go || fail "go build"
    done
}
start() { wrap ./server; }
check() {
    expect "$own peer=127.0.0.1" inside ./client
    expect "$own peer=127.0.0.1" inside "$python/python" -c 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8080").read().decode())'
}

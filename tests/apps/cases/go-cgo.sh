program="Go with cgo"
what="net/http on port 8080, linked with libc"
version() { go version | cut -d' ' -f3; }
try() {
    echo "$own" >own
    local free; free=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat >main.go <<END
package main

// #include <unistd.h>
import "C"
import ("fmt"; "net/http")

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "$own", C.getpid() > 0) })
	panic(http.ListenAndServe("127.0.0.1:$free", nil))
}
END
    HOME=$folder GOCACHE=$APPS_HOME/go GO111MODULE=off CGO_ENABLED=1 nice go build -o server main.go || fail "go build"
    wrap ./server
    served() { inside curl -sf "http://127.0.0.1:$free/" | grep -q "$own"; }
    wait_for 20 served || fail "does not serve in its instance: $(tail -n 2 log)"
    ! curl -sf "http://127.0.0.1:$free/" || fail "it has the host's port"
    agentfs -q stop "$name/$instance" || fail "agentfs stop"
    # Into a file: a grep -q that leaves early would break the pipe, and with it the pipeline's status.
    agentfs trace --app "$name" -- timeout 0.5 ./server >traced 2>&1
    grep -q 'served by the seccomp engine' traced || fail "trace does not say that the engine serves it"
}

# shellcheck source=go-http.sh
. "$cases/go-http.sh"
program="Go with cgo"
what="the same, linked with libc"
cgo=1

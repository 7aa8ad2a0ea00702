program="git daemon"
what="port 9418; git clone, push"
port=9418 http=no
version() { git --version; }
setup() {
    git init -q --bare served.git; git init -q work
    (cd work && echo "$own" >own && git add own && git -c user.name=x -c user.email=x@x commit -qm own && git push -q ../served.git HEAD:main)
    git -C served.git symbolic-ref HEAD refs/heads/main
}
start() { wrap git daemon --reuseaddr --export-all --enable=receive-pack --base-path="$folder" "$folder"; }
ready() { inside git ls-remote git://localhost/served.git; }
check() {
    inside git clone -q git://localhost/served.git copy || fail "git clone failed"
    expect "$own" cat copy/own
    (cd copy && echo more >more && git add more && git -c user.name=x -c user.email=x@x commit -qm more)
    expect "main" inside git -C copy push origin HEAD:main
}

program="detect-port, get-port, portfinder"
what="each looks for a free port while another program of the host has it on 0.0.0.0: free in the instance, not without agentfs; not free once the instance listens there"
packages=(detect-port get-port portfinder)
version() {
    local package all=
    for package in "${packages[@]}"; do
        all+="${all:+, }$package $(node -p "require('$APPS_HOME/node/node_modules/$package/package.json').version")" || return
    done
    echo "$all"
}
# Listens on every address, and says where.
listener='import socket, sys
s = socket.socket()
s.bind(("0.0.0.0", int(sys.argv[1])))
s.listen()
print(s.getsockname()[1], flush=True)
sys.stdin.read()'
# found PACKAGE COMMAND…: the port that a package finds.
found() { local package=$1; shift; "$@" node "$APPS/free_port.mjs" "$package" "$taken_port"; }
# A package finds a port, and another one than that.
finds_another() {
    local port; port=$(found "$@")
    [[ $port =~ ^[0-9]+$ ]] && [ "$port" != "$taken_port" ] || fail "\`$*\` finds \"$port\" where $taken_port is in use"
}
try() {
    local package taken_port holder own_holder
    ln -s "$APPS_HOME/node/node_modules" node_modules
    mkfifo end; exec 9<>end
    python3 -c "$listener" 0 <end >taken &
    holder=$!
    wait_for 10 test -s taken || fail "the host's program does not listen"
    taken_port=$(cat taken)
    for package in "${packages[@]}"; do
        finds_another "$package"
        expect "$taken_port" found "$package" "$AGENTFS_BIN" -q wrap --app "$name" --instance "$instance" --
    done
    wrap python3 -c "$listener; s.accept()" "$taken_port"
    own_holder=$(cat wrap.pid)
    wait_for 20 grep -q "$taken_port" log || fail "the instance's program does not listen: $(cat log)"
    for package in "${packages[@]}"; do
        finds_another "$package" inside
    done
    kill "$holder" "$own_holder"
}

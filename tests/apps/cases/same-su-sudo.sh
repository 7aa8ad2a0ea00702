program="su, sudo, set-uid programs"
what="su -c, sudo -u, a set-uid copy of id; as without agentfs"
version() { [ "$(id -u)" = 0 ] && sudo --version | head -n 1; }
both() {
    local plain wrapped
    plain=$("$@" 2>&1; echo "status $?")
    wrapped=$(agentfs -q wrap --app "$name" -- "$@" 2>&1; echo "status $?")
    [ "$plain" = "$wrapped" ] || fail "\`$*\`: \"$wrapped\", without agentfs \"$plain\""
    echo "same: $* -> $plain"
}
try() {
    chmod 755 .
    both su nobody -s /bin/sh -c 'id -un; exit 3'
    both sudo -n -u nobody id
    both sudo -n sh -c 'echo $HOME; exit 4'
    both setpriv --reuid=nobody --clear-groups id -u
    cp /usr/bin/id id; chown nobody id; chmod 4755 id
    both ./id -u
    both setpriv --reuid=daemon --clear-groups ./id -u
    both su nobody -s /bin/sh -c 'cd /; echo $USER'
}

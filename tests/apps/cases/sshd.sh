program="sshd"
what="port 2222, public key of its own; ssh runs a command; ssh -L"
port=2222 http=no
version() { ssh -V 2>&1 | cut -d, -f1; }
setup() {
    mkdir -p /run/sshd; chmod 755 .
    ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f user; cp user.pub keys; echo "$own" >own
    printf 'Port 2222\nHostKey %s/host\nAuthorizedKeysFile %s/keys\nPidFile %s/pid\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n' "$folder" "$folder" "$folder" >config
}
start() { wrap /usr/sbin/sshd -D -e -f "$folder/config"; }
client="ssh -F none -q -p 2222 -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes"
ready() { inside nc -z localhost 2222; }
check() {
    expect "$own" inside $client -i user localhost cat "$folder/own"
    expect "127.0.0.1" inside $client -i user localhost 'echo $SSH_CONNECTION'
    # A forward opened by the client inside: its listener belongs to the instance too.
    printf '#!/bin/sh\n%s -i user -N -L 7000:localhost:2222 localhost & p=$!\nfor i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do nc -z localhost 7000 && break; sleep 0.2; done\n%s -i user -p 7000 localhost cat %s/own\nkill $p\n' "$client" "${client/-p 2222/}" "$folder" >forward
    chmod +x forward
    expect "$own" inside ./forward
}

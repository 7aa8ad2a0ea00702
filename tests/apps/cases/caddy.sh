program="Caddy"
what="caddy run, ports 80 and 2019 (its admin API)"
port=80
version() { caddy version; }
setup() { printf ':80\nrespond "%s peer={remote_host}"\n' "$own" >Caddyfile; }
start() { HOME=$folder wrap caddy run; }
check() {
    expect "peer=127.0.0.1" inside curl -s 127.0.0.1
    expect "$own" inside curl -s localhost:2019/config/
    sed -i 's/peer=/changed=/' Caddyfile
    inside env HOME="$folder" caddy reload >reload 2>&1 || fail "caddy reload: $(tail -n 1 reload)"
    expect "changed=" inside curl -s 127.0.0.1
}

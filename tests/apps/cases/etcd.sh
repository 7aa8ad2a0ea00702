program="etcd"
what="etcd, ports 2379 and 2380; etcdctl; the JSON gateway by name"
port=2379
http=no
version() { etcd --version | head -n 1 | cut -d' ' -f3; }
start() { wrap etcd --name "$instance" --data-dir "$folder/data"; }
ready() { inside curl -sf --max-time 5 http://localhost:2379/health | grep -q true; }
check() {
    expect OK inside env ETCDCTL_API=3 etcdctl put own "$own"
    expect "$own" inside env ETCDCTL_API=3 etcdctl get own
    expect "$(printf %s "$own" | base64)" by_name "2379.$instance.$name.localhost" /v3/kv/range -d "{\"key\": \"$(printf own | base64)\"}"
}

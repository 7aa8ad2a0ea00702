program="Redis replication and Sentinel"
what="6379, replica 6380, Sentinel 26379; the master is killed, Sentinel promotes the replica"
port=6379 http=no
version() { redis-server --version | grep -o 'v=[0-9.]*'; }
setup() {
    mkdir m r
    printf 'port 26379\ndir %s\nsentinel monitor own 127.0.0.1 6379 1\nsentinel down-after-milliseconds own 1500\nsentinel failover-timeout own 5000\n' "$folder" >sentinel.conf
    cat >run <<END
#!/bin/bash
redis-server --dir $folder/m & echo \$! >m.pid
redis-server --port 6380 --dir $folder/r --replicaof 127.0.0.1 6379 &
redis-server $folder/sentinel.conf --sentinel &
wait -n; wait
END
    chmod +x run
}
start() { wrap ./run; }
ready() { inside redis-cli -p 6380 info replication | grep -q master_link_status:up && inside redis-cli -p 26379 ping | grep -q PONG; }
check() {
    expect OK inside redis-cli set own "$own"
    replicated() { inside redis-cli -p 6380 get own | grep -q "$own"; }
    wait_for 10 replicated || fail "the replica does not have the value"
    seen() { inside redis-cli -p 26379 sentinel replicas own | grep -q 6380; }
    wait_for 15 seen || fail "Sentinel does not know the replica"
    kill -9 "$(cat m.pid)"
    promoted() { inside redis-cli -p 26379 sentinel get-master-addr-by-name own | grep -q 6380; }
    wait_for 25 promoted || fail "Sentinel did not promote the replica: $(inside redis-cli -p 26379 sentinel get-master-addr-by-name own)"
    expect OK inside redis-cli -p 6380 set own "$own 2"
}

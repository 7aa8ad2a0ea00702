program="PostgreSQL"
what="user postgres with a home of its own: initdb, port 5432, psql, pgbench with 8 clients"
port=5432 http=no user=postgres
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
version() { "$bin/postgres" --version; }
setup() { as "$bin/initdb" -D data -A trust -N >initdb.log 2>&1 || fail "initdb: $(tail -n 1 initdb.log)"; }
start() { wrap "$bin/postgres" -D "$folder/data" -k "$folder"; }
ready() { inside "$bin/pg_isready" -h localhost; }
check() {
    expect "SELECT 1" inside psql -h localhost -U postgres -c "create table own as select '$own'::text as t"
    expect "$own" inside psql -h localhost -U postgres -Atc 'select t from own'
    expect "127.0.0.1" inside psql -h 127.0.0.1 -U postgres -Atc 'select inet_client_addr()'
    expect "done in" inside "$bin/pgbench" -h localhost -U postgres -i -q postgres
    expect "number of failed transactions: 0" inside "$bin/pgbench" -h localhost -U postgres -S -c 8 -j 2 -T 3 postgres
    expect "$own" inside psql -h localhost -U postgres -Atc 'set max_parallel_workers_per_gather=2; set force_parallel_mode=on; select t from own'
}

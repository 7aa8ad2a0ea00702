program="PostgreSQL, started by root"
what="root: wrap su postgres -c postgres, port 5432; psql from root's exec"
port=5432 http=no
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
version() { [ "$(id -u)" = 0 ] && "$bin/postgres" --version; }
setup() { chown postgres .; chmod 755 .; setpriv --reuid=postgres --regid=postgres --init-groups "$bin/initdb" -D data -A trust -N >initdb.log 2>&1 || fail "initdb: $(tail -n 1 initdb.log)"; }
start() { wrap su postgres -c "$bin/postgres -D $folder/data -k $folder"; }
ready() { inside "$bin/pg_isready" -h localhost; }
check() {
    expect "SELECT 1" inside psql -h localhost -U postgres -c "create table own as select '$own'::text as t"
    expect "$own" inside su postgres -c "psql -h localhost -Atc 'select t from own'"
    expect "number of failed transactions: 0" inside sh -c "$bin/pgbench -h localhost -U postgres -i -q postgres && $bin/pgbench -h localhost -U postgres -S -c 8 -j 2 -T 3 postgres"
}

program="MariaDB"
what="port 3306, datadir of its own, mariadb over TCP"
port=3306 http=no patience=60
version() { mariadbd --version | grep -o 'Ver [^ ]*'; }
setup() { chown mysql .; chmod 755 .; mariadb-install-db --no-defaults --user=mysql --datadir="$folder/data" --auth-root-authentication-method=normal --skip-test-db >install.log 2>&1 || fail "mariadb-install-db: $(tail -n 2 install.log)"; }
start() { wrap mariadbd --no-defaults --user=mysql --datadir="$folder/data" --socket="$folder/socket" --pid-file="$folder/pid" --innodb-buffer-pool-size=16M; }
sql() { inside mariadb --no-defaults --protocol=tcp -h 127.0.0.1 -u root -N -e "$1"; }
ready() { sql 'select 1'; }
check() {
    sql "create database own; create table own.own (t text); insert into own.own values ('$own')"
    expect "$own" sql 'select t from own.own'
    expect "localhost" sql 'select user()'
}

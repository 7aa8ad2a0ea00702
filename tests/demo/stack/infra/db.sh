#!/bin/sh
# PostgreSQL with the data of this checkout. It does not run as root.
data=$(cd "$(dirname "$0")/.." && pwd)/.data/${DATA:-own}/db
set -- "$PG_BIN/postgres" -D "$data" -k "$data" -p "$DB_PORT"
if [ "$(id -u)" = 0 ]; then
    set -- setpriv --reuid=postgres --regid=postgres --init-groups "$@"
fi
exec "$@"

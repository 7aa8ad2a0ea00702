# The row of agentfs for ../shared/bench/bench.sh (PROXIES=benches/router): the real daemon, its routes
# made by `agentfs route`. The binary is $AGENTFS_BIN, else target/release/agentfs of this repository,
# which the bench is started from.
LABEL="agentfs (uds)"; MAXTHREADS=8; TLS=1; H2C=1
environment() {
  binary=${AGENTFS_BIN:-${OLDPWD:-$PWD}/target/release/agentfs}
  [ -x "$binary" ] || binary=$(command -v agentfs) || { echo "no agentfs: build it with cargo build --release, or set AGENTFS_BIN" >&2; exit 1; }
  export AGENTFS_HOME=$RUN/home AGENTFS_ROUTER=127.0.0.1:$PORT AGENTFS_ROUTER_TLS=127.0.0.1:$TLSPORT
  export AGENTFS_ROUTER_THREADS=$THREADS AGENTFS_LOG=error
}
run() {
  environment
  # A home of its own each time: TLS on, with the certificate that the other rows use.
  rm -rf "$AGENTFS_HOME"; mkdir -p -m 700 "$AGENTFS_HOME/tls"
  printf '{"certificate":"%s","key":"%s"}\n' "$TLSDIR/cert.pem" "$TLSDIR/key.pem" > "$AGENTFS_HOME/tls/enabled"
  exec "$binary" daemon run
}
post() {
  environment
  for pair in app:$UDS_APP ws:$UDS_WS fault:$UDS_FAULT stale:$UDS_STALE missing:$UDS_MISSING; do
    "$binary" route "${pair%%:*}.localhost" "${pair#*:}" || exit 1
  done
}

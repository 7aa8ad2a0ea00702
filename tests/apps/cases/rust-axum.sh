program="Rust axum (hyper, tokio)"
what="127.0.0.1:3000"
port=3000
version() { [ -x "$APPS_HOME/rust/release/own" ] && awk '/^name = "axum"$/ { getline; print "axum", $3 }' "$APPS_HOME/rust/Cargo.lock" | tr -d '"'; }
setup() { echo "$own" >own; }
start() { wrap "$APPS_HOME/rust/release/own"; }
check() { expect "peer=127.0.0.1" inside curl -s 127.0.0.1:3000; }

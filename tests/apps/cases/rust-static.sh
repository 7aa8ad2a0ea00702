program="Rust axum, static"
what="127.0.0.1:3000, built with \`-C target-feature=+crt-static\`"
port=3000
static=$(ls "$APPS_HOME"/rust-static/*/release/own 2>/dev/null | head -n 1)
version() { [ -n "$static" ] && awk '/^name = "axum"$/ { getline; print "axum", $3 }' "$APPS_HOME/rust/Cargo.lock" | tr -d '"'; }
setup() { echo "$own" >own; }
start() { wrap "$static"; }
check() { expect "peer=127.0.0.1" inside curl -s 127.0.0.1:3000; }

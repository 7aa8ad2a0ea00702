program="npm ci, pip install, cargo build"
what="the same files as without agentfs"
version() { echo "npm $(npm --version), pip $("$python/pip" --version | cut -d' ' -f2), $(cargo --version)"; }
patience=120
try() {
    # The same files, whatever their order and times.
    files() { (cd "$1" && find . -type f ! -name '*.pyc' ! -path '*/.package-lock.json' -print0 | sort -z | xargs -0 sha256sum | sha256sum); }
    mkdir n1 n2; echo '{"name":"x","version":"1.0.0","dependencies":{"express":"*"}}' >n1/package.json
    (cd n1 && npm install --package-lock-only --no-audit --no-fund >/dev/null 2>&1) || fail "npm install"
    cp n1/package*.json n2/
    (cd n1 && npm ci --no-audit --no-fund >/dev/null 2>&1) || fail "npm ci"
    (cd n2 && agentfs -q wrap --app "$name" -- npm ci --no-audit --no-fund >log 2>&1; s=$?; tail -n 3 log; rm log; exit $s) || fail "npm ci under wrap"
    [ "$(files n1/node_modules)" = "$(files n2/node_modules)" ] || fail "npm ci gives other files"
    "$python/pip" install -q --no-compile --target p1 flask >/dev/null 2>&1 || fail "pip install"
    agentfs -q wrap --app "$name" -- "$python/pip" install -q --no-compile --target p2 flask 2>&1 | tail -n 3
    [ "$(files p1)" = "$(files p2)" ] || fail "pip install gives other files"
    mkdir c; printf '[package]\nname="c"\nversion="0.1.0"\nedition="2021"\n[dependencies]\nitoa="1"\n[workspace]\n' >c/Cargo.toml; mkdir c/src; echo 'fn main() { println!("{}", itoa::Buffer::new().format(42)) }' >c/src/main.rs
    (cd c && CARGO_TARGET_DIR="$folder/t" cargo build -q 2>&1 && cp "$folder/t/debug/c" ../c1 && rm -rf "$folder/t" &&
        CARGO_TARGET_DIR="$folder/t" "$AGENTFS_BIN" -q wrap --app "$name" -- cargo build -q 2>&1 && cp "$folder/t/debug/c" ../c2) || fail "cargo build"
    cmp c1 c2 || fail "cargo build gives another file"
}

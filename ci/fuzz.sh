#!/usr/bin/env bash
# Builds the fuzz targets (fuzz/) and runs each for some seconds.
#   ci/fuzz.sh                     all of them, 5 s each; AGENTFS_FUZZ_SECONDS says another time
#   ci/fuzz.sh TARGET [ARGUMENTS]  one of them, with arguments for libFuzzer (-runs=1 FILE runs an input again)
# Needs Rust and a C++ compiler (libFuzzer is built from source), not cargo-fuzz. With a nightly toolchain
# AddressSanitizer watches too; without one (it needs unstable flags) the targets run with the toolchain of the
# project, and their own assertions have to find everything. What a run found new goes into the target folder;
# seeds that are worth keeping are in fuzz/seeds/TARGET.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
seconds=${AGENTFS_FUZZ_SECONDS:-5}

# What cargo-fuzz passes: coverage counters, tables of comparisons, no merging of code.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
cargo=(cargo)
if cargo +nightly --version >/dev/null 2>&1; then
    cargo=(cargo +nightly)
    flags="$flags -Zsanitizer=address"
    echo "== fuzz: $("${cargo[@]}" --version), with AddressSanitizer"
else
    echo "== fuzz: no nightly toolchain found (rustup toolchain install nightly): running without AddressSanitizer"
fi

cargo fmt --manifest-path fuzz/Cargo.toml --check
# With --target, the flags are not for build scripts.
RUSTFLAGS=$(echo "$flags" | tr -s '\n ' '  ') "${cargo[@]}" build --locked --quiet --release \
    --manifest-path fuzz/Cargo.toml --target "$host" --target-dir "$target"

# Runs one target; what it found stays in the corpus below the target folder, for the next run.
run() {
    local name=$1 corpus=$target/corpus/$1 seeds=()
    shift
    mkdir -p "$corpus" "$target/findings"
    if [ -d "fuzz/seeds/$name" ]; then seeds=("fuzz/seeds/$name"); fi
    "$target/$host/release/$name" -artifact_prefix="$target/findings/$name-" -timeout=10 -rss_limit_mb=1024 \
        "$@" "$corpus" "${seeds[@]}"
}

if [ $# -gt 0 ]; then
    run "$@"
    exit
fi

failed=()
for source in fuzz/fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    log=$target/$name.log
    if run "$name" -max_total_time="$seconds" >"$log" 2>&1; then
        echo "fuzz: $name: $(tail -n 1 "$log")"
    else
        tail -n 40 "$log"
        echo "fuzz: $name failed; again: ci/fuzz.sh $name -runs=1 $target/findings/$name-…"
        failed+=("$name")
    fi
done
[ ${#failed[@]} = 0 ] || { echo "fuzz: failed: ${failed[*]}"; exit 1; }

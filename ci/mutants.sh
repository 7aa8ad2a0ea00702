#!/usr/bin/env bash
# Mutation testing: changes one operator, condition or result at a time in the parts that decide (pure code), and runs
# the unit tests of that package. A change that no test notices is a survivor: a test is missing, or the change
# makes no difference. The latter are in ci/mutants.txt, with the reason.
#   ci/mutants.sh                  all parts, in the order below (hours)
#   ci/mutants.sh PART...          these parts
#   ci/mutants.sh --diff BASE      only the lines of these parts that changed since the commit BASE; stops after 10 minutes
# Prints the figures of each part. Fails if a change survived that ci/mutants.txt does not list. The tree is copied
# and built below target/mutants and removed again; the lists of cargo-mutants stay in target/mutants.out/PART.
# AGENTFS_MUTANTS_ARGS has further arguments for cargo-mutants (`--shard 0/4`).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Each part: package, what to test of it (Cargo's words), files. Tests whose names match the last word run.
parts=(naming library table message wire registry)
declare -A package=(
    [naming]=agentfs [library]=agentfs-interpose [table]=agentfs-router [message]=agentfs-router
    [wire]=agentfs-wire [registry]=agentfs-collector
)
declare -A target=(
    [naming]=--bins [library]=--lib [table]=--lib [message]=--lib [wire]=--lib [registry]=--lib
)
declare -A files=(
    [naming]=cli/src/naming.rs
    [library]='interpose/src/names.rs interpose/src/rawaddr.rs interpose/src/header.rs interpose/src/hints.rs'
    [table]='router/src/table.rs router/src/upstream/retry.rs router/src/upstream/load.rs router/src/upstream/target.rs'
    [message]='router/src/message/*.rs'
    [wire]='wire/src/**/*.rs'
    [registry]='collector/src/registry/*.rs'
)
declare -A tests=(
    [naming]=naming [library]='' [table]='' [message]=message [wire]='' [registry]=registry
)
# Seconds that --diff may take.
diff_limit=600
# Seconds that one run of a part's tests may take: they take 1 to 10 on an idle machine; a change can make a loop endless.
test_limit=60
# A seventh of the seeds of the registry's storm: a run takes seconds instead of half a minute.
export AGENTFS_SIM_SEEDS=${AGENTFS_SIM_SEEDS:-36}
# No debug information: it makes linking slow and the copy large.
export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0

out=$PWD/target/mutants.out work=$PWD/target/mutants/$$

fail() { printf 'ci/mutants.sh: %s\n' "$*" >&2; exit 2; }

cargo mutants --version >/dev/null 2>&1 ||
    fail 'cannot find cargo-mutants; install it with `cargo install cargo-mutants --locked` and run this again'

base='' chosen=()
case ${1:-} in
    --diff)
        [ $# = 2 ] || fail 'say which commit to compare with: --diff BASE'
        base=$2 chosen=("${parts[@]}")
        git rev-parse --verify --quiet "$base^{commit}" >/dev/null || fail "cannot find the commit $base"
        ;;
    -*) fail "unknown option $1; see the top of this file" ;;
    '') chosen=("${parts[@]}") ;;
    *)
        chosen=("$@")
        for part in "$@"; do
            [ -n "${package[$part]:-}" ] || fail "unknown part $part; parts: ${parts[*]}"
        done
        ;;
esac

trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/tmp"
if [ -n "$base" ]; then git diff "$base" -- '*.rs' >"$work/change.diff"; fi
deadline=$((SECONDS + diff_limit)) cut=no

# Runs cargo-mutants over one part. Says with 1 that its time was over.
try() {
    local part=$1 arguments=() status=0 file runner=()
    set -f # the patterns are for cargo-mutants
    for file in ${files[$part]}; do arguments+=(--file "$file"); done
    set +f
    if [ -n "$base" ]; then
        arguments+=(--in-diff "$work/change.diff")
        [ $SECONDS -lt $deadline ] || return 1
        runner=(timeout --signal=INT $((deadline - SECONDS)))
    fi
    rm -rf "${out:?}/$part"
    mkdir -p "$out/$part"
    # The build folder is shared by the parts: what they do not change is built once.
    # shellcheck disable=SC2086 — the further arguments are words
    TMPDIR=$work/tmp CARGO_TARGET_DIR=$work/build nice -n 10 "${runner[@]}" cargo mutants \
        --package "${package[$part]}" "${arguments[@]}" --cargo-arg=--locked --cargo-arg="${target[$part]}" \
        --jobs 1 --timeout "$test_limit" --build-timeout 600 --output "$out/$part" --no-times --colors never \
        ${AGENTFS_MUTANTS_ARGS:-} -- ${tests[$part]:+"${tests[$part]}"} >"$out/$part/log" 2>&1 || status=$?
    case $status in
        0 | 2 | 3) ;; # all caught; some survived; some took too long
        124) return 1 ;;
        *) tail -n 40 "$out/$part/log" >&2; fail "cargo-mutants ended with $status on $part" ;;
    esac
}

# Names without line and column: they stay right while a file grows.
nameless() { sed -E 's/^([^:]+):[0-9]+:[0-9]+: /\1: /' "$1" | sort; }
count() { if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi; }

failed=no
printf '%-10s %8s %8s %9s %11s %11s\n' part mutants caught survived equivalent 'not viable'
for part in "${chosen[@]}"; do
    try "$part" || cut=$part
    list=$out/$part/mutants.out
    [ -d "$list" ] || { [ $cut = no ] || break; continue; }
    # A line of ci/mutants.txt excuses one survivor.
    nameless "$list/missed.txt" >"$list/missed.names"
    sed -n 's/^\([^#].*\)  # .*/\1/p' ci/mutants.txt | sort | comm -12 "$list/missed.names" - >"$list/equivalent.txt"
    comm -23 "$list/missed.names" "$list/equivalent.txt" >"$list/survived.txt"
    # A change that makes a loop endless is noticed by the time limit.
    caught=$(($(count "$list/caught.txt") + $(count "$list/timeout.txt")))
    survived=$(count "$list/survived.txt") equivalent=$(count "$list/equivalent.txt")
    unviable=$(count "$list/unviable.txt")
    printf '%-10s %8d %8d %9d %11d %11d\n' "$part" $((caught + survived + equivalent + unviable)) \
        "$caught" "$survived" "$equivalent" "$unviable"
    if [ "$survived" -gt 0 ]; then failed=yes; sed 's/^/    survived: /' "$list/survived.txt"; fi
    [ $cut = no ] || break
done
if [ $cut != no ]; then
    echo "cut: the $((diff_limit / 60)) minutes are over, in the part $cut; later parts were not tried. Run it on that part alone: ci/mutants.sh $cut"
fi
[ $failed = no ]

#!/bin/bash
# What intercepted calls cost against native ones, in one run:  benches/calls/run.sh [PREFIX ...]
# PREFIX defaults to the release binary's `agentfs wrap --`. Median of ROUNDS (7) runs of each, in turn.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- "$here/../../target/release/agentfs" wrap --
rounds=${ROUNDS:-7}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O2 -o "$work/calls" "$here/calls.c"
for round in $(seq "$rounds"); do
    "$work/calls" 23517 >>"$work/native"
    "$@" "$work/calls" 23517 >>"$work/wrapped"
done
python3 - "$work" <<'P'
import statistics, sys
def read(path):
    rows = {}
    for line in open(path):
        name, value = line.rstrip('\n').split('\t')
        rows.setdefault(name, []).append(float(value))
    return {name: statistics.median(values) for name, values in rows.items()}
native, wrapped = read(sys.argv[1] + '/native'), read(sys.argv[1] + '/wrapped')
print(f'{"call":24} {"native ns":>10} {"wrapped ns":>10} {"ratio":>6} {"more ns":>8}')
for name, base in native.items():
    print(f'{name:24} {base:10.0f} {wrapped[name]:10.0f} {wrapped[name] / base:6.2f} {wrapped[name] - base:8.0f}')
P

#!/bin/bash
# What intercepted calls cost against native ones, in one run:  benches/calls/run.sh [PREFIX ...]
# PREFIX defaults to the release binary's `agentfs wrap --`. Median of ROUNDS (7) runs of each, in turn. The control is
# the native program measured twice. Below the calls: what a socket's file costs in this run dir, to the native
# bind+listen+close. Port 0 comes last: calls.c says why.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- "$here/../../target/release/agentfs" wrap --
rounds=${ROUNDS:-7}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O2 -o "$work/calls" "$here/calls.c"
run=$("$@" printenv AGENTFS_RUN)
for round in $(seq "$rounds"); do
    "$work/calls" 23517 >>"$work/native"
    "$@" "$work/calls" 23517 >>"$work/wrapped"
    "$work/calls" 23517 "$run" >>"$work/floor"
    "$work/calls" 23517 >>"$work/control"
done
for round in $(seq "$rounds"); do
    "$work/calls" 23517 zero >>"$work/native"
    "$@" "$work/calls" 23517 zero >>"$work/wrapped"
    "$work/calls" 23517 zero >>"$work/control"
done
python3 - "$work" "$(stat -f -c %T "$run")" <<'P'
import statistics, sys
work, kind = sys.argv[1:]
def read(name):
    rows = {}
    for line in open(f'{work}/{name}'):
        name, value = line.rstrip('\n').split('\t')
        rows.setdefault(name, []).append(float(value))
    return {name: statistics.median(values) for name, values in rows.items()}
native, wrapped, control, floor = (read(name) for name in ('native', 'wrapped', 'control', 'floor'))
print(f'{"call":24} {"native ns":>10} {"wrapped ns":>10} {"ratio":>6} {"more ns":>8} {"control":>8}')
for name, base in native.items():
    print(f'{name:24} {base:10.0f} {wrapped[name]:10.0f} {wrapped[name] / base:6.2f} {wrapped[name] - base:8.0f} '
          f'{control[name] / base:8.2f}')
print(f'\nwithout agentfs, a Unix socket in this run dir ({kind}):')
for name, value in floor.items():
    print(f'{name:24} {"":10} {value:10.0f} {value / native["bind+listen+close"]:6.2f}')
P

#!/usr/bin/env bash
# Runs the tests that depend on the user once more as `nobody`, after ./test has run as root. These are the end-to-end
# tests (rights of files, the broker, the hand-off, pages for other users) and the tests of the packages that look at
# users and rights. The others decide by values alone. Nothing is built: nobody uses the programs and the C fixtures
# that root has built. Says which tests were skipped.
#   ci/nobody.sh [FILTER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "$(id -u)" != 0 ]; then
    echo '== as nobody: not run, because this is not root; ./test has already run without root'
    exit
fi
as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --)
if ! "${as_nobody[@]}" test -r tests/Cargo.toml; then
    echo "== as nobody: not run, because nobody cannot read $PWD"
    exit
fi

# Package folder and kind or name of what is run.
binaries() {
    cargo test --locked --workspace --no-run --message-format=json 2>/dev/null | python3 -c '
import json, sys
WANTED = {("tests", "e2e"), ("collector", "daemon"), ("home", "agentfs_home"), ("cli", "agentfs"),
          ("handoff", "agentfs_handoff")}
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["profile"]["test"]:
        folder = message["manifest_path"].split("/")[-2]
        if (folder, message["target"]["name"]) in WANTED:
            print(folder, message["executable"])'
}

list=$(binaries)
[ "$(wc -l <<<"$list")" = 5 ] || { printf 'ci/nobody.sh: expected 5 test programs, found:\n%s\n' "$list" >&2; exit 1; }
work=$(mktemp -d /tmp/afnobody.XXXXXX)
trap 'rm -rf "$work"' EXIT
chown 65534:65534 "$work"
# Without folders of root's: a command that is looked for in one is not allowed instead of not found (execvp(3)).
path=$("${as_nobody[@]}" sh -c 'IFS=:; for folder in $PATH; do [ ! -x "$folder" ] || printf "%s:" "$folder"; done')
failed=no logs=()
while read -r folder binary; do
    log=$work/$(basename "$binary").log
    logs+=("$log")
    # As Cargo runs it: in the folder of the package. No environment of root's.
    (
        cd "$folder"
        timeout --kill-after=10 600 "${as_nobody[@]}" env -i PATH="${path%:}" HOME="$work" USER=nobody LANG="${LANG:-C.UTF-8}" \
            "$binary" --show-output "$@" </dev/null
    ) >"$log" 2>&1 || { failed=yes; sed -n '/^failures:$/,$p' "$log"; }
    echo "== as nobody: $(basename "$binary"): $(grep '^test result' "$log" || echo 'ended early')"
done <<<"$list"
tests/skipped.py "${logs[@]}"
[ $failed = no ]

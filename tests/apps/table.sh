#!/usr/bin/env bash
# Names on standard input, results.tsv as argument → docs/compatibility.md on standard output.
set -euo pipefail
cat <<'END'
# Real programs

What was run under agentfs, and what came of it. Written by `tests/apps/run.sh --table` (Linux x86-64); one file
in `tests/apps/cases/` says exactly what each line does. `tests/apps/run.sh --install` installs what is missing,
`--only REGEX` runs some of them.

A server's line is ok when **two instances run at once on the program's default port**, each answers with its own
content to a client in its localhost (`agentfs exec NAME/a -- curl localhost:PORT`) and, where it speaks HTTP,
through the router under both of its host names; the port stays free on the host; what the line mentions besides
was done in both; and after `agentfs stop` no process and no file in the run dir is left. A line of the last part
is ok when the program does what it does without agentfs.

| program | version | what was run | result | note |
|---|---|---|---|---|
END
while read -r name; do
    awk -F '\t' -v name="$name" '$2 == name {
        result = $1 == "skip" ? "not reached" : $1
        if ($1 == "skip" && $3 == "") result = "not run"
        gsub(/\|/, "\\|")
        print "| " $4 " | " $3 " | " $5 " | " result " | " $6 " |"
    }' "$1"
done
cat "$(dirname "${BASH_SOURCE[0]}")/afterword.md"

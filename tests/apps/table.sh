#!/usr/bin/env bash
# Names on standard input, results.tsv as argument → docs/compatibility.md on standard output.
set -euo pipefail
cat <<'END'
# Real programs

Real programs that were run under agentfs, with the results. `tests/apps/run.sh --table` writes the table (Linux
x86-64). Each line has a file in `tests/apps/cases/` that says exactly what is done. `tests/apps/run.sh --install`
installs what is missing; `--only REGEX` runs some of them.

The result of a server is ok if all of this holds:

- **Two instances run at once on the program's default port.**
- Each answers with its own content to a client in its localhost (`agentfs exec NAME/a -- curl localhost:PORT`). If it
  speaks HTTP, it also answers through the router under both of its host names.
- The port stays free on the host.
- Everything else in the line was done in both instances.
- After `agentfs stop` no process and no file in the run dir is left.

The result of another program (the last part of the table) is ok if it does what it does without agentfs.

| program | version | what was run | result | note |
|---|---|---|---|---|
END
while read -r name; do
    awk -F '\t' -v name="$name" '$2 == name {
        result = $1 == "skip" ? "not run" : $1
        gsub(/\|/, "\\|")
        print "| " $4 " | " $3 " | " $5 " | " result " | " $6 " |"
    }' "$1"
done
cat "$(dirname "${BASH_SOURCE[0]}")/afterword.md"

# shellcheck source=bun.sh
. "$cases/bun.sh"
program="Bun, \`--engine seccomp\`"
what="the same by the other engine"
wrap_options="--engine seccomp"

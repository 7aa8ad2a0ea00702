# shellcheck source=deno.sh
. "$cases/deno.sh"
program="Deno, \`--engine seccomp\`"
what="the same by the other engine"
wrap_options="--engine seccomp"

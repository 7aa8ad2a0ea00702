program="static, musl and 32-bit programs"
what="they run, without the library if need be; their children of the usual kind have it"
version() { gcc -dumpfullversion; }
try() {
    printf '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { puts("%s"); fflush(stdout); return system("exit 3") >> 8; }\n' "$own" >x.c
    gcc -static -o static x.c; musl-gcc -o musl x.c; musl-gcc -static -o musl-static x.c; gcc -m32 -o x32 x.c
    local each output
    for each in static musl musl-static x32; do
        [ -x "$each" ] || fail "$each could not be built"
        output=$(agentfs -q wrap --app "$name" -- "./$each" 2>&1); [ $? = 3 ] || fail "$each: wrong status"
        [ "$output" = "$own" ] || fail "$each: \"$output\""
        output=$(agentfs -q wrap --app "$name" -- sh -c "./$each; echo \$?" 2>&1)
        [ "$output" = "$own"$'\n'3 ] || fail "$each from a shell: \"$output\""
    done
    for each in static musl-static; do
        agentfs trace --app "$name" -- sh -c "./$each >/dev/null; true" >traced 2>&1
        grep -q 'served by the seccomp engine' traced || fail "trace does not say that the engine serves $each"
    done
    agentfs trace --app "$name" -- sh -c "./x32 >/dev/null; true" >traced 2>&1
    grep -q 'cannot intercept' traced || fail "trace does not say that x32 is not reached"
}

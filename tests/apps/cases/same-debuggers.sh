program="gdb, strace, ltrace-like tools"
what="gdb runs, breaks and prints; strace -f; both under wrap and around it"
version() { gdb --version | head -n 1; }
try() {
    echo 'int answer = 42; int stop(void) { return answer; } int main(void) { return stop() - 42; }' >x.c; gcc -g -o x x.c
    expect '$1 = 42' agentfs -q wrap --app "$name" -- gdb -nx -batch -ex 'break stop' -ex run -ex 'print answer' -ex continue ./x
    expect 'exited normally' agentfs -q wrap --app "$name" -- gdb -nx -batch -ex run ./x
    expect 'exited with 0' agentfs -q wrap --app "$name" -- strace -f -e trace=none ./x
    expect 'exited with 3' strace -f -e trace=none "$AGENTFS_BIN" -q wrap --app "$name" -- sh -c 'exit 3'
}

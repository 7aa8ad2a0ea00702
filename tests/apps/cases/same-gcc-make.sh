program="gcc, make"
what="a small C program by make -j4; the same file as without agentfs"
version() { gcc -dumpfullversion; }
try() {
    printf 'all: x\nx: a.o b.o\n\t$(CC) -o $@ $^\n%%.o: %%.c\n\t$(CC) -O1 -c -o $@ $<\nclean:\n\trm -f x *.o\n' >Makefile
    echo 'int b(void); int main(void) { return b(); }' >a.c; echo 'int b(void) { return 7; }' >b.c
    make -s -j4 && mv x plain && make -s clean
    agentfs -q wrap --app "$name" -- make -s -j4 || fail "make failed"
    cmp x plain || fail "the result differs"
    agentfs -q wrap --app "$name" -- ./x; [ $? = 7 ] || fail "exit status"
}

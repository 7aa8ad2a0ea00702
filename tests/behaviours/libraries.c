/* Cases on libraries that are loaded while the program runs: their calls are the program's. */
#include "kit.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#ifndef RTLD_DEEPBIND
#define RTLD_DEEPBIND 0
#endif

extern char **environ;

static const char source[] =
    "#include <netinet/in.h>\n"
    "#include <stdlib.h>\n"
    "#include <sys/socket.h>\n"
    "#include <unistd.h>\n"
    "static struct sockaddr_in local(int port) {\n"
    "    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port),\n"
    "                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};\n"
    "}\n"
    "__attribute__((constructor)) static void starts(void) {\n"
    "    const char *port = getenv(\"BIND\");\n"
    "    struct sockaddr_in address = local(port ? atoi(port) : 0);\n"
    "    if (port && bind(socket(AF_INET, SOCK_STREAM, 0), (void *)&address, sizeof address) == 0)\n"
    "        _exit(3);\n"
    "}\n"
    "int library_listens(int port) {\n"
    "    struct sockaddr_in address = local(port);\n"
    "    int fd = socket(AF_INET, SOCK_STREAM, 0);\n"
    "    return bind(fd, (void *)&address, sizeof address) || listen(fd, 8) ? -1 : fd;\n"
    "}\n"
    "int library_connects(int port) {\n"
    "    struct sockaddr_in address = local(port);\n"
    "    int fd = socket(AF_INET, SOCK_STREAM, 0);\n"
    "    return connect(fd, (void *)&address, sizeof address) ? -1 : fd;\n"
    "}\n";

/* Compiles a library; its path. */
static const char *compiled(char *folder) {
    static char path[256], file[256];
    TRUE(mkdtemp(folder), "a folder");
    snprintf(path, sizeof path, "%s/library.so", folder);
    snprintf(file, sizeof file, "%s/library.c", folder);
    int fd = OK(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    EQUAL(write(fd, source, sizeof source - 1), (long)sizeof source - 1, "bytes of the source");
    close(fd);
    const char *compiler = getenv("CC") ? getenv("CC") : "cc";
    char *arguments[] = {(char *)compiler, "-shared", "-fPIC", "-o", path, file, NULL};
    pid_t pid;
    EQUAL(posix_spawnp(&pid, compiler, NULL, NULL, arguments, environ), 0, "the compiler");
    ended_well(pid, "the compiler");
    return path;
}

static void works(int flags) {
    char folder[] = "/tmp/behaviours-XXXXXX", command[64];
    void *library = dlopen(compiled(folder), flags);
    if (!library)
        BROKEN("dlopen: %s", dlerror());
    snprintf(command, sizeof command, "rm -r %s", folder);
    EQUAL(system(command), 0, "removal of the library");
    int (*listens)(int) = (int (*)(int))dlsym(library, "library_listens");
    int (*connects)(int) = (int (*)(int))dlsym(library, "library_connects");
    TRUE(listens && connects, "functions of the library");
    int port = free_port(), listener = OK(listens(port));
    name_is(listener, port);
    served(listener, port);
    FAILS(EADDRINUSE, listens(port));
    int client = OK(connects(port)), accepted = OK(accept(listener, NULL, NULL));
    peer_is(client, port);
    conversation(client, accepted);
    port = free_port();
    listener = listening(port);
    client = OK(connects(port));
    accepted = OK(accept(listener, NULL, NULL));
    conversation(client, accepted);
}

CASE(c_library) { works(RTLD_NOW); }

/* RTLD_DEEPBIND, with which PHP loads its extensions. */
CASE(c_library_deepbind) { works(RTLD_LAZY | RTLD_DEEPBIND); }

CASE(c_library_missing) {
    TRUE(!dlopen("/no/such/library.so", RTLD_NOW | RTLD_DEEPBIND), "no library");
    TRUE(strstr(dlerror(), "/no/such/library.so"), "what dlerror says");
    TRUE(dlopen(NULL, RTLD_NOW), "the program itself");
}

/* Functions that are looked up in libc itself: ctypes.CDLL('libc.so.6'), JNA, LuaJIT's ffi. */
CASE(c_library_libc) {
    void *libc = dlopen("libc.so.6", RTLD_NOW);
    TRUE(libc, "libc");
    int port = free_port(), listener = listening(port), client = tcp();
    struct sockaddr_in address = local4(port);
    int (*connects)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(libc, "connect");
    int (*binds)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(libc, "bind");
    TRUE(connects && binds, "functions of libc");
    OK(connects(client, (struct sockaddr *)&address, sizeof address));
    int accepted = OK(accept(listener, NULL, NULL));
    conversation(client, accepted);
    FAILS(EADDRINUSE, binds(tcp(), (struct sockaddr *)&address, sizeof address));
    TRUE(dlsym(libc, "getpid") == (void *)getpid || ((pid_t(*)(void))dlsym(libc, "getpid"))() == getpid(), "getpid");
    TRUE(dlsym(libc, "environ"), "environ");
    TRUE(dlsym(libc, "gnu_get_libc_version"), "a function of libc alone");
    TRUE(!dlsym(libc, "no_such_function"), "no such function");
    EQUAL(dlclose(libc), 0, "dlclose");
    conversation(client, accepted);
}

/* A constructor of a library that the program is linked with: its bind meets the listener of another process. */
CASE(c_library_constructor) {
    char folder[] = "/tmp/behaviours-XXXXXX", command[1024], port[12];
    const char *compiler = getenv("CC") ? getenv("CC") : "cc";
    compiled(folder);
    snprintf(command, sizeof command,
             "cd %s && echo 'int library_listens(int); int main(int n, char **a) { (void)a; return n > 1 ? "
             "library_listens(0) : 0; }' >main.c && %s -o main main.c ./library.so && ./main",
             folder, compiler);
    EQUAL(system(command), 0, "the program");
    int free = free_port(), listener = listening(free_port());
    snprintf(port, sizeof port, "%d", free);
    OK(setenv("BIND", port, 1));
    snprintf(command, sizeof command, "cd %s && ./main", folder);
    EQUAL(system(command), 3 << 8, "the constructor's bind to a free port");
    snprintf(port, sizeof port, "%d", own_port(listener));
    OK(setenv("BIND", port, 1));
    int status = system(command);
    snprintf(command, sizeof command, "rm -r %s", folder);
    EQUAL(system(command), 0, "removal of the program");
    EQUAL(status, 0, "the constructor's bind to a port in use");
}

#ifdef __aarch64__
static const char first_version[] = "GLIBC_2.17";
#else
static const char first_version[] = "GLIBC_2.2.5";
#endif

/* A function that is looked up with its version is the program's, too. */
CASE(c_dlvsym) {
    void *places[] = {RTLD_DEFAULT, RTLD_NEXT, dlopen("libc.so.6", RTLD_NOW)};
    for (size_t place = 0; place < sizeof places / sizeof *places; place++) {
        int (*binds)(int, const struct sockaddr *, socklen_t) =
            (int (*)(int, const struct sockaddr *, socklen_t))dlvsym(places[place], "bind", first_version);
        TRUE(binds, "bind");
        int port = free_port(), listener = tcp();
        struct sockaddr_in address = local4(port);
        OK(binds(listener, (struct sockaddr *)&address, sizeof address));
        OK(listen(listener, 8));
        FAILS(EADDRINUSE, bind(tcp(), (struct sockaddr *)&address, sizeof address));
        served(listener, port);
        TRUE(((pid_t(*)(void))dlvsym(places[place], "getpid", first_version))() == getpid(), "getpid");
    }
    TRUE(!dlvsym(RTLD_DEFAULT, "getpid", "NO_SUCH_VERSION"), "no such version");
}

/* What the C cases share: the list of cases, free ports, sockets, expectations, children.
 *
 * A case is a plain TCP program, run in a process of its own. What it expects and does not get ends the
 * process with a line `WHY: ...` and status 1, in a child as in the case itself. */
#ifndef KIT_H
#define KIT_H
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef __GLIBC__
/* What musl leaves out. */
#include <sys/syscall.h>
#define strerrorname_np strerror
#define sigabbrev_np strsignal
#define dlvsym(library, name, version) dlsym(library, name)
static inline int execveat(int folder, const char *path, char *const *arguments, char *const *environment, int flags) {
    return (int)syscall(SYS_execveat, folder, path, arguments, environment, flags);
}
static inline int close_range(unsigned first, unsigned last, int flags) {
    return (int)syscall(SYS_close_range, first, last, flags);
}
#endif

struct entry {
    const char *name;
    void (*run)(void);
};

/* The linker gathers what these macros define between __start_cases and __stop_cases. */
#define CASE(function)                                                                               \
    static void function(void);                                                                      \
    static const struct entry entry_##function __attribute__((used, section("cases"), aligned(16))) = \
        {#function, function};                                                                       \
    static void function(void)

/* What cases execute: `ccases --program NAME ARGUMENTS`. */
struct program {
    const char *name;
    int (*run)(char **arguments);
};
#define PROGRAM(function)                                                                                   \
    static int function(char **arguments);                                                                  \
    static const struct program program_##function __attribute__((used, section("programs"), aligned(16))) = \
        {#function, function};                                                                              \
    static int function(char **arguments)

_Noreturn void broken(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void skip(const char *why);

#define BROKEN(...) broken(__FILE__, __LINE__, __VA_ARGS__)
#define TRUE(condition, what)                    \
    do {                                         \
        if (!(condition))                        \
            BROKEN("%s (%s)", what, #condition); \
    } while (0)
#define EQUAL(got, want, what)                                       \
    do {                                                             \
        long long got_ = (got), want_ = (want);                      \
        if (got_ != want_)                                           \
            BROKEN("%s: got %lld, want %lld", what, got_, want_);    \
    } while (0)
/* The call succeeds; its result. */
#define OK(call)                                                 \
    ({                                                           \
        long result_ = (call);                                   \
        if (result_ < 0)                                         \
            BROKEN("%s: %s", #call, strerrorname_np(errno));     \
        (int)result_;                                            \
    })
/* The call fails with this errno. */
#define FAILS(want, call)                                                                             \
    do {                                                                                              \
        errno = 0;                                                                                    \
        long result_ = (call);                                                                        \
        int errno_ = errno;                                                                           \
        if (result_ >= 0)                                                                             \
            BROKEN("%s: got success (%ld), want %s", #call, result_, strerrorname_np(want));          \
        if (errno_ != (want))                                                                         \
            BROKEN("%s: got %s, want %s", #call, strerrorname_np(errno_), strerrorname_np(want));     \
    } while (0)

/* 127.0.0.1 and ::1 */
struct sockaddr_in local4(int port);
struct sockaddr_in any4(int port);
struct sockaddr_in6 local6(int port);
void need_v6(void);

/* A port that nobody uses, found without a socket. */
int free_port(void);

int tcp(void);
int bound(int port);
int listening(int port);
/* A connected client, or -1 and errno. */
int connecting(int port);
int connected(int port);
struct trio {
    int port, listener, client, accepted;
};
struct trio trio(void);
void trio_close(struct trio *trio);

/* A client of `port` is accepted by `listener`, both are heard, and the names are right. */
void served(int listener, int port);
void conversation(int client, int accepted);
/* A client whose bytes come back. */
void echoed(int port);
/* Serves one connection of a listener until its end. */
void echo_once(int listener);
/* The port refuses, and can be bound without SO_REUSEADDR and served. */
void free_again(int port);
void receive(int fd, void *buffer, size_t count);
void readable(int fd, const char *what);
void reset_on_close(int fd);

/* The names of a v4 socket. */
void name_is(int fd, int port);
void peer_is(int fd, int port);
int own_port(int fd);
/* The socket is fresh: no name, not listening. */
void is_fresh(int fd);
int int_option(int fd, int level, int name);

void ended_well(pid_t pid, const char *what);
double now(void);
#endif

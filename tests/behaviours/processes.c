/* Cases on processes: listeners kept over exec in its several forms, daemons, children that close everything. */
#include "kit.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

/* An inherited listener: `inherited FD PORT`. Its names and options, and one client. */
PROGRAM(inherited) {
    int listener = atoi(arguments[0]), port = atoi(arguments[1]);
    name_is(listener, port);
    EQUAL(int_option(listener, SOL_SOCKET, SO_DOMAIN), AF_INET, "SO_DOMAIN");
    EQUAL(int_option(listener, SOL_SOCKET, SO_ACCEPTCONN), 1, "SO_ACCEPTCONN");
    EQUAL(int_option(listener, IPPROTO_TCP, TCP_NODELAY), 0, "TCP_NODELAY of the listener");
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    int accepted = OK(accept(listener, (struct sockaddr *)&peer, &length)), one = 1;
    EQUAL(length, sizeof(struct sockaddr_in), "length of accept's peer");
    EQUAL(peer.ss_family, AF_INET, "family of accept's peer");
    name_is(accepted, port);
    peer_is(accepted, ntohs(((struct sockaddr_in *)&peer)->sin_port));
    OK(setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    EQUAL(int_option(accepted, IPPROTO_TCP, TCP_NODELAY), 1, "TCP_NODELAY of the connection");
    char buffer[64];
    ssize_t got;
    while ((got = read(accepted, buffer, sizeof buffer)) > 0)
        EQUAL(write(accepted, buffer, (size_t)got), got, "bytes echoed");
    return 0;
}

/* The command line of `inherited`. */
struct line {
    char fd[12], port[12];
    char *arguments[6];
};

static void line_of(struct line *line, int listener, int port) {
    snprintf(line->fd, sizeof line->fd, "%d", listener);
    snprintf(line->port, sizeof line->port, "%d", port);
    char *arguments[] = {"ccases", "--program", "inherited", line->fd, line->port, NULL};
    memcpy(line->arguments, arguments, sizeof arguments);
}

#define SELF "/proc/self/exe"

static void serves_after(pid_t pid, int listener, int port) {
    OK(close(listener));
    echoed(port);
    ended_well(pid, "the program with the inherited listener");
    FAILS(ECONNREFUSED, connecting(port));
}

CASE(c_fork_exec) {
    int port = free_port(), listener = listening(port);
    struct line line;
    line_of(&line, listener, port);
    pid_t pid = OK(fork());
    if (pid == 0) {
        execv(SELF, line.arguments);
        BROKEN("execv: %s", strerrorname_np(errno));
    }
    serves_after(pid, listener, port);
}

CASE(c_vfork_exec) {
    for (int own_environment = 0; own_environment < 2; own_environment++) {
        int port = free_port(), listener = listening(port);
        struct line line;
        line_of(&line, listener, port);
        char *environment[] = {"OWN=yes", NULL}, **given = own_environment ? environment : environ;
        pid_t pid = OK(vfork());
        if (pid == 0) {
            execve(SELF, line.arguments, given);
            _exit(1);
        }
        serves_after(pid, listener, port);
    }
}

CASE(c_posix_spawn) {
    for (int searched = 0; searched < 2; searched++) {
        int port = free_port(), listener = listening(port);
        struct line line;
        pid_t pid;
        line_of(&line, listener, port);
        EQUAL((searched ? posix_spawnp : posix_spawn)(&pid, SELF, NULL, NULL, line.arguments, environ), 0, "spawn");
        serves_after(pid, listener, port);
    }
}

CASE(c_double_fork_daemon) {
    int port = free_port(), ready[2];
    OK(pipe(ready));
    pid_t binder = OK(fork());
    if (binder == 0) {
        int listener = listening(port);
        pid_t child = OK(fork());
        if (child != 0)
            _exit(0);
        OK(setsid());
        if (OK(fork()) != 0)
            _exit(0);
        alarm(10); /* It has a session of its own, which nobody else ends. */
        OK(chdir("/"));
        name_is(listener, port);
        EQUAL(write(ready[1], "x", 1), 1, "readiness");
        for (int client = 0; client < 3; client++)
            echo_once(listener);
        _exit(0);
    }
    ended_well(binder, "the binder");
    char byte;
    close(ready[1]);
    receive(ready[0], &byte, 1);
    for (int client = 0; client < 3; client++)
        echoed(port);
    readable(ready[0], "the daemon's end");
    EQUAL(read(ready[0], &byte, 1), 0, "bytes after the daemon's end");
    FAILS(ECONNREFUSED, connecting(port));
}

CASE(c_fork_child_closes_and_execs) {
    int port = free_port(), listener = listening(port);
    EQUAL(system("exit 3"), 3 << 8, "status of system");
    served(listener, port);
    char line[16] = "";
    FILE *output = popen("echo from popen", "r");
    TRUE(output, "popen");
    TRUE(fgets(line, sizeof line, output), "output of popen");
    EQUAL(pclose(output), 0, "status of pclose");
    TRUE(strcmp(line, "from popen\n") == 0, "what popen read");
    served(listener, port);
    pid_t pid = OK(fork());
    if (pid == 0) {
        for (int fd = 3; fd < 1024; fd++)
            close(fd);
        execl("/bin/sh", "sh", "-c", "exit 0", NULL);
        _exit(1);
    }
    ended_well(pid, "a child that closes everything and executes");
    served(listener, port);
    if ((pid = OK(fork())) == 0) {
        OK(close_range(3, ~0U, 0));
        _exit(0);
    }
    ended_well(pid, "a child that closes everything and ends");
    served(listener, port);
    name_is(listener, port);
}

CASE(c_listen_then_exit_no_close) {
    for (int how = 0; how < 2; how++) {
        int port = free_port();
        pid_t pid = OK(fork());
        if (pid == 0) {
            (void)listening(port);
            if (how)
                _exit(0);
            exit(0);
        }
        ended_well(pid, "the listener");
        free_again(port);
    }
}

/* A client of a numeric host. */
static void reaches(const char *host, int port, const int *listeners, int count) {
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *found;
    snprintf(service, sizeof service, "%d", port);
    EQUAL(getaddrinfo(host, service, &hints, &found), 0, "getaddrinfo of a number");
    int client = OK(socket(found->ai_family, found->ai_socktype, found->ai_protocol));
    OK(connect(client, found->ai_addr, found->ai_addrlen));
    for (int which = 0; which < count; which++) {
        struct sockaddr_storage peer, own;
        socklen_t length = sizeof peer;
        int accepted = accept4(listeners[which], (struct sockaddr *)&peer, &length, 0);
        if (accepted < 0)
            continue;
        EQUAL(peer.ss_family, found->ai_family, "family of accept's peer");
        EQUAL(length, found->ai_addrlen, "length of accept's peer");
        length = sizeof own;
        OK(getsockname(accepted, (struct sockaddr *)&own, &length));
        TRUE(length == found->ai_addrlen && memcmp(&own, found->ai_addr, length) == 0, "the server's own name");
        conversation(client, accepted);
        close(accepted);
        close(client);
        freeaddrinfo(found);
        return;
    }
    BROKEN("no listener has the client of %s", host);
}

CASE(c_getaddrinfo_serve) {
    need_v6();
    int port = free_port(), listeners[8], count = 0, one = 1;
    char service[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    snprintf(service, sizeof service, "%d", port);
    EQUAL(getaddrinfo(NULL, service, &hints, &found), 0, "getaddrinfo");
    bool v4 = false, v6 = false;
    for (struct addrinfo *info = found; info && count < 8; info = info->ai_next) {
        int fd = OK(socket(info->ai_family, info->ai_socktype | SOCK_NONBLOCK, info->ai_protocol));
        OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
        if (info->ai_family == AF_INET6)
            OK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one));
        OK(bind(fd, info->ai_addr, info->ai_addrlen));
        OK(listen(fd, 5));
        v4 |= info->ai_family == AF_INET;
        v6 |= info->ai_family == AF_INET6;
        listeners[count++] = fd;
    }
    freeaddrinfo(found);
    TRUE(v4 && v6, "addresses of both families");
    reaches("127.0.0.1", port, listeners, count);
    reaches("::1", port, listeners, count);
}

/* See kit.h. */
#include "kit.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <time.h>

#define PATIENCE_MS 5000

void broken(const char *file, int line, const char *format, ...) {
    char why[400];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
    dprintf(1, "WHY: %s (%s:%d)\n", why, file, line);
    _exit(1);
}

void skip(const char *why) {
    dprintf(1, "WHY: %s\n", why);
    _exit(77);
}

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ------------------------------------------------------------------------------------------- ports */
static unsigned char used[65536];

static void read_ports(const char *table) {
    FILE *lines = fopen(table, "re");
    char line[400];
    unsigned port;
    if (!lines)
        return;
    while (fgets(line, sizeof line, lines))
        if (sscanf(line, " %*d: %*[0-9A-Fa-f]:%x", &port) == 1)
            used[port & 0xffff] = 1;
    fclose(lines);
}

static void port_range(int *first, int *last) {
    const char *slice = getenv("BEHAVIOURS_PORTS");
    if (slice && sscanf(slice, "%d-%d", first, last) == 2)
        return;
    FILE *limits = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    if (!limits || fscanf(limits, "%d", last) != 1)
        *last = 32768;
    if (limits)
        fclose(limits);
    *first = *last - 12000;
    *last -= 1;
}

int free_port(void) {
    static int first, last;
    if (!first) {
        read_ports("/proc/net/tcp");
        read_ports("/proc/net/tcp6");
        read_ports("/proc/net/udp");
        read_ports("/proc/net/udp6");
        port_range(&first, &last);
        struct timespec time;
        clock_gettime(CLOCK_REALTIME, &time);
        srandom((unsigned)getpid() ^ (unsigned)time.tv_nsec);
    }
    for (;;) {
        int port = first + (int)(random() % (last - first + 1));
        if (!used[port]) {
            used[port] = 1;
            return port;
        }
    }
}

/* ----------------------------------------------------------------------------------------- sockets */
struct sockaddr_in local4(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((in_port_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

struct sockaddr_in any4(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((in_port_t)port)};
}

struct sockaddr_in6 local6(int port) {
    return (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons((in_port_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
}

void need_v6(void) {
    FILE *interfaces = fopen("/proc/net/if_inet6", "re");
    char line[200];
    bool found = false;
    while (interfaces && fgets(line, sizeof line, interfaces))
        found |= strncmp(line, "00000000000000000000000000000001 ", 33) == 0;
    if (interfaces)
        fclose(interfaces);
    if (!found)
        skip("no ::1 here");
}

int tcp(void) { return OK(socket(AF_INET, SOCK_STREAM, 0)); }

int bound(int port) {
    struct sockaddr_in address = local4(port);
    int fd = tcp();
    OK(bind(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

int listening(int port) {
    int fd = bound(port);
    OK(listen(fd, 64));
    return fd;
}

int connecting(int port) {
    struct sockaddr_in address = local4(port);
    int fd = tcp();
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

int connected(int port) { return OK(connecting(port)); }

struct trio trio(void) {
    struct trio all = {.port = free_port()};
    all.listener = listening(all.port);
    all.client = connected(all.port);
    all.accepted = OK(accept(all.listener, NULL, NULL));
    return all;
}

void trio_close(struct trio *trio) {
    close(trio->client);
    close(trio->accepted);
    close(trio->listener);
}

void readable(int fd, const char *what) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (poll(&poll_fd, 1, PATIENCE_MS) != 1)
        BROKEN("%s: nothing to read within %d ms", what, PATIENCE_MS);
}

void receive(int fd, void *buffer, size_t count) {
    for (char *at = buffer; count;) {
        readable(fd, "bytes");
        ssize_t got = OK(read(fd, at, count));
        TRUE(got > 0, "bytes before the end of the stream");
        at += got;
        count -= (size_t)got;
    }
}

void conversation(int client, int accepted) {
    char buffer[16] = "";
    EQUAL(write(client, "question", 8), 8, "bytes that the client wrote");
    receive(accepted, buffer, 8);
    TRUE(memcmp(buffer, "question", 8) == 0, "what the server read");
    EQUAL(write(accepted, "answer", 6), 6, "bytes that the server wrote");
    receive(client, buffer, 6);
    TRUE(memcmp(buffer, "answer", 6) == 0, "what the client read");
}

void served(int listener, int port) {
    struct sockaddr_storage peer = {0};
    socklen_t length = sizeof peer;
    int client = connected(port);
    readable(listener, "the listener");
    int accepted = OK(accept(listener, (struct sockaddr *)&peer, &length));
    EQUAL(length, sizeof(struct sockaddr_in), "length of accept's peer");
    EQUAL(peer.ss_family, AF_INET, "family of accept's peer");
    EQUAL(ntohs(((struct sockaddr_in *)&peer)->sin_port), own_port(client), "port of accept's peer");
    name_is(accepted, port);
    peer_is(client, port);
    peer_is(accepted, own_port(client));
    conversation(client, accepted);
    close(client);
    close(accepted);
}

void echoed(int port) {
    char buffer[4];
    int client = connected(port);
    EQUAL(write(client, "ping", 4), 4, "bytes written");
    receive(client, buffer, 4);
    TRUE(memcmp(buffer, "ping", 4) == 0, "the echo");
    close(client);
}

void echo_once(int listener) {
    char buffer[4096];
    ssize_t got;
    int accepted = OK(accept(listener, NULL, NULL));
    while ((got = read(accepted, buffer, sizeof buffer)) > 0)
        EQUAL(write(accepted, buffer, (size_t)got), got, "bytes echoed");
    close(accepted);
}

void free_again(int port) {
    FAILS(ECONNREFUSED, connecting(port));
    int fd = listening(port);
    served(fd, port);
    close(fd);
}

void reset_on_close(int fd) {
    struct linger linger = {.l_onoff = 1};
    OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}

static int inet_name(int (*call)(int, struct sockaddr *, socklen_t *), int fd, const char *what) {
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    if (call(fd, (struct sockaddr *)&name, &length) != 0)
        BROKEN("%s: %s", what, strerrorname_np(errno));
    EQUAL(length, sizeof(struct sockaddr_in), what);
    EQUAL(name.ss_family, AF_INET, what);
    struct sockaddr_in *inet = (struct sockaddr_in *)&name;
    EQUAL(ntohl(inet->sin_addr.s_addr), INADDR_LOOPBACK, what);
    return ntohs(inet->sin_port);
}

int own_port(int fd) { return inet_name(getsockname, fd, "getsockname"); }

void name_is(int fd, int port) { EQUAL(own_port(fd), port, "port of getsockname"); }

void peer_is(int fd, int port) { EQUAL(inet_name(getpeername, fd, "getpeername"), port, "port of getpeername"); }

int int_option(int fd, int level, int name) {
    int value = -1;
    socklen_t length = sizeof value;
    OK(getsockopt(fd, level, name, &value, &length));
    EQUAL(length, sizeof value, "length of an option");
    return value;
}

void is_fresh(int fd) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    OK(getsockname(fd, (struct sockaddr *)&name, &length));
    EQUAL(name.sin_family, AF_INET, "family of a fresh socket");
    EQUAL(name.sin_port, 0, "port of a fresh socket");
    EQUAL(name.sin_addr.s_addr, 0, "address of a fresh socket");
    EQUAL(int_option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0, "SO_ACCEPTCONN of a fresh socket");
    FAILS(ENOTCONN, getpeername(fd, (struct sockaddr *)&name, &length));
}

void ended_well(pid_t pid, const char *what) {
    int status = 0;
    OK(waitpid(pid, &status, 0));
    if (WIFSIGNALED(status))
        BROKEN("%s: killed by SIG%s", what, sigabbrev_np(WTERMSIG(status)));
    EQUAL(WEXITSTATUS(status), 0, what);
}

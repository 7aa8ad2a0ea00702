/* What one intercepted call costs: nanoseconds each, median of many short rounds, printed as NAME NS.
 * Run it natively and wrapped; benches/calls/run.sh prints the ratios. The rounds are shorter than a time slice, so
 * that other programs' turns fall into few of them. With a folder as second argument it measures instead what a Unix
 * socket's file costs there, with nothing of agentfs in the way; with `zero`, only binding to port 0, which leaves
 * thousands of dead names behind: on a file system that minds them the other rows would pay. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
static void die(const char *what) { perror(what); exit(1); }
static struct sockaddr_in at(const char *ip, int port) {
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };
    inet_pton(AF_INET, ip, &a.sin_addr);
    return a;
}
static int tcp(void) { int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); if (s < 0) die("socket"); return s; }

static int port;
static void bind_listen_close(void) {
    int s = tcp(), one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = at("127.0.0.1", port);
    if (bind(s, (void *)&a, sizeof a)) die("bind");
    if (listen(s, 16)) die("listen");
    close(s);
}
static void bind_zero(void) {
    int s = tcp();
    struct sockaddr_in a = at("127.0.0.1", 0);
    if (bind(s, (void *)&a, sizeof a)) die("bind 0");
    close(s);
}
static int listener;
static struct sockaddr_in to;
static void connect_accept_close(void) {
    int c = tcp();
    if (connect(c, (void *)&to, sizeof to)) die("connect");
    int a = accept(listener, 0, 0);
    if (a < 0) die("accept");
    /* The client resets, so that many rounds leave no port in TIME_WAIT. */
    struct linger l = { 1, 0 };
    setsockopt(c, SOL_SOCKET, SO_LINGER, &l, sizeof l);
    close(c);
    close(a);
}
static int connected, plain, udp;
static void name_of_listener(void) { struct sockaddr_in a; socklen_t n = sizeof a; if (getsockname(listener, (void *)&a, &n)) die("getsockname"); }
static void name_of_peer(void) { struct sockaddr_in a; socklen_t n = sizeof a; if (getpeername(connected, (void *)&a, &n)) die("getpeername"); }
static void dup_close(void) { close(dup(plain)); }
static void passed_getsockopt(void) { int v; socklen_t n = sizeof v; getsockopt(udp, SOL_SOCKET, SO_RCVBUF, &v, &n); }
static void passed_setsockopt(void) { int v = 1; setsockopt(udp, SOL_SOCKET, SO_BROADCAST, &v, sizeof v); }
static void passed_getsockname(void) { struct sockaddr_in a; socklen_t n = sizeof a; getsockname(udp, (void *)&a, &n); }
static void passed_connect(void) { struct sockaddr_in a = at("127.0.0.1", 9); connect(udp, (void *)&a, sizeof a); }
static void passed_fcntl(void) { fcntl(udp, F_GETFL); }

/* What it takes to have a listener with a name in a folder, whoever does it. */
static struct sockaddr_un file = { .sun_family = AF_UNIX };
static void file_made_and_removed(void) {
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || bind(s, (void *)&file, sizeof file)) die("bind of a file");
    if (listen(s, 16)) die("listen");
    close(s);
    unlink(file.sun_path);
}
static void file_and_tcp_socket(void) { close(tcp()); file_made_and_removed(); }

#define ROUNDS 1001
static int by_value(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return (x > y) - (x < y); }
static void measure(const char *name, void (*call)(void), int count) {
    int rounds = count < 100 ? ROUNDS : ROUNDS / 10;
    double each[ROUNDS];
    for (int round = 0; round < rounds; round++) {
        double start = now();
        for (int i = 0; i < count; i++) call();
        each[round] = (now() - start) / count;
    }
    qsort(each, rounds, sizeof *each, by_value);
    printf("%s\t%.0f\n", name, each[rounds / 2]);
    fflush(stdout);
}

int main(int argc, char **argv) {
    port = argc > 1 ? atoi(argv[1]) : 23517;
    if (argc > 2 && !strcmp(argv[2], "zero")) {
        measure("bind(0)", bind_zero, 10);
        return 0;
    }
    if (argc > 2) {
        snprintf(file.sun_path, sizeof file.sun_path, "%s/floor.tmp", argv[2]);
        unlink(file.sun_path);
        measure("file made, removed", file_made_and_removed, 10);
        measure("the same + TCP socket", file_and_tcp_socket, 10);
        return 0;
    }
    listener = tcp();
    to = at("127.0.0.1", port + 1);
    int one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&to, sizeof to) || listen(listener, 128)) die("listener");
    connected = tcp();
    if (connect(connected, (void *)&to, sizeof to)) die("connect");
    accept(listener, 0, 0);
    plain = open("/dev/null", O_RDONLY);
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    measure("bind+listen+close", bind_listen_close, 10);
    measure("connect+accept+close", connect_accept_close, 10);
    measure("getsockname", name_of_listener, 1000);
    measure("getpeername", name_of_peer, 1000);
    measure("dup+close", dup_close, 1000);
    measure("passed getsockopt", passed_getsockopt, 1000);
    measure("passed setsockopt", passed_setsockopt, 1000);
    measure("passed getsockname", passed_getsockname, 1000);
    measure("passed connect (UDP)", passed_connect, 1000);
    measure("passed fcntl", passed_fcntl, 1000);
    return 0;
}

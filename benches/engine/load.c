/* What the seccomp engine costs a program, which is linked statically so that the engine serves it. One process serves
 * 127.0.0.1:PORT and another one asks it:
 *   load keepalive PORT SECONDS   requests over 16 connections that stay open; prints requests per second
 *   load connect PORT SECONDS     a connection for each request, 4 at once; prints requests per second
 *   load serve PORT               only the server; prints a line when it listens
 *   load asks PORT SECONDS        only what asks, as for connect
 *   load signals PORT COUNT       COUNT connections to a server that gets a signal every 100 µs; prints how many were answered
 *   load call COUNT               a system call that means nothing to the engine; prints nanoseconds of each
 *   load true                     nothing
 *   load pause PORT               listens until it is ended; prints a line when it does */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ALIVE 16
#define AT_ONCE 4
#define PATIENCE_S 5

static const char request[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static struct sockaddr_in at = {.sin_family = AF_INET};

static void fail(const char *what) {
    perror(what);
    _exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int listening(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 1024))
        fail("listen");
    return fd;
}

/* Answers every request of every connection. */
static void serve(int listener) {
    struct epoll_event events[64], event = {.events = EPOLLIN, .data.fd = listener};
    int epoll = epoll_create1(0), one = 1;
    char buffer[4096];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                event.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                setsockopt(event.data.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                if (event.data.fd >= 0)
                    epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
            } else if (read(fd, buffer, sizeof buffer) <= 0 || write(fd, answer, sizeof answer - 1) < 0)
                close(fd);
        }
    }
}

static int connected(void) {
    struct timeval patience = {.tv_sec = PATIENCE_S};
    struct linger at_once = {.l_onoff = 1};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    /* No port is left in TIME_WAIT. */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    if (connect(fd, (struct sockaddr *)&at, sizeof at))
        fail("connect");
    return fd;
}

static int asked(int fd) {
    char buffer[256];
    return write(fd, request, sizeof request - 1) > 0 && read(fd, buffer, sizeof buffer) > 0;
}

/* Counts requests over connections that stay open. */
static long keep_alive(double seconds) {
    struct pollfd all[ALIVE];
    char buffer[256];
    long count = 0;
    for (int i = 0; i < ALIVE; i++) {
        all[i] = (struct pollfd){.fd = connected(), .events = POLLIN};
        if (write(all[i].fd, request, sizeof request - 1) < 0)
            fail("write");
    }
    for (double end = now() + seconds; now() < end;) {
        poll(all, ALIVE, 1000);
        for (int i = 0; i < ALIVE; i++)
            if (all[i].revents) {
                if (read(all[i].fd, buffer, sizeof buffer) <= 0 || write(all[i].fd, request, sizeof request - 1) < 0)
                    fail("request");
                count++;
            }
    }
    return count;
}

/* Counts requests with a connection each, in several processes. */
static long one_each(double seconds) {
    long count, all = 0;
    int both[2];
    if (pipe(both))
        fail("pipe");
    for (int i = 0; i < AT_ONCE; i++)
        if (!fork()) {
            count = 0;
            for (double end = now() + seconds; now() < end; count++) {
                int fd = connected();
                if (!asked(fd))
                    fail("request");
                close(fd);
            }
            _exit(write(both[1], &count, sizeof count) != sizeof count);
        }
    for (int i = 0; i < AT_ONCE; i++) {
        if (read(both[0], &count, sizeof count) != sizeof count)
            fail("count");
        all += count;
    }
    return all;
}

static void nothing(int number) { (void)number; }

/* As serve, but blocking, and interrupted again and again. */
static void serve_interrupted(int listener) {
    struct sigaction action = {.sa_handler = nothing};
    struct itimerval often = {.it_interval.tv_usec = 100, .it_value.tv_usec = 100};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (;;) {
        char buffer[4096];
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        while (read(fd, buffer, sizeof buffer) < 0)
            ;
        while (write(fd, answer, sizeof answer - 1) < 0)
            ;
        close(fd);
    }
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    long number = count > 3 ? atol(words[3]) : 0, answered = 0;
    if (!strcmp(what, "true"))
        return 0;
    if (!strcmp(what, "call")) {
        long calls = atol(words[2]);
        double start = now();
        for (long i = 0; i < calls; i++)
            syscall(SYS_getppid);
        printf("%.1f\n", (now() - start) * 1e9 / (double)calls);
        return 0;
    }
    if (count < 3)
        return 2;
    at.sin_port = htons((in_port_t)atoi(words[2]));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (!strcmp(what, "asks")) {
        printf("%.0f\n", (double)one_each(atof(words[3])) / atof(words[3]));
        return 0;
    }
    int listener = listening();
    if (!strcmp(what, "pause") || !strcmp(what, "serve")) {
        puts("listens");
        fflush(stdout);
        if (!strcmp(what, "serve"))
            serve(listener);
        for (;;)
            pause();
    }
    int interrupted = !strcmp(what, "signals");
    pid_t server = fork();
    if (!server)
        (interrupted ? serve_interrupted : serve)(listener);
    close(listener);
    if (interrupted) {
        for (long i = 0; i < number; i++) {
            int fd = connected();
            answered += asked(fd);
            close(fd);
        }
        printf("%ld\n", answered);
    } else {
        long requests = (!strcmp(what, "connect") ? one_each : keep_alive)(atof(words[3]));
        printf("%.0f\n", (double)requests / atof(words[3]));
    }
    kill(server, SIGKILL);
    return 0;
}

/* Cases on waiting: select, epoll, interrupted accepts, signal handlers. */
#include "kit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>

CASE(c_select_fds) {
    int port = free_port(), listener = listening(port);
    for (int which = 0; which < 2; which++) {
        struct timeval at_once = {0}, soon = {.tv_sec = 2};
        struct timespec precisely = {.tv_sec = 2};
        fd_set fds;
        FD_ZERO(&fds);
        FD_SET(listener, &fds);
        EQUAL(select(listener + 1, &fds, NULL, NULL, &at_once), 0, "select before a client");
        int client = connected(port);
        FD_ZERO(&fds);
        FD_SET(listener, &fds);
        EQUAL(which ? pselect(listener + 1, &fds, NULL, NULL, &precisely, NULL)
                    : select(listener + 1, &fds, NULL, NULL, &soon),
              1, "descriptors with a connection");
        TRUE(FD_ISSET(listener, &fds), "the listener is set");
        int accepted = OK(accept(listener, NULL, NULL));
        conversation(client, accepted);
        close(client);
        close(accepted);
    }
}

/* One event with this data, or none. */
static void event_is(int poll_fd, unsigned wanted_events, unsigned long long wanted_data, const char *what) {
    struct epoll_event events[4];
    int count = OK(epoll_wait(poll_fd, events, 4, wanted_events ? 2000 : 0));
    EQUAL(count, wanted_events != 0, what);
    if (count) {
        EQUAL(events[0].events, wanted_events, what);
        EQUAL((long long)events[0].data.u64, (long long)wanted_data, what);
    }
}

CASE(c_epoll_data) {
    const unsigned long long data = 0x1122334455667788, other = 0x99aabbccddeeff00;
    int port = free_port(), fd = tcp(), poll_fd = OK(epoll_create1(EPOLL_CLOEXEC));
    struct sockaddr_in address = local4(port);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    OK(epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event));
    FAILS(EEXIST, epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event));
    OK(bind(fd, (struct sockaddr *)&address, sizeof address));
    FAILS(EEXIST, epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event));
    OK(listen(fd, 5));
    FAILS(EEXIST, epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event));
    event_is(poll_fd, 0, 0, "before a client");
    int client = connected(port);
    event_is(poll_fd, EPOLLIN, data, "with a client");
    event.data.u64 = other;
    OK(epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event));
    event_is(poll_fd, EPOLLIN, other, "after EPOLL_CTL_MOD");
    OK(epoll_ctl(poll_fd, EPOLL_CTL_DEL, fd, NULL));
    event_is(poll_fd, 0, 0, "after EPOLL_CTL_DEL");
    FAILS(ENOENT, epoll_ctl(poll_fd, EPOLL_CTL_DEL, fd, NULL));
    FAILS(ENOENT, epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event));
    OK(epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event));
    event_is(poll_fd, EPOLLIN, other, "added again");
    close(client);
    /* The same for a client registered before connect. */
    struct epoll_event writable = {.events = EPOLLOUT, .data.u64 = data};
    client = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    int client_poll = OK(epoll_create1(EPOLL_CLOEXEC));
    OK(epoll_ctl(client_poll, EPOLL_CTL_ADD, client, &writable));
    if (connect(client, (struct sockaddr *)&address, sizeof address) != 0)
        EQUAL(errno, EINPROGRESS, "errno of connect");
    event_is(client_poll, EPOLLOUT, data, "connected");
    OK(epoll_ctl(client_poll, EPOLL_CTL_DEL, client, NULL));
    FAILS(ENOENT, epoll_ctl(client_poll, EPOLL_CTL_DEL, client, NULL));
}

/* Sixteen epoll instances, as many event loops have, watch a socket before bind: each learns of the client. */
CASE(c_epoll_many_instances) {
    int port = free_port(), fd = tcp(), poll_fds[16];
    struct sockaddr_in address = local4(port);
    for (int which = 0; which < 16; which++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = 1000 + (unsigned)which};
        poll_fds[which] = OK(epoll_create1(EPOLL_CLOEXEC));
        OK(epoll_ctl(poll_fds[which], EPOLL_CTL_ADD, fd, &event));
    }
    OK(bind(fd, (struct sockaddr *)&address, sizeof address));
    OK(listen(fd, 5));
    for (int which = 0; which < 16; which++)
        event_is(poll_fds[which], 0, 0, "before a client");
    int client = connected(port);
    for (int which = 0; which < 16; which++)
        event_is(poll_fds[which], EPOLLIN, 1000 + (unsigned)which, "with a client");
    close(client);
}

static _Noreturn void epoll_worker(int listener) {
    int poll_fd = OK(epoll_create1(0));
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    OK(epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event));
    for (;;) {
        OK(epoll_wait(poll_fd, &event, 1, -1));
        EQUAL(event.data.fd, listener, "data of the event");
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        int accepted = accept4(listener, (struct sockaddr *)&peer, &length, 0);
        if (accepted < 0) {
            EQUAL(errno, EAGAIN, "errno of accept"); /* The other worker was faster. */
            continue;
        }
        EQUAL(peer.sin_family, AF_INET, "family of accept's peer");
        char buffer[64];
        ssize_t got;
        while ((got = read(accepted, buffer, sizeof buffer)) > 0)
            EQUAL(write(accepted, buffer, (size_t)got), got, "bytes echoed");
        close(accepted);
    }
}

CASE(c_epoll_inherited) {
    int port = free_port(), listener = listening(port);
    OK(fcntl(listener, F_SETFL, O_NONBLOCK));
    pid_t workers[2];
    for (int which = 0; which < 2; which++)
        if ((workers[which] = OK(fork())) == 0)
            epoll_worker(listener);
    close(listener);
    for (int client = 0; client < 40; client++)
        echoed(port);
    for (int which = 0; which < 2; which++) {
        EQUAL(waitpid(workers[which], NULL, WNOHANG), 0, "a worker that has not died");
        OK(kill(workers[which], SIGKILL));
        OK(waitpid(workers[which], NULL, 0));
        if (which == 0)
            for (int client = 0; client < 10; client++)
                echoed(port);
    }
    FAILS(ECONNREFUSED, connecting(port));
}

static volatile sig_atomic_t ticks;

static void tick(int number) {
    (void)number;
    ticks++;
}

static void every(int milliseconds, void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler};
    OK(sigaction(SIGALRM, &action, NULL));
    struct itimerval timer = {.it_interval.tv_usec = milliseconds * 1000, .it_value.tv_usec = milliseconds * 1000};
    OK(setitimer(ITIMER_REAL, &timer, NULL));
}

CASE(c_eintr_accept) {
    int port = free_port(), listener = listening(port);
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    every(50, tick);
    FAILS(EINTR, accept(listener, (struct sockaddr *)&peer, &length));
    FAILS(EINTR, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    TRUE(ticks >= 2, "two ticks");
    every(0, tick);
    served(listener, port);
}

static int handler_port, handler_rounds;

/* Everything here is async-signal-safe (signal-safety(7)). */
static void use_sockets(int number) {
    (void)number;
    int kept = errno;
    struct sockaddr_in address = local4(0);
    socklen_t length = sizeof address;
    int fd = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(bind(fd, (struct sockaddr *)&address, sizeof address));
    OK(listen(fd, 5));
    OK(getsockname(fd, (struct sockaddr *)&address, &length));
    TRUE(address.sin_port != 0, "a port");
    OK(close(OK(dup(fd))));
    int client = OK(socket(AF_INET, SOCK_STREAM, 0));
    OK(connect(client, (struct sockaddr *)&address, sizeof address));
    OK(close(client));
    OK(close(fd));
    if (++handler_rounds == 5)
        (void)connected(handler_port); /* Lets the blocked accept end. */
    errno = kept;
}

CASE(c_handler_uses_sockets) {
    int listener = listening(handler_port = free_port()), accepted;
    every(20, use_sockets);
    while ((accepted = accept(listener, NULL, NULL)) < 0)
        EQUAL(errno, EINTR, "errno of accept");
    TRUE(handler_rounds >= 5, "rounds of the handler");
    every(0, use_sockets);
    name_is(accepted, handler_port);
}

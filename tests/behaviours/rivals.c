/* Cases on binds that exclude one another and come at one instant: exactly one wins. */
#include "kit.h"

#include <pthread.h>

#define ROUNDS 150

struct rival {
    struct sockaddr_storage address;
    socklen_t length;
    int shared, bound, fd;
};

static pthread_barrier_t barrier;

static void *binds(void *argument) {
    struct rival *rival = argument;
    int one = 1;
    rival->fd = OK(socket(rival->address.ss_family, SOCK_STREAM, 0));
    if (rival->shared)
        OK(setsockopt(rival->fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one));
    pthread_barrier_wait(&barrier);
    rival->bound = bind(rival->fd, (struct sockaddr *)&rival->address, rival->length);
    if (rival->bound != 0)
        EQUAL(errno, EADDRINUSE, "why a bind failed");
    return NULL;
}

static struct rival of4(int any, int port) {
    struct sockaddr_in address = any ? any4(port) : local4(port);
    struct rival rival = {.length = sizeof address};
    memcpy(&rival.address, &address, sizeof address);
    return rival;
}

static struct rival of6(int any, int port) {
    struct sockaddr_in6 address = local6(port);
    if (any)
        address.sin6_addr = in6addr_any;
    struct rival rival = {.length = sizeof address};
    memcpy(&rival.address, &address, sizeof address);
    return rival;
}

static void one_wins(struct rival (*first)(int), struct rival (*second)(int)) {
    OK(-pthread_barrier_init(&barrier, NULL, 2));
    for (int round = 0; round < ROUNDS; round++) {
        int port = free_port();
        struct rival rivals[2] = {first(port), second(port)};
        pthread_t threads[2];
        for (int which = 0; which < 2; which++)
            OK(-pthread_create(&threads[which], NULL, binds, &rivals[which]));
        for (int which = 0; which < 2; which++)
            OK(-pthread_join(threads[which], NULL));
        EQUAL((rivals[0].bound == 0) + (rivals[1].bound == 0), 1, "binds that succeed");
        for (int which = 0; which < 2; which++)
            close(rivals[which].fd);
    }
}

static struct rival loopback(int port) { return of4(0, port); }
static struct rival wildcard(int port) { return of4(1, port); }
static struct rival loopback_v6(int port) { return of6(0, port); }
static struct rival dual(int port) { return of6(1, port); }
static struct rival shared(int port) {
    struct rival rival = of4(1, port);
    rival.shared = 1;
    return rival;
}

CASE(c_rivals_wildcard) { one_wins(loopback, wildcard); }

CASE(c_rivals_same) { one_wins(wildcard, wildcard); }

CASE(c_rivals_dual) {
    need_v6();
    one_wins(wildcard, dual);
    one_wins(loopback_v6, dual);
    one_wins(loopback, dual);
}

CASE(c_rivals_shared) {
    one_wins(shared, wildcard);
    one_wins(shared, loopback);
}

/* A bind that failed leaves nothing: the winner is reached, and when it goes the port is free. */
CASE(c_rivals_leave_nothing) {
    for (int round = 0; round < 20; round++) {
        int port = free_port(), listener = listening(port), fd = tcp();
        struct sockaddr_in address = any4(port);
        FAILS(EADDRINUSE, bind(fd, (struct sockaddr *)&address, sizeof address));
        int client = connected(port), accepted = OK(accept(listener, NULL, NULL)), one = 1;
        conversation(client, accepted);
        close(client);
        close(accepted);
        close(listener);
        OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
        OK(bind(fd, (struct sockaddr *)&address, sizeof address));
        OK(listen(fd, 8));
        served(fd, port);
        close(fd);
    }
}

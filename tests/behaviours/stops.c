/* Cases on listeners that stop: connect(2) to AF_UNSPEC, as HAProxy's `disable frontend` does it. */
#include "kit.h"

static int unspecified(int fd) {
    struct sockaddr nothing = {.sa_family = AF_UNSPEC};
    return connect(fd, &nothing, sizeof nothing);
}

CASE(c_unspec_stops_a_listener) {
    int port = free_port(), listener = listening(port);
    served(listener, port);
    OK(unspecified(listener));
    EQUAL(int_option(listener, SOL_SOCKET, SO_ACCEPTCONN), 0, "SO_ACCEPTCONN");
    FAILS(ECONNREFUSED, connecting(port));
    FAILS(EINVAL, accept(listener, NULL, NULL));
    /* The address stays the socket's. */
    name_is(listener, port);
    struct sockaddr_in address = local4(port);
    FAILS(EADDRINUSE, bind(tcp(), (struct sockaddr *)&address, sizeof address));
    /* A second time changes nothing. */
    OK(unspecified(listener));
    OK(listen(listener, 8));
    served(listener, port);
}

/* Clients in the queue are reset; a socket that is only bound stays bound. */
CASE(c_unspec_resets_the_queue) {
    int port = free_port(), listener = listening(port), client = connected(port);
    char byte;
    OK(unspecified(listener));
    FAILS(ECONNRESET, read(client, &byte, 1));
    close(listener);
    listener = bound(port);
    OK(unspecified(listener));
    name_is(listener, port);
    FAILS(ECONNREFUSED, connecting(port));
    OK(listen(listener, 8));
    served(listener, port);
}

/* A connection that is dissolved ends for its peer, and its socket can connect again. */
CASE(c_unspec_dissolves_a_connection) {
    struct trio first = trio(), second = trio();
    char byte;
    OK(unspecified(first.client));
    ssize_t got = read(first.accepted, &byte, 1);
    TRUE(got == 0 || (got < 0 && errno == ECONNRESET), "the other end has ended");
    struct sockaddr_in address = local4(second.port);
    OK(connect(first.client, (struct sockaddr *)&address, sizeof address));
    int accepted = OK(accept(second.listener, NULL, NULL));
    conversation(first.client, accepted);
    OK(unspecified(accepted));
    got = read(first.client, &byte, 1);
    TRUE(got == 0 || (got < 0 && errno == ECONNRESET), "the other end has ended");
}

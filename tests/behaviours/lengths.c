/* Cases on the raw form of addresses and options: lengths, NULL, wrong families. */
#include "kit.h"

#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/un.h>

#define UNTOUCHED 0xa5

typedef int name_call(int, struct sockaddr *, socklen_t *);

/* `call` with every length up to `full` and beyond writes that much and no more, and returns `full`. */
static void within_length(name_call *call, int fd, const void *want, socklen_t full) {
    for (socklen_t room = 0; room <= full + 8; room++) {
        unsigned char buffer[64];
        memset(buffer, UNTOUCHED, sizeof buffer);
        socklen_t length = room;
        OK(call(fd, (struct sockaddr *)buffer, &length));
        EQUAL(length, full, "length returned");
        socklen_t written = room < full ? room : full;
        TRUE(memcmp(buffer, want, written) == 0, "bytes of the name");
        for (size_t at = written; at < sizeof buffer; at++)
            if (buffer[at] != UNTOUCHED)
                BROKEN("room for %u bytes: byte %zu was written", room, at);
    }
    struct sockaddr_storage name;
    socklen_t length = (socklen_t)-1;
    FAILS(EINVAL, call(fd, (struct sockaddr *)&name, &length));
}

CASE(c_addrlen_getsockname) {
    struct trio all = trio();
    struct sockaddr_in server = local4(all.port), client = local4(own_port(all.client));
    within_length(getsockname, all.listener, &server, 16);
    within_length(getsockname, all.accepted, &server, 16);
    within_length(getsockname, all.client, &client, 16);
    struct sockaddr_in none = {.sin_family = AF_INET};
    within_length(getsockname, tcp(), &none, 16);
}

CASE(c_addrlen_getpeername) {
    struct trio all = trio();
    struct sockaddr_in server = local4(all.port), client = local4(own_port(all.client));
    within_length(getpeername, all.client, &server, 16);
    within_length(getpeername, all.accepted, &client, 16);
}

/* A name that has nowhere to go: nothing is written where there is no room, and the length is told all the same. */
CASE(c_addrlen_nowhere) {
    struct trio all = trio();
    struct sockaddr *page_zero = (struct sockaddr *)16;
    int fds[] = {all.listener, all.accepted, all.client};
    for (int which = 0; which < 3; which++) {
        socklen_t length = 0;
        OK(getsockname(fds[which], NULL, &length));
        EQUAL(length, 16, "length for no room at NULL");
        length = 16;
        FAILS(EFAULT, getsockname(fds[which], NULL, &length));
        length = 16;
        FAILS(EFAULT, getsockname(fds[which], page_zero, &length));
        length = 0;
        OK(getsockname(fds[which], page_zero, &length));
        EQUAL(length, 16, "length for no room in the first page");
        FAILS(EFAULT, getsockname(fds[which], page_zero, NULL));
        if (which == 0)
            continue;
        length = 0;
        OK(getpeername(fds[which], NULL, &length));
        EQUAL(length, 16, "the peer's");
        length = 16;
        FAILS(EFAULT, getpeername(fds[which], page_zero, &length));
    }
    int client = connected(all.port);
    socklen_t length = 7;
    int accepted = OK(accept(all.listener, NULL, &length));
    EQUAL(length, 7, "length that accept was given with NULL");
    close(accepted);
    close(client);
}

static int accept_plain(int fd, struct sockaddr *name, socklen_t *length) { return accept(fd, name, length); }

static int accept_flags(int fd, struct sockaddr *name, socklen_t *length) {
    return accept4(fd, name, length, SOCK_CLOEXEC);
}

CASE(c_addrlen_accept) {
    int port = free_port(), listener = listening(port);
    name_call *calls[] = {accept_plain, accept_flags};
    for (int which = 0; which < 2; which++) {
        for (socklen_t room = 0; room <= 24; room++) {
            unsigned char buffer[64];
            memset(buffer, UNTOUCHED, sizeof buffer);
            int client = connected(port);
            struct sockaddr_in want = local4(own_port(client));
            socklen_t length = room;
            int accepted = OK(calls[which](listener, (struct sockaddr *)buffer, &length));
            EQUAL(length, 16, "length returned");
            socklen_t written = room < 16 ? room : 16;
            TRUE(memcmp(buffer, &want, written) == 0, "bytes of the peer");
            for (size_t at = written; at < sizeof buffer; at++)
                if (buffer[at] != UNTOUCHED)
                    BROKEN("room for %u bytes: byte %zu was written", room, at);
            close(client);
            close(accepted);
        }
    }
}

CASE(c_addrlen_storage) {
    int port = free_port(), listener = listening(port), client = connected(port);
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    int accepted = OK(accept(listener, (struct sockaddr *)&name, &length));
    EQUAL(length, 16, "accept");
    EQUAL(name.ss_family, AF_INET, "family of accept's peer");
    int fds[] = {listener, client, accepted};
    for (int which = 0; which < 3; which++) {
        length = sizeof name;
        OK(getsockname(fds[which], (struct sockaddr *)&name, &length));
        EQUAL(length, 16, "getsockname");
        EQUAL(name.ss_family, AF_INET, "family of getsockname");
        if (which == 0)
            continue;
        length = sizeof name;
        OK(getpeername(fds[which], (struct sockaddr *)&name, &length));
        EQUAL(length, 16, "getpeername");
        EQUAL(name.ss_family, AF_INET, "family of getpeername");
    }
}

CASE(c_addrlen_v6) {
    need_v6();
    int port = free_port();
    struct sockaddr_in6 server = local6(port), client;
    socklen_t length = sizeof client;
    int listener = OK(socket(AF_INET6, SOCK_STREAM, 0)), connecting = OK(socket(AF_INET6, SOCK_STREAM, 0));
    OK(bind(listener, (struct sockaddr *)&server, sizeof server));
    OK(listen(listener, 5));
    OK(connect(connecting, (struct sockaddr *)&server, sizeof server));
    OK(getsockname(connecting, (struct sockaddr *)&client, &length));
    EQUAL(length, 28, "length of a v6 name");
    struct sockaddr_in6 want = local6(ntohs(client.sin6_port));
    TRUE(memcmp(&client, &want, 28) == 0, "the client's name");
    unsigned char buffer[32];
    memset(buffer, UNTOUCHED, sizeof buffer);
    length = 16;
    int accepted = OK(accept(listener, (struct sockaddr *)buffer, &length));
    EQUAL(length, 28, "length that accept returns for 16 bytes");
    TRUE(memcmp(buffer, &client, 16) == 0, "bytes of accept's peer");
    for (size_t at = 16; at < sizeof buffer; at++)
        EQUAL(buffer[at], UNTOUCHED, "a byte beyond the length");
    within_length(getsockname, listener, &server, 28);
    within_length(getsockname, accepted, &server, 28);
    within_length(getpeername, accepted, &client, 28);
    within_length(getpeername, connecting, &server, 28);
}

CASE(c_bind_storage_length) {
    int port = free_port();
    union {
        struct sockaddr_storage storage;
        struct sockaddr_in inet;
        struct sockaddr any;
    } address = {0};
    address.inet = local4(port);
    int listener = tcp(), client = tcp();
    OK(bind(listener, &address.any, sizeof address.storage));
    name_is(listener, port);
    OK(listen(listener, 5));
    OK(connect(client, &address.any, sizeof address.storage));
    peer_is(client, port);
    conversation(client, OK(accept(listener, NULL, NULL)));
}

CASE(c_bind_short_length) {
    int port = free_port(), listener = tcp(), client = tcp();
    struct sockaddr_in address = local4(port);
    struct sockaddr *name = (struct sockaddr *)&address;
    socklen_t lengths[] = {0, 1, 2, 8, 15};
    for (int which = 0; which < 5; which++)
        FAILS(EINVAL, bind(listener, name, lengths[which]));
    OK(bind(listener, name, sizeof address));
    OK(listen(listener, 5));
    for (int which = 0; which < 5; which++)
        FAILS(EINVAL, connect(client, name, lengths[which]));
    FAILS(EINVAL, bind(tcp(), name, (socklen_t)-1));
    FAILS(EINVAL, connect(client, name, (socklen_t)-1));
    OK(connect(client, name, sizeof address));
}

CASE(c_bind_wrong_family) {
    struct sockaddr_un unix_name = {.sun_family = AF_UNIX, .sun_path = "/nowhere/at/all"};
    struct sockaddr_in6 v6 = local6(free_port());
    struct sockaddr_in nonsense = local4(free_port());
    nonsense.sin_family = 200;
    int fd = tcp();
    FAILS(EAFNOSUPPORT, bind(fd, (struct sockaddr *)&unix_name, sizeof unix_name));
    FAILS(EAFNOSUPPORT, connect(fd, (struct sockaddr *)&unix_name, sizeof unix_name));
    FAILS(EAFNOSUPPORT, bind(fd, (struct sockaddr *)&v6, sizeof v6));
    FAILS(EAFNOSUPPORT, connect(fd, (struct sockaddr *)&v6, sizeof v6));
    FAILS(EAFNOSUPPORT, bind(fd, (struct sockaddr *)&nonsense, sizeof nonsense));
    FAILS(EAFNOSUPPORT, connect(fd, (struct sockaddr *)&nonsense, sizeof nonsense));
    is_fresh(fd);
    int port = free_port();
    struct sockaddr_in good = local4(port);
    OK(bind(fd, (struct sockaddr *)&good, sizeof good));
    FAILS(EAFNOSUPPORT, connect(fd, (struct sockaddr *)&unix_name, sizeof unix_name));
    OK(listen(fd, 5));
    served(fd, port);
}

CASE(c_bind_v4_on_v6_socket) {
    need_v6();
    struct sockaddr_in address = local4(free_port());
    int fd = OK(socket(AF_INET6, SOCK_STREAM, 0));
    FAILS(EINVAL, bind(fd, (struct sockaddr *)&address, sizeof address));
    struct sockaddr_in6 good = local6(free_port());
    OK(bind(fd, (struct sockaddr *)&good, sizeof good));
    OK(listen(fd, 5));
}

CASE(c_efault) {
    struct trio all = trio();
    struct sockaddr_in address = local4(all.port);
    struct sockaddr *name = (struct sockaddr *)&address;
    socklen_t length = sizeof address;
    int fresh = tcp(), value = 0;
    /* Through volatile pointers, or the compiler warns of exactly what is meant. */
    struct sockaddr *volatile no_name = NULL;
    socklen_t *volatile no_length = NULL;
    void *volatile no_value = NULL;
    FAILS(EFAULT, bind(fresh, no_name, sizeof address));
    FAILS(EFAULT, connect(fresh, no_name, sizeof address));
    int fds[] = {fresh, all.listener, all.client, all.accepted};
    for (int which = 0; which < 4; which++) {
        FAILS(EFAULT, getsockname(fds[which], no_name, &length));
        FAILS(EFAULT, getsockname(fds[which], name, no_length));
        FAILS(EFAULT, getsockopt(fds[which], SOL_SOCKET, SO_TYPE, no_value, &length));
        FAILS(EFAULT, getsockopt(fds[which], SOL_SOCKET, SO_TYPE, &value, no_length));
        FAILS(EFAULT, getsockopt(fds[which], SOL_SOCKET, SO_DOMAIN, no_value, &length));
        FAILS(EFAULT, getsockopt(fds[which], IPPROTO_TCP, TCP_NODELAY, no_value, &length));
        FAILS(EFAULT, getsockopt(fds[which], IPPROTO_TCP, TCP_NODELAY, &value, no_length));
        FAILS(EFAULT, setsockopt(fds[which], SOL_SOCKET, SO_KEEPALIVE, no_value, sizeof value));
        FAILS(EFAULT, setsockopt(fds[which], IPPROTO_TCP, TCP_NODELAY, no_value, sizeof value));
    }
    FAILS(EFAULT, getpeername(all.client, no_name, &length));
    FAILS(EFAULT, getpeername(all.client, name, no_length));
    FAILS(EFAULT, getpeername(all.accepted, name, no_length));
    int client = connected(all.port);
    FAILS(EFAULT, accept(all.listener, name, no_length));
    close(client);
    served(all.listener, all.port);
}

/* Pointers into memory that the process has, and may not touch. */
CASE(c_efault_options) {
    struct trio all = trio();
    void *nothing = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (nothing == MAP_FAILED)
        BROKEN("mmap");
    int fds[] = {all.listener, all.client, all.accepted, tcp(), OK(socket(AF_UNIX, SOCK_STREAM, 0))};
    int names[] = {SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_SNDBUF, SO_RCVBUF, SO_REUSEPORT, SO_PEERCRED};
    for (int which = 0; which < 5; which++) {
        for (size_t each = 0; each < sizeof names / sizeof *names; each++) {
            socklen_t length = sizeof(struct ucred);
            struct ucred value;
            FAILS(EFAULT, getsockopt(fds[which], SOL_SOCKET, names[each], nothing, &length));
            FAILS(EFAULT, getsockopt(fds[which], SOL_SOCKET, names[each], &value, nothing));
        }
        FAILS(EFAULT, setsockopt(fds[which], SOL_SOCKET, SO_KEEPALIVE, nothing, sizeof(int)));
    }
    socklen_t length = sizeof(int);
    int value = 0, *page_zero = (int *)16;
    FAILS(EFAULT, getsockopt(fds[3], IPPROTO_TCP, TCP_NODELAY, nothing, &length));
    FAILS(EFAULT, getsockopt(fds[3], IPPROTO_TCP, TCP_NODELAY, &value, nothing));
    for (int which = 0; which < 4; which++) {
        FAILS(EFAULT, getsockopt(fds[which], IPPROTO_TCP, TCP_NODELAY, page_zero, &length));
        FAILS(EFAULT, getsockopt(fds[which], IPPROTO_TCP, TCP_NODELAY, &value, (socklen_t *)page_zero));
        FAILS(EFAULT, setsockopt(fds[which], IPPROTO_TCP, TCP_NODELAY, page_zero, sizeof value));
    }
    served(all.listener, all.port);
}

static void every_call_fails(int want, int fd) {
    struct sockaddr_in address = local4(free_port());
    struct sockaddr *name = (struct sockaddr *)&address;
    socklen_t length = sizeof address, value_length = sizeof(int);
    char byte = 0;
    int value = 0;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    FAILS(want, bind(fd, name, sizeof address));
    FAILS(want, listen(fd, 5));
    FAILS(want, accept(fd, name, &length));
    FAILS(want, accept4(fd, name, &length, SOCK_CLOEXEC));
    FAILS(want, connect(fd, name, sizeof address));
    FAILS(want, getsockname(fd, name, &length));
    FAILS(want, getpeername(fd, name, &length));
    FAILS(want, getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &value_length));
    FAILS(want, getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &value_length));
    FAILS(want, setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, sizeof value));
    FAILS(want, setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    FAILS(want, shutdown(fd, SHUT_RDWR));
    FAILS(want, send(fd, &byte, 1, 0));
    FAILS(want, recv(fd, &byte, 1, 0));
    FAILS(want, sendto(fd, &byte, 1, 0, name, sizeof address));
    FAILS(want, recvfrom(fd, &byte, 1, 0, name, &length));
    FAILS(want, sendmsg(fd, &message, 0));
    FAILS(want, recvmsg(fd, &message, 0));
}

CASE(c_not_a_socket) {
    int ends[2];
    OK(pipe(ends));
    every_call_fails(ENOTSOCK, ends[0]);
    every_call_fails(ENOTSOCK, ends[1]);
    int fd = listening(free_port());
    OK(close(fd));
    every_call_fails(EBADF, fd);
    every_call_fails(EBADF, -1);
}

CASE(c_errno_kept) {
    enum { KEPT = 4242 };
    int port = free_port(), one = 1, listener, client, accepted;
    struct sockaddr_in address = local4(port), name;
    socklen_t length, value_length = sizeof one;
    char byte = 0;
#define QUIET(call)                                                  \
    ({                                                               \
        errno = KEPT;                                                \
        int quiet_ = (int)(call);                                    \
        int after_ = errno;                                          \
        if (quiet_ < 0)                                              \
            BROKEN("%s: %s", #call, strerrorname_np(after_));        \
        if (after_ != KEPT)                                          \
            BROKEN("%s: left errno %d", #call, after_);              \
        quiet_;                                                      \
    })
    for (int round = 0; round < 2; round++) { /* The second finds what the first left. */
        listener = QUIET(socket(AF_INET, SOCK_STREAM, 0));
        QUIET(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
        QUIET(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
        QUIET(bind(listener, (struct sockaddr *)&address, sizeof address));
        QUIET(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
        QUIET(listen(listener, 5));
        QUIET((length = sizeof name, getsockname(listener, (struct sockaddr *)&name, &length)));
        QUIET(getsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, &value_length));
        QUIET(getsockopt(listener, SOL_SOCKET, SO_DOMAIN, &one, &value_length));
        client = QUIET(socket(AF_INET, SOCK_STREAM, 0));
        QUIET(connect(client, (struct sockaddr *)&address, sizeof address));
        accepted = QUIET((length = sizeof name, accept(listener, (struct sockaddr *)&name, &length)));
        QUIET((length = sizeof name, getpeername(client, (struct sockaddr *)&name, &length)));
        QUIET((length = sizeof name, getsockname(client, (struct sockaddr *)&name, &length)));
        QUIET((length = sizeof name, getpeername(accepted, (struct sockaddr *)&name, &length)));
        QUIET((length = sizeof name, getsockname(accepted, (struct sockaddr *)&name, &length)));
        QUIET(send(client, &byte, 1, 0));
        QUIET((length = sizeof name, recvfrom(accepted, &byte, 1, 0, (struct sockaddr *)&name, &length)));
        QUIET(sendto(accepted, &byte, 1, 0, NULL, 0));
        QUIET(recv(client, &byte, 1, 0));
        QUIET(close(QUIET(dup(accepted))));
        QUIET(shutdown(client, SHUT_RDWR));
        QUIET(close(client));
        QUIET(close(accepted));
        QUIET(close(listener));
    }
    struct sockaddr_in any_port = local4(0);
    listener = QUIET(socket(AF_INET, SOCK_STREAM, 0));
    QUIET(bind(listener, (struct sockaddr *)&any_port, sizeof any_port));
    listener = QUIET(socket(AF_INET, SOCK_STREAM, 0));
    QUIET(listen(listener, 5));
}

CASE(c_accept_null) {
    int port = free_port(), listener = listening(port);
    for (int round = 0; round < 3; round++) {
        int client = connected(port);
        int accepted = OK(round ? accept4(listener, NULL, NULL, 0) : accept(listener, NULL, NULL));
        peer_is(accepted, own_port(client));
        conversation(client, accepted);
    }
    /* A length without an address is not looked at. */
    socklen_t length = 5;
    int client = connected(port);
    int accepted = OK(accept(listener, NULL, &length));
    conversation(client, accepted);
}

/* An int option: 4 bytes are written and counted, fewer where there is less room. */
static void int_lengths(int fd, int level, int name) {
    for (socklen_t room = 0; room <= 12; room++) {
        unsigned char buffer[16];
        memset(buffer, UNTOUCHED, sizeof buffer);
        socklen_t length = room, written = room < 4 ? room : 4;
        OK(getsockopt(fd, level, name, buffer, &length));
        if (length != written)
            BROKEN("option %d/%d, room for %u: length %u", level, name, room, length);
        for (size_t at = written; at < sizeof buffer; at++)
            if (buffer[at] != UNTOUCHED)
                BROKEN("option %d/%d, room for %u: byte %zu was written", level, name, room, at);
    }
    socklen_t length = (socklen_t)-1;
    int value;
    FAILS(EINVAL, getsockopt(fd, level, name, &value, &length));
}

CASE(c_getsockopt_lengths) {
    struct trio all = trio();
    int fds[] = {tcp(), bound(free_port()), all.listener, all.client, all.accepted};
    int one = 1;
    for (int which = 0; which < 5; which++) {
        int fd = fds[which];
        int_lengths(fd, SOL_SOCKET, SO_TYPE);
        int_lengths(fd, SOL_SOCKET, SO_ERROR);
        int_lengths(fd, SOL_SOCKET, SO_DOMAIN);
        int_lengths(fd, SOL_SOCKET, SO_PROTOCOL);
        int_lengths(fd, SOL_SOCKET, SO_ACCEPTCONN);
        int_lengths(fd, SOL_SOCKET, SO_REUSEPORT);
        int_lengths(fd, IPPROTO_TCP, TCP_NODELAY);
        int_lengths(fd, IPPROTO_TCP, TCP_KEEPIDLE);
        for (socklen_t length = 0; length < 4; length++) {
            FAILS(EINVAL, setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, length));
            FAILS(EINVAL, setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, length));
        }
    }
}

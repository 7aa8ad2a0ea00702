/* Cases on descriptors: flags, number 0, numbers used again, listeners closed in unusual ways. */
#include "kit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

CASE(c_accept_gives_fd0) {
    int port = free_port(), listener = listening(port), client = connected(port);
    close(0);
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    EQUAL(accept(listener, (struct sockaddr *)&peer, &length), 0, "what accept returns");
    EQUAL(ntohs(peer.sin_port), own_port(client), "port of accept's peer");
    name_is(0, port);
    peer_is(0, own_port(client));
    conversation(client, 0);
    OK(close(0));
    int second = connected(port);
    EQUAL(second, 0, "the next socket's number");
    conversation(second, OK(accept4(listener, NULL, NULL, 0)));
}

CASE(c_socket_is_fd0) {
    int port = free_port();
    struct sockaddr_in address = local4(port);
    close(0);
    EQUAL(socket(AF_INET, SOCK_STREAM, 0), 0, "the socket's number");
    OK(bind(0, (struct sockaddr *)&address, sizeof address));
    OK(listen(0, 5));
    name_is(0, port);
    served(0, port);
    OK(close(0));
    free_again(port);
}

static void flags_are(int fd, bool nonblocking, bool close_on_exec, const char *what) {
    EQUAL((OK(fcntl(fd, F_GETFL)) & O_NONBLOCK) != 0, nonblocking, what);
    EQUAL((OK(fcntl(fd, F_GETFD)) & FD_CLOEXEC) != 0, close_on_exec, what);
}

CASE(c_socket_type_flags) {
    for (int which = 0; which < 4; which++) {
        bool nonblocking = which & 1, close_on_exec = which & 2;
        int port = free_port();
        struct sockaddr_in address = local4(port);
        int type = SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0) | (close_on_exec ? SOCK_CLOEXEC : 0);
        int fd = OK(socket(AF_INET, type, 0)), client = OK(socket(AF_INET, type, 0));
        flags_are(fd, nonblocking, close_on_exec, "flags of a fresh socket");
        OK(bind(fd, (struct sockaddr *)&address, sizeof address));
        flags_are(fd, nonblocking, close_on_exec, "flags after bind");
        EQUAL(int_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM, "SO_TYPE");
        OK(listen(fd, 5));
        flags_are(fd, nonblocking, close_on_exec, "flags after listen");
        EQUAL(int_option(fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM, "SO_TYPE");
        if (connect(client, (struct sockaddr *)&address, sizeof address) != 0)
            TRUE(nonblocking && errno == EINPROGRESS, "connect");
        flags_are(client, nonblocking, close_on_exec, "flags after connect");
        readable(fd, "the client");
        close(OK(accept(fd, NULL, NULL)));
        if (nonblocking)
            FAILS(EAGAIN, accept(fd, NULL, NULL));
    }
}

CASE(c_accept4_flags) {
    int port = free_port(), listener = listening(port);
    for (int which = 0; which < 8; which++) {
        bool nonblocking = which & 1, close_on_exec = which & 2, listener_flags = which & 4;
        OK(fcntl(listener, F_SETFL, listener_flags ? O_NONBLOCK : 0));
        OK(fcntl(listener, F_SETFD, listener_flags ? FD_CLOEXEC : 0));
        int flags = (nonblocking ? SOCK_NONBLOCK : 0) | (close_on_exec ? SOCK_CLOEXEC : 0);
        int client = connected(port), other = connected(port);
        readable(listener, "the client");
        flags_are(OK(accept4(listener, NULL, NULL, flags)), nonblocking, close_on_exec, "flags of accept4");
        readable(listener, "the other client");
        flags_are(OK(accept(listener, NULL, NULL)), false, false, "flags of accept");
        flags_are(listener, listener_flags, listener_flags, "the listener's own flags");
        close(client);
        close(other);
    }
    int client = connected(port);
    OK(fcntl(listener, F_SETFL, 0));
    FAILS(EINVAL, accept4(listener, NULL, NULL, 0x40000000));
    conversation(client, OK(accept(listener, NULL, NULL)));
}

CASE(c_dup3_and_dupfd) {
    int port = free_port(), listener = listening(port);
    int dups[] = {OK(dup3(listener, 100, O_CLOEXEC)), OK(dup3(listener, 101, 0)), OK(fcntl(listener, F_DUPFD, 102)),
                  OK(fcntl(listener, F_DUPFD_CLOEXEC, 102))};
    bool close_on_exec[] = {true, false, false, true};
    FAILS(EINVAL, dup3(listener, listener, 0));
    for (int which = 0; which < 4; which++) {
        EQUAL(dups[which], 100 + which, "the number asked for");
        flags_are(dups[which], false, close_on_exec[which], "flags of the dup");
        name_is(dups[which], port);
    }
    OK(close(listener));
    for (int which = 0; which < 4; which++) {
        served(dups[which], port);
        OK(close(dups[which]));
    }
    free_again(port);
}

CASE(c_close_range) {
    int port = free_port(), listener = listening(port);
    OK(close_range((unsigned)listener, (unsigned)listener, 0));
    FAILS(EBADF, fcntl(listener, F_GETFD));
    int fresh = tcp();
    EQUAL(fresh, listener, "the number is free");
    is_fresh(fresh);
    close(fresh);
    free_again(port);
}

CASE(c_raw_close) {
    for (int round = 0; round < 3; round++) {
        int port = free_port(), listener = listening(port);
        OK(syscall(SYS_close, listener));
        FAILS(EBADF, fcntl(listener, F_GETFD));
        int fresh = tcp();
        EQUAL(fresh, listener, "the number is free");
        is_fresh(fresh);
        /* The fresh socket does what it likes on the old number. */
        struct sockaddr_in other = local4(free_port());
        OK(bind(fresh, (struct sockaddr *)&other, sizeof other));
        OK(listen(fresh, 5));
        served(fresh, ntohs(other.sin_port));
        OK(syscall(SYS_close, fresh));
        free_again(port);
    }
}

CASE(c_probe_raw_close) {
    for (int reuse = 0; reuse < 2; reuse++) {
        int port = free_port();
        struct sockaddr_in address = any4(port);
        int probe = tcp();
        OK(setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse));
        OK(bind(probe, (struct sockaddr *)&address, sizeof address));
        OK(listen(probe, 511));
        OK(syscall(SYS_close, probe));
        int server = tcp();
        EQUAL(server, probe, "the number is used again");
        OK(setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse));
        OK(bind(server, (struct sockaddr *)&address, sizeof address));
        OK(listen(server, 511));
        for (int client = 0; client < 3; client++)
            served(server, port);
        FAILS(EADDRINUSE, bind(tcp(), (struct sockaddr *)&address, sizeof address));
    }
}

CASE(c_unix_on_reused_fd) {
    char folder[] = "/tmp/behaviours-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX}, name;
    TRUE(mkdtemp(folder), "a folder");
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/own.sock", folder);
    socklen_t whole = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)length + 1);
    int port = free_port(), listener = listening(port);
    OK(close(listener));
    int own = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    EQUAL(own, listener, "the number is used again");
    OK(bind(own, (struct sockaddr *)&address, whole));
    OK(listen(own, 5));
    socklen_t name_length = sizeof name;
    OK(getsockname(own, (struct sockaddr *)&name, &name_length));
    EQUAL(name_length, whole, "length of its name");
    TRUE(memcmp(&name, &address, whole) == 0, "its name");
    EQUAL(int_option(own, SOL_SOCKET, SO_DOMAIN), AF_UNIX, "SO_DOMAIN");
    int client = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    OK(connect(client, (struct sockaddr *)&address, whole));
    name_length = sizeof name;
    int accepted = OK(accept(own, (struct sockaddr *)&name, &name_length));
    EQUAL(name.sun_family, AF_UNIX, "family of accept's peer");
    EQUAL(name_length, sizeof(sa_family_t), "length of accept's peer, which has no name");
    name_length = sizeof name;
    OK(getpeername(client, (struct sockaddr *)&name, &name_length));
    TRUE(name_length == whole && memcmp(&name, &address, whole) == 0, "the client's peer");
    conversation(client, accepted);
    struct stat file;
    OK(close(own));
    OK(stat(address.sun_path, &file));
    TRUE(S_ISSOCK(file.st_mode), "its file is left in place");
    unlink(address.sun_path);
    rmdir(folder);
}

CASE(c_unix_connect_missing) {
    char folder[] = "/tmp/behaviours-XXXXXX";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    TRUE(mkdtemp(folder), "a folder");
    snprintf(address.sun_path, sizeof address.sun_path, "%s/missing.sock", folder);
    int client = OK(socket(AF_UNIX, SOCK_STREAM, 0)), server = OK(socket(AF_UNIX, SOCK_STREAM, 0));
    FAILS(ENOENT, connect(client, (struct sockaddr *)&address, sizeof address));
    OK(bind(server, (struct sockaddr *)&address, sizeof address));
    OK(close(server));
    FAILS(ECONNREFUSED, connect(client, (struct sockaddr *)&address, sizeof address));
    unlink(address.sun_path);
    rmdir(folder);
}

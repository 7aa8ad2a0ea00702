/* Cases on sending and receiving: signals, scatter and gather, fortified calls, stdio. */
#include "kit.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

static volatile sig_atomic_t signals;

static void count_signal(int number) {
    (void)number;
    signals++;
}

/* Until the kernel knows that the peer is gone, a write may still succeed. */
enum { WRITES = 400, PAUSE_US = 5000 };

CASE(c_sigpipe_kills) {
    struct trio all = trio();
    OK(close(all.accepted));
    readable(all.client, "the end of the stream");
    pid_t pid = OK(fork());
    if (pid == 0) {
        signal(SIGPIPE, SIG_DFL);
        for (int count = 0; count < WRITES; count++) {
            if (write(all.client, "x", 1) < 0)
                BROKEN("write failed without a signal: %s", strerrorname_np(errno));
            usleep(PAUSE_US);
        }
        BROKEN("%d writes to a closed peer succeeded", WRITES);
    }
    int status;
    OK(waitpid(pid, &status, 0));
    TRUE(WIFSIGNALED(status), "the writer is killed");
    EQUAL(WTERMSIG(status), SIGPIPE, "the signal that killed it");
}

static ssize_t send_quietly(int fd) { return send(fd, "x", 1, MSG_NOSIGNAL); }

static ssize_t send_message_quietly(int fd) {
    struct iovec part = {.iov_base = "x", .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

CASE(c_msg_nosignal) {
    ssize_t (*calls[])(int) = {send_quietly, send_message_quietly};
    signal(SIGPIPE, count_signal);
    for (int which = 0; which < 2; which++) {
        struct trio all = trio();
        OK(close(all.accepted));
        readable(all.client, "the end of the stream");
        int count = 0;
        while (count < WRITES && calls[which](all.client) == 1) {
            usleep(PAUSE_US);
            count++;
        }
        TRUE(count < WRITES, "sending to a closed peer fails");
        EQUAL(errno, EPIPE, "how it fails");
        FAILS(EPIPE, calls[which](all.client));
        EQUAL(signals, 0, "signals");
        trio_close(&all);
    }
}

/* What recvmsg says of the sender: nothing, or an inet address. */
static void no_path(const struct msghdr *message, const struct sockaddr_storage *name) {
    if (message->msg_namelen != 0) {
        EQUAL(name->ss_family, AF_INET, "family of the sender");
        EQUAL(message->msg_namelen, sizeof(struct sockaddr_in), "length of the sender's address");
    }
}

CASE(c_scatter_gather) {
    struct trio all = trio();
    struct iovec out[] = {{"scatter", 7}, {" and ", 5}, {"gather", 6}};
    char first[4], second[10], third[16];
    struct iovec in[] = {{first, 4}, {second, 10}, {third, 16}};
    EQUAL(writev(all.client, out, 3), 18, "writev");
    readable(all.accepted, "what writev sent");
    EQUAL(readv(all.accepted, in, 3), 18, "readv");
    TRUE(memcmp(first, "scat", 4) == 0 && memcmp(second, "ter and ga", 10) == 0 && memcmp(third, "ther", 4) == 0,
         "what readv scattered");
    int ends[][2] = {{all.client, all.accepted}, {all.accepted, all.client}};
    for (int way = 0; way < 2; way++) {
        struct sockaddr_storage name;
        struct msghdr sent = {.msg_iov = out, .msg_iovlen = 3};
        struct msghdr got = {.msg_iov = in, .msg_iovlen = 3, .msg_name = &name, .msg_namelen = sizeof name};
        memset(&name, 0, sizeof name);
        EQUAL(sendmsg(ends[way][0], &sent, 0), 18, "sendmsg");
        readable(ends[way][1], "what sendmsg sent");
        EQUAL(recvmsg(ends[way][1], &got, 0), 18, "recvmsg");
        TRUE(memcmp(first, "scat", 4) == 0 && memcmp(third, "ther", 4) == 0, "what recvmsg scattered");
        EQUAL(got.msg_flags, 0, "flags of recvmsg");
        EQUAL(got.msg_controllen, 0, "control data of recvmsg");
        no_path(&got, &name);
    }
}

/* Sizes that the compiler cannot see, so that it calls __recv_chk and its kind. */
static volatile size_t some = 8;

CASE(c_fortified_calls) {
    struct trio all = trio();
    char buffer[64];
    struct pollfd poll_fds[2] = {{.fd = all.accepted, .events = POLLIN}, {.fd = all.client, .events = POLLIN}};
    EQUAL(poll(poll_fds, some / 4, 0), 0, "poll before anything is sent");
    EQUAL(write(all.client, "recv....recvfromread....", 24), 24, "write");
    EQUAL(poll(poll_fds, some / 4, 2000), 1, "poll");
    EQUAL(poll_fds[0].revents, POLLIN, "what poll says");
    EQUAL(recv(all.accepted, buffer, some, 0), 8, "recv");
    TRUE(memcmp(buffer, "recv....", 8) == 0, "what recv read");
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    EQUAL(recvfrom(all.accepted, buffer, some, 0, (struct sockaddr *)&name, &length), 8, "recvfrom");
    TRUE(memcmp(buffer, "recvfrom", 8) == 0, "what recvfrom read");
    if (length != 0)
        EQUAL(name.ss_family, AF_INET, "family of the sender");
    EQUAL(read(all.accepted, buffer, some), 8, "read");
    TRUE(memcmp(buffer, "read....", 8) == 0, "what read read");
    FAILS(EAGAIN, recv(all.accepted, buffer, some, MSG_DONTWAIT));
    int fresh = tcp();
    FAILS(ENOTCONN, recv(fresh, buffer, some, 0));
    FAILS(ENOTCONN, recv(bound(free_port()), buffer, some, 0));
    FAILS(ENOTCONN, recvfrom(fresh, buffer, some, 0, (struct sockaddr *)&name, &length));
}

CASE(c_stdio) {
    struct trio all = trio();
    int port = all.port, listener = all.listener, numbers[] = {all.client, all.accepted};
    FILE *client = fdopen(all.client, "r+"), *server = fdopen(all.accepted, "r+");
    char line[64];
    TRUE(client && server, "fdopen");
    EQUAL(fprintf(client, "hello %d\n", 42), 9, "fprintf");
    OK(fflush(client));
    TRUE(fgets(line, sizeof line, server), "fgets");
    TRUE(strcmp(line, "hello 42\n") == 0, "what the server read");
    fputs("answer\n", server);
    OK(fflush(server));
    TRUE(fgets(line, sizeof line, client), "fgets");
    TRUE(strcmp(line, "answer\n") == 0, "what the client read");
    OK(fclose(client));
    TRUE(!fgets(line, sizeof line, server) && feof(server), "the end of the stream");
    OK(fclose(server));
    for (int which = 0; which < 2; which++) {
        int fresh = tcp();
        EQUAL(fresh, numbers[which], "the number is used again");
        is_fresh(fresh);
    }
    FILE *closing = fdopen(listener, "r");
    TRUE(closing, "fdopen of a listener");
    OK(fclose(closing));
    int fresh = tcp();
    EQUAL(fresh, listener, "the listener's number is used again");
    is_fresh(fresh);
    close(fresh);
    free_again(port);
}

CASE(c_mmsg) {
    struct trio all = trio();
    struct iovec parts[] = {{"one", 3}, {"two", 3}, {"three", 5}};
    struct mmsghdr messages[3] = {0};
    char buffer[16];
    for (int which = 0; which < 3; which++)
        messages[which].msg_hdr = (struct msghdr){.msg_iov = &parts[which], .msg_iovlen = 1};
    EQUAL(sendmmsg(all.client, messages, 3, 0), 3, "messages sent");
    for (int which = 0; which < 3; which++)
        EQUAL(messages[which].msg_len, parts[which].iov_len, "bytes of a message");
    receive(all.accepted, buffer, 11);
    TRUE(memcmp(buffer, "onetwothree", 11) == 0, "what arrives");
    /* An address is ignored on a connected stream. */
    struct sockaddr_in elsewhere = local4(free_port());
    messages[0].msg_hdr.msg_name = &elsewhere;
    messages[0].msg_hdr.msg_namelen = sizeof elsewhere;
    EQUAL(sendmmsg(all.accepted, messages, 2, 0), 2, "messages sent with an address");
    receive(all.client, buffer, 6);
    TRUE(memcmp(buffer, "onetwo", 6) == 0, "what arrives");
    /* MSG_FASTOPEN connects. */
    struct sockaddr_in server = local4(all.port);
    messages[0].msg_hdr.msg_name = &server;
    int client = tcp();
    EQUAL(sendmmsg(client, messages, 1, MSG_FASTOPEN), 1, "messages sent with MSG_FASTOPEN");
    int accepted = OK(accept(all.listener, NULL, NULL));
    receive(accepted, buffer, 3);
    TRUE(memcmp(buffer, "one", 3) == 0, "what arrives");
    conversation(client, accepted);
    /* And back by recvmmsg: one message on a stream is what there is. */
    struct sockaddr_storage name = {0};
    struct iovec room = {buffer, sizeof buffer};
    struct mmsghdr got = {
        .msg_hdr = {.msg_iov = &room, .msg_iovlen = 1, .msg_name = &name, .msg_namelen = sizeof name}};
    EQUAL(write(all.client, "back", 4), 4, "write");
    readable(all.accepted, "the bytes");
    EQUAL(recvmmsg(all.accepted, &got, 1, 0, NULL), 1, "recvmmsg");
    EQUAL(got.msg_len, 4, "bytes of the message");
    no_path(&got.msg_hdr, &name);
}

/* sendmmsg to a peer that has closed: what it takes first is taken, then it fails; and what the peer only does not
 * want to read is taken for good. */
CASE(c_mmsg_late) {
    signal(SIGPIPE, SIG_IGN);
    struct trio all = trio();
    struct iovec parts[] = {{"one", 3}, {"three", 5}, {"", 0}};
    struct mmsghdr messages[3] = {0};
    for (int which = 0; which < 3; which++)
        messages[which].msg_hdr = (struct msghdr){.msg_iov = &parts[which], .msg_iovlen = 1};
    OK(close(all.accepted));
    readable(all.client, "the end of the stream");
    EQUAL(sendmmsg(all.client, messages + 2, 1, MSG_NOSIGNAL), 1, "a message of nothing");
    int sent = OK(sendmmsg(all.client, messages, 2, MSG_NOSIGNAL));
    TRUE(sent >= 1, "the first message is taken");
    EQUAL(messages[0].msg_len, 3, "bytes of it");
    int count = 0;
    while (count < WRITES && sendmmsg(all.client, messages, 2, MSG_NOSIGNAL) > 0) {
        usleep(PAUSE_US);
        count++;
    }
    TRUE(count < WRITES, "sending to a closed peer fails");
    TRUE(errno == EPIPE || errno == ECONNRESET, "how it fails");
    FAILS(EPIPE, sendmmsg(all.client, messages, 2, MSG_NOSIGNAL));
    all = trio();
    OK(shutdown(all.accepted, SHUT_RD));
    for (count = 0; count < 10; count++)
        TRUE(sendmmsg(all.client, messages, 2, 0) > 0, "what the peer does not read is taken");
    /* Which errno a socket that is only bound has. */
    FAILS(EPIPE, sendmmsg(bound(free_port()), messages, 1, MSG_NOSIGNAL));
}

/* A page that ends where nothing may be read or written. */
static char *end_of_memory(void) {
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TRUE(pages != MAP_FAILED, "memory");
    OK(mprotect(pages + 4096, 4096, PROT_NONE));
    return pages + 4096;
}

/* The room for the sender's name is what the program says, down to none. TCP has no name to tell. */
CASE(c_name_room) {
    struct trio all = trio();
    char *end = end_of_memory(), byte;
    socklen_t rooms[] = {28, 16, 15, 3, 2, 1, 0};
    int ends[][2] = {{all.client, all.accepted}, {all.accepted, all.client}};
    for (int way = 0; way < 2; way++) {
        for (int which = 0; which < 7; which++) {
            socklen_t room = rooms[which];
            struct iovec part = {&byte, 1};
            struct mmsghdr got = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
            EQUAL(write(ends[way][0], "xyz", 3), 3, "bytes written");
            for (int call = 0; call < 3; call++) {
                readable(ends[way][1], "a byte");
                got.msg_hdr.msg_name = end - room;
                got.msg_hdr.msg_namelen = room;
                if (call == 0)
                    EQUAL(recvmsg(ends[way][1], &got.msg_hdr, 0), 1, "recvmsg");
                if (call == 1)
                    EQUAL(recvmmsg(ends[way][1], &got, 1, 0, NULL), 1, "recvmmsg");
                if (call == 2) {
                    got.msg_hdr.msg_namelen = room;
                    EQUAL(recvfrom(ends[way][1], &byte, 1, 0, (void *)(end - room), &got.msg_hdr.msg_namelen), 1,
                          "recvfrom");
                }
                EQUAL(got.msg_hdr.msg_namelen, 0, "length of the sender's name");
            }
        }
    }
}

/* Sends a descriptor to this very program, which gets it by recvmsg or by recvmmsg. */
static int passed(int fd, bool several) {
    int ends[2];
    char byte = 'x';
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))}};
    struct iovec part = {&byte, 1};
    struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                                          .msg_controllen = sizeof control}};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    /* High numbers: the ones below are for what is passed. */
    OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    int channel[] = {OK(fcntl(ends[0], F_DUPFD, 200)), OK(fcntl(ends[1], F_DUPFD, 200))};
    close(ends[0]);
    close(ends[1]);
    EQUAL(sendmsg(channel[0], &message.msg_hdr, 0), 1, "bytes sent with a descriptor");
    if (several)
        EQUAL(recvmmsg(channel[1], &message, 1, 0, NULL), 1, "recvmmsg");
    else
        EQUAL(recvmsg(channel[1], &message.msg_hdr, 0), 1, "recvmsg");
    EQUAL(control.header.cmsg_type, SCM_RIGHTS, "what came");
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    close(channel[0]);
    close(channel[1]);
    return fd;
}

/* A socket that comes by a message has its own options, and its other descriptor follows its bind, whatever socket had
 * the number before. */
CASE(c_passed_under_a_used_number) {
    for (int several = 0; several < 2; several++) {
        int own = OK(fcntl(tcp(), F_DUPFD, 100)), number = tcp(), idle = 33, port = free_port();
        struct sockaddr_in address = local4(port);
        OK(setsockopt(own, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle));
        OK(close(number));
        int got = passed(own, several);
        EQUAL(got, number, "the number is used again");
        OK(bind(got, (struct sockaddr *)&address, sizeof address));
        EQUAL(int_option(got, IPPROTO_TCP, TCP_KEEPIDLE), idle, "TCP_KEEPIDLE of what came");
        name_is(own, port);
        OK(listen(own, 8));
        served(got, port);
        close(own);
        served(got, port);
        close(got);
    }
}

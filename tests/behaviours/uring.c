/* Sockets without libc's functions for them: by number (syscall(2)), by the instruction itself, and by io_uring, without any
 * library of it. */
#include "kit.h"

#include <linux/io_uring.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* A ring with room for a few requests. */
struct ring {
    int fd;
    unsigned *tail, *mask, *array, *done_head, *done_tail, *done_mask;
    struct io_uring_sqe *requests;
    struct io_uring_cqe *done;
};

static void *map(int fd, size_t length, off_t what) {
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
    TRUE(at != MAP_FAILED, "a mapping of the ring");
    return at;
}

static struct ring ring_new(void) {
    struct io_uring_params params = {0};
    long fd = syscall(SYS_io_uring_setup, 8, &params);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EACCES))
        skip("no io_uring here");
    OK(fd);
    char *in = map((int)fd, params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    char *out = map((int)fd, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    return (struct ring){
        .fd = (int)fd,
        .tail = (unsigned *)(void *)(in + params.sq_off.tail),
        .mask = (unsigned *)(void *)(in + params.sq_off.ring_mask),
        .array = (unsigned *)(void *)(in + params.sq_off.array),
        .done_head = (unsigned *)(void *)(out + params.cq_off.head),
        .done_tail = (unsigned *)(void *)(out + params.cq_off.tail),
        .done_mask = (unsigned *)(void *)(out + params.cq_off.ring_mask),
        .requests = map((int)fd, params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES),
        .done = (struct io_uring_cqe *)(void *)(out + params.cq_off.cqes),
    };
}

/* Submits one request and waits for its result. */
static int ring_do(struct ring *ring, const struct io_uring_sqe *request) {
    unsigned tail = *ring->tail, slot = tail & *ring->mask;
    ring->requests[slot] = *request;
    ring->array[slot] = slot;
    __atomic_store_n(ring->tail, tail + 1, __ATOMIC_RELEASE);
    EQUAL(OK(syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0)), 1, "requests taken");
    unsigned head = *ring->done_head;
    TRUE(head != __atomic_load_n(ring->done_tail, __ATOMIC_ACQUIRE), "a result");
    int result = ring->done[head & *ring->done_mask].res;
    __atomic_store_n(ring->done_head, head + 1, __ATOMIC_RELEASE);
    return result;
}

CASE(c_io_uring_accept) {
    struct ring ring = ring_new();
    int port = free_port(), listener = listening(port);
    for (int round = 0; round < 2; round++) {
        int client = connected(port);
        struct sockaddr_storage peer = {0};
        socklen_t length = sizeof peer;
        struct io_uring_sqe request = {.opcode = IORING_OP_ACCEPT,
                                       .fd = listener,
                                       .addr = (unsigned long)&peer,
                                       .addr2 = (unsigned long)&length};
        int accepted = ring_do(&ring, &request);
        if (accepted < 0)
            BROKEN("accept: %s", strerrorname_np(-accepted));
        name_is(accepted, port);
        peer_is(accepted, own_port(client));
        conversation(client, accepted);
        EQUAL(peer.ss_family, AF_INET, "family of accept's peer");
        EQUAL(length, sizeof(struct sockaddr_in), "length of accept's peer");
        EQUAL(ntohs(((struct sockaddr_in *)&peer)->sin_port), own_port(client), "port of accept's peer");
        close(client);
        close(accepted);
    }
}

/* Listens, and connects to it, by a ring. */
CASE(c_io_uring_listen_and_connect) {
    struct ring ring = ring_new();
    int port = free_port(), listener = tcp(), client = tcp();
    struct sockaddr_in address = local4(port);
    /* Linux 6.11 */
    struct io_uring_sqe request = {.opcode = 56, .fd = listener, .addr = (unsigned long)&address, .addr2 = sizeof address};
    int result = ring_do(&ring, &request);
    if (result == -EINVAL)
        skip("no bind by io_uring here");
    EQUAL(result, 0, "bind");
    request = (struct io_uring_sqe){.opcode = 57, .fd = listener, .len = 64};
    EQUAL(ring_do(&ring, &request), 0, "listen");
    name_is(listener, port);
    request = (struct io_uring_sqe){.opcode = IORING_OP_CONNECT, .fd = client, .addr = (unsigned long)&address, .off = sizeof address};
    EQUAL(ring_do(&ring, &request), 0, "connect");
    int accepted = OK(accept(listener, NULL, NULL));
    peer_is(client, port);
    conversation(client, accepted);
    served(listener, port);
}

/* A system call by its number: libc's function, or the instruction. */
typedef long call(long number, long a, long b, long c, long d);

static long by_number(long number, long a, long b, long c, long d) { return syscall(number, a, b, c, d); }

static void by(call *call) {
    int port = free_port();
    struct sockaddr_in address = local4(port), name;
    socklen_t length = sizeof address;
    int listener = OK(call(SYS_socket, AF_INET, SOCK_STREAM, 0, 0));
    OK(call(SYS_bind, listener, (long)&address, sizeof address, 0));
    FAILS(EADDRINUSE, call(SYS_bind, tcp(), (long)&address, sizeof address, 0));
    FAILS(EFAULT, call(SYS_bind, tcp(), 8, sizeof address, 0));
    OK(call(SYS_listen, listener, 64, 0, 0));
    OK(call(SYS_getsockname, listener, (long)&name, (long)&length, 0));
    EQUAL(ntohs(name.sin_port), port, "port of the listener");
    for (int round = 0; round < 2; round++) {
        int client = OK(call(SYS_socket, AF_INET, SOCK_STREAM, 0, 0));
        OK(call(SYS_connect, client, (long)&address, sizeof address, 0));
        length = sizeof name;
        int accepted = OK(round ? call(SYS_accept4, listener, (long)&name, (long)&length, SOCK_CLOEXEC)
                                : call(SYS_accept, listener, (long)&name, (long)&length, 0));
        EQUAL(name.sin_family, AF_INET, "family of accept's peer");
        EQUAL(ntohs(name.sin_port), own_port(client), "port of accept's peer");
        length = sizeof name;
        OK(call(SYS_getpeername, client, (long)&name, (long)&length, 0));
        EQUAL(ntohs(name.sin_port), port, "port of the client's peer");
        conversation(client, accepted);
        close(client);
        close(accepted);
    }
    /* Others meet it. */
    served(listener, port);
    close(listener);
    free_again(port);
}

CASE(c_system_calls_by_number) { by(by_number); }

#ifdef __x86_64__
static long by_instruction(long number, long a, long b, long c, long d) {
    long result;
    register long fourth __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth)
                     : "rcx", "r11", "memory");
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

CASE(c_system_calls_by_instruction) { by(by_instruction); }
#endif

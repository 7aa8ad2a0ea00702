/* accept through io_uring, by raw system calls: no library of it is needed. */
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
        skip("the kernel gives no io_uring");
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

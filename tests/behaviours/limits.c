/* Cases on the limit of descriptors (getrlimit(2)): a number that a program got before it lowered the limit stays
 * good, and nothing that it opens is closed by anybody else. */
#include "kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

static int moved_to(int fd, int number) {
    EQUAL(dup2(fd, number), number, "dup2");
    OK(close(fd));
    return number;
}

static void lowered(int soft, int hard) {
    struct rlimit limit;
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = (rlim_t)soft;
    if (hard)
        limit.rlim_max = (rlim_t)hard;
    OK(setrlimit(RLIMIT_NOFILE, &limit));
}

static void limit_is(rlim_t soft) {
    struct rlimit limit;
    OK(getrlimit(RLIMIT_NOFILE, &limit));
    EQUAL(limit.rlim_cur, soft, "the limit of descriptors");
}

CASE(c_numbers_above_a_lowered_limit) {
    int port = free_port(), listener = moved_to(tcp(), 700), client = moved_to(tcp(), 701);
    struct sockaddr_in address = local4(port);
    lowered(64, 0);
    OK(bind(listener, (struct sockaddr *)&address, sizeof address));
    name_is(listener, port);
    OK(listen(listener, 8));
    OK(connect(client, (struct sockaddr *)&address, sizeof address));
    int accepted = OK(accept(listener, NULL, NULL));
    peer_is(accepted, own_port(client));
    conversation(client, accepted);
    /* A second bind of the port in use fails as ever. */
    FAILS(EADDRINUSE, bind(tcp(), (struct sockaddr *)&address, sizeof address));
    limit_is(64);
}

static atomic_bool at_work = true;

/* A file that this program has opened is closed by nobody else. */
static void *opens(void *unused) {
    (void)unused;
    while (atomic_load_explicit(&at_work, memory_order_relaxed)) {
        int fd = OK(open("/dev/null", O_RDONLY | O_CLOEXEC));
        OK(fcntl(fd, F_GETFD));
        OK(close(fd));
    }
    return NULL;
}

CASE(c_limit_closes_nothing_of_others) {
    pthread_t threads[2];
    int numbers[300];
    for (int index = 0; index < 300; index++)
        numbers[index] = moved_to(tcp(), 500 + index);
    /* Below the numbers there are, for good. */
    lowered(64, 64);
    for (int index = 0; index < 2; index++)
        OK(-pthread_create(&threads[index], NULL, opens, NULL));
    for (int index = 0; index < 300; index++) {
        struct sockaddr_in address = local4(0);
        OK(bind(numbers[index], (struct sockaddr *)&address, sizeof address));
        TRUE(own_port(numbers[index]) > 0, "a port");
        OK(close(numbers[index]));
    }
    atomic_store(&at_work, false);
    for (int index = 0; index < 2; index++)
        OK(-pthread_join(threads[index], NULL));
}

static atomic_int turn, limit_set;
static _Atomic double took;

/* In each turn sets one limit, at another moment of what the bind takes. */
static void *sets_limits(void *unused) {
    (void)unused;
    for (int known = 0;; known++) {
        while (atomic_load(&turn) == known)
            ;
        if (atomic_load(&turn) < 0)
            return NULL;
        double moment = now() + atomic_load(&took) * (known * 377 % 1000) / 1000;
        while (now() < moment)
            ;
        lowered(80 + known % 100, 0);
        atomic_store(&limit_set, known + 1);
    }
}

/* A limit that one thread sets holds, while another binds a socket whose number is beyond it. */
CASE(c_limit_set_meanwhile) {
    pthread_t thread;
    double end = now() + 4;
    OK(-pthread_create(&thread, NULL, sets_limits, NULL));
    for (int round = 0; round < 5000 && now() < end; round++) {
        struct sockaddr_in address = local4(0);
        int fd = moved_to(tcp(), 500);
        lowered(64, 0);
        atomic_store(&turn, round + 1);
        double start = now();
        OK(bind(fd, (struct sockaddr *)&address, sizeof address));
        atomic_store(&took, now() - start);
        while (atomic_load(&limit_set) == round)
            ;
        limit_is(80 + (rlim_t)(round % 100));
        OK(close(fd));
        lowered(1024, 0);
    }
    atomic_store(&turn, -1);
    OK(-pthread_join(thread, NULL));
}

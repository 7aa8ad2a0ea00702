/* Cases on threads, and on the beginning and the end of a process. */
#include "kit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

static atomic_bool stop;

/* A listener, a client and an accepted connection on port 0, all used and closed. The connection is reset at
 * the end, or thousands of finished ones would stay behind. */
static void use_sockets(void) {
    struct sockaddr_in address = local4(0), peer;
    socklen_t length = sizeof address;
    int listener = tcp(), client = tcp();
    OK(bind(listener, (struct sockaddr *)&address, sizeof address));
    OK(listen(listener, 5));
    OK(getsockname(listener, (struct sockaddr *)&address, &length));
    TRUE(address.sin_family == AF_INET && address.sin_port, "the listener's name");
    OK(connect(client, (struct sockaddr *)&address, sizeof address));
    length = sizeof peer;
    int accepted = OK(accept(listener, (struct sockaddr *)&peer, &length));
    EQUAL(ntohs(peer.sin_port), own_port(client), "port of accept's peer");
    conversation(client, accepted);
    reset_on_close(client);
    OK(close(OK(dup(listener))));
    OK(close(client));
    OK(close(accepted));
    OK(close(listener));
}

static void *busy(void *unused) {
    while (!stop)
        use_sockets();
    return unused;
}

static void start(pthread_t *threads, int count, void *(*function)(void *), void *argument) {
    for (int which = 0; which < count; which++)
        EQUAL(pthread_create(&threads[which], NULL, function, argument), 0, "pthread_create");
}

static void *accept_one(void *listener) {
    int accepted = OK(accept(*(int *)listener, NULL, NULL));
    OK(close(accepted));
    return NULL;
}

CASE(c_thread_blocked_accept) {
    int port = free_port(), listener = listening(port), ends[2];
    pthread_t thread;
    start(&thread, 1, accept_one, &listener);
    usleep(50 * 1000); /* The thread waits in accept. */
    double before = now();
    for (int round = 0; round < 200; round++) {
        use_sockets();
        OK(close(OK(dup(listener))));
        OK(pipe(ends));
        OK(close(ends[0]));
        OK(close(ends[1]));
        name_is(listener, port);
    }
    TRUE(now() - before < 2, "200 rounds beside a waiting accept within 2 s");
    EQUAL(pthread_tryjoin_np(thread, NULL), EBUSY, "the thread still waits");
    int client = connected(port);
    EQUAL(pthread_join(thread, NULL), 0, "the thread ends");
    close(client);
}

CASE(c_threads_during_exit) {
    for (int round = 0; round < 30; round++) {
        pid_t pid = OK(fork());
        if (pid == 0) {
            pthread_t threads[4];
            alarm(5);
            start(threads, 4, busy, NULL);
            usleep((useconds_t)(500 + round * 200));
            exit(0);
        }
        ended_well(pid, "a process that ends while its threads use sockets");
    }
}

CASE(c_thread_fork) {
    pthread_t threads[3];
    start(threads, 3, busy, NULL);
    for (int round = 0; round < 100; round++) {
        pid_t pid = OK(fork());
        if (pid == 0) {
            alarm(5);
            use_sockets();
            _exit(0);
        }
        ended_well(pid, "a child of a process with threads");
    }
    stop = true;
    for (int which = 0; which < 3; which++)
        EQUAL(pthread_join(threads[which], NULL), 0, "a thread ends");
}

static int constructor_rounds;

/* glibc gives constructors the arguments of main. */
__attribute__((constructor)) static void before_main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "c_constructor") == 0)
        for (; constructor_rounds < 3; constructor_rounds++)
            use_sockets();
}

CASE(c_constructor) {
    EQUAL(constructor_rounds, 3, "rounds of the constructor");
    use_sockets();
}

static int atexit_port, atexit_listener, atexit_report;

static void after_main(void) {
    use_sockets();
    served(atexit_listener, atexit_port);
    OK(close(atexit_listener));
    free_again(atexit_port);
    EQUAL(write(atexit_report, "done", 4), 4, "the report");
}

CASE(c_atexit) {
    int report[2];
    char word[4];
    OK(pipe(report));
    pid_t pid = OK(fork());
    if (pid == 0) {
        alarm(5);
        atexit_report = report[1];
        atexit_listener = listening(atexit_port = free_port());
        EQUAL(atexit(after_main), 0, "atexit");
        exit(0);
    }
    ended_well(pid, "a process whose handler uses sockets");
    receive(report[0], word, 4);
    TRUE(memcmp(word, "done", 4) == 0, "the handler's report");
}

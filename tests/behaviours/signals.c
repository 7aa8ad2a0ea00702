/* Cases on signals that arrive in the middle of a bind, which POSIX lists as async-signal-safe. */
#include "kit.h"
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

static void every(long first, long next) {
    struct itimerval timer = {.it_interval.tv_usec = next, .it_value.tv_usec = first};
    OK(setitimer(ITIMER_REAL, &timer, NULL));
}

static void on_alarm(void (*handler)(int)) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    OK(sigaction(SIGALRM, &action, NULL));
}

static volatile sig_atomic_t handler_port, handled, failed, armed;

static void binds(int signal) {
    (void)signal;
    int before = errno, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = local4(handler_port);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0)
        failed++;
    close(fd);
    handled++;
    armed = 0;
    errno = before;
}

/* A handler may bind while it interrupts a bind. Each alarm is set after the one before was handled: where a bind takes
 * longer than the time between two alarms, the handler alone would run. */
CASE(c_bind_in_a_handler) {
    int port = free_port();
    handler_port = free_port();
    on_alarm(binds);
    for (int round = 0; round < 1500 || (handled < 100 && round < 100000); round++) {
        if (!armed) {
            armed = 1;
            every(20 + round % 200, 0);
        }
        close(listening(port));
    }
    every(0, 0);
    TRUE(handled >= 100, "the handler ran");
    EQUAL(failed, 0, "binds of the handler that failed");
}

static sigjmp_buf out;
static volatile sig_atomic_t current = -1;

static void leaves(int signal) {
    (void)signal;
    siglongjmp(out, 1);
}

/* A handler may leave a bind by siglongjmp: nothing stays locked. */
CASE(c_jump_out_of_a_bind) {
    static volatile int jumps;
    int port = free_port();
    on_alarm(leaves);
    while (jumps < 500) {
        if (sigsetjmp(out, 1) != 0) {
            jumps++;
            if (current >= 0)
                close(current);
            current = -1;
            continue;
        }
        every(50 + jumps % 200, 0);
        for (;;) {
            struct sockaddr_in address = local4(port);
            current = socket(AF_INET, SOCK_STREAM, 0);
            if (bind(current, (struct sockaddr *)&address, sizeof address) == 0)
                listen(current, 8);
            // In this order: a jump between the two closes a number that is closed, and never leaves the port taken.
            close(current);
            current = -1;
        }
    }
    every(0, 0);
    double start = now();
    close(listening(port));
    TRUE(now() - start < 3, "a bind after it is not held up");
}

/* Cases on the environment of programs that start others: it is the program's own, at every moment. */
#include "kit.h"

#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

extern char **environ;

/* A program with an environment of its own, of which nothing was inherited but the way to programs. */
static char **own_environment(void) {
    const char *path = getenv("PATH");
    char *kept = path ? strdup(path) : NULL;
    OK(clearenv());
    if (kept)
        OK(setenv("PATH", kept, 1));
    free(kept);
    OK(setenv("OWN", "yes", 1));
    return environ;
}

static void is_own(char **own) {
    TRUE(environ == own, "environ is where it was");
    const char *value = getenv("OWN");
    TRUE(value && strcmp(value, "yes") == 0, "a variable of the program's own");
    int count = 0;
    for (char **entry = environ; *entry; entry++)
        count += strlen(*entry) > 0;
    TRUE(count == 1 || count == 2, "as many variables as were set");
}

/* Where this program is. */
static const char *self(void) {
    static char path[4096];
    ssize_t length = OK(readlink("/proc/self/exe", path, sizeof path - 1));
    path[length] = 0;
    return path;
}

/* `asks PORT`: a client of an echo server. */
PROGRAM(asks) {
    echoed(atoi(arguments[0]));
    return 0;
}

/* Serves the clients that come to `listener` for good. */
static void *serves(void *listener) {
    for (;;)
        echo_once(*(int *)listener);
    return NULL;
}

CASE(c_vfork_execvp_keeps_environ) {
    char **own = own_environment(), *search[] = {"true", NULL}, *missing[] = {"no-such-program", NULL};
    for (int round = 0; round < 3; round++) {
        char **arguments = round == 1 ? missing : search;
        pid_t pid = OK(vfork());
        if (pid == 0) {
            execvp(arguments[0], arguments);
            _exit(errno == ENOENT ? 0 : 1);
        }
        is_own(own);
        ended_well(pid, "the child");
        is_own(own);
    }
}

static atomic_bool at_work = true;
static char **expected;

static void *watches(void *unused) {
    (void)unused;
    while (atomic_load_explicit(&at_work, memory_order_relaxed)) {
        TRUE(*(char **volatile *)&environ == expected, "environ is where it was, to another thread");
        TRUE(getenv("OWN"), "a variable of the program's own, to another thread");
    }
    return NULL;
}

CASE(c_system_beside_getenv) {
    expected = own_environment();
    pthread_t thread;
    OK(-pthread_create(&thread, NULL, watches, NULL));
    for (int round = 0; round < 40; round++) {
        EQUAL(system("test \"$OWN\" = yes"), 0, "status of system");
        FILE *output = popen("echo $OWN", "r");
        char line[16] = "";
        TRUE(output && fgets(line, sizeof line, output), "output of popen");
        EQUAL(pclose(output), 0, "status of pclose");
        TRUE(strcmp(line, "yes\n") == 0, "what popen read");
    }
    atomic_store(&at_work, false);
    OK(-pthread_join(thread, NULL));
    is_own(expected);
}

CASE(c_shell_of_own_environment) {
    int port = free_port(), listener = listening(port);
    pthread_t thread;
    OK(-pthread_create(&thread, NULL, serves, &listener));
    char **own = own_environment(), command[8192];
    TRUE(system(NULL), "there is a shell");
    EQUAL(system(""), 0, "status of nothing");
    EQUAL(system("exit 7"), 7 << 8, "a status");
    EQUAL(system("kill -9 $$"), 9, "a signal");
    EQUAL(system("# only a comment"), 0, "status of a comment");
    EQUAL(system("true; false && 'not' \"it's\" \\'"), 1 << 8, "quotes");
    EQUAL(system("test $# = 0 && test \"$OWN\" = yes"), 0, "parameters of the shell");
    EQUAL(system("exec 2>/dev/null\nif ("), 2 << 8, "a syntax error on the second line");
    snprintf(command, sizeof command, "'%s' --program asks %d", self(), port);
    EQUAL(system(command), 0, "status of a client that the shell starts");
    FILE *stream = popen(command, "r");
    TRUE(stream, "popen");
    EQUAL(pclose(stream), 0, "status of a client that popen starts");
    TRUE(!popen("true", "x"), "popen of an unknown mode");
    stream = popen("read line; test \"$line\" = told", "w");
    TRUE(stream && fputs("told\n", stream) >= 0, "popen to write");
    EQUAL(pclose(stream), 0, "status of a reader");
    memset(command, ' ', sizeof command);
    memcpy(command + 4000, "exit 5", 6);
    command[sizeof command - 1] = 0;
    EQUAL(system(command), 5 << 8, "status of a long command");
    is_own(own);
}

static void *spawns(void *unused) {
    (void)unused;
    static char names[300][16], *environment[301], *arguments[] = {"true", NULL};
    for (int index = 0; index < 300; index++) {
        snprintf(names[index], sizeof names[index], "V%d=%d", index, index);
        environment[index] = names[index];
    }
    for (int searched = 0; searched < 2; searched++) {
        pid_t pid;
        EQUAL((searched ? posix_spawnp : posix_spawn)(&pid, "/bin/true", NULL, NULL, arguments, environment), 0, "spawn");
        ended_well(pid, "the child of a small thread");
    }
    /* The other ways to start a program, with the process's own environment. */
    environ = environment;
    EQUAL(system("exit 3"), 3 << 8, "status of system");
    FILE *output = popen("exit 4", "r");
    TRUE(output, "popen");
    EQUAL(pclose(output), 4 << 8, "status of pclose");
    for (int how = 0; how < 4; how++) {
        pid_t pid = OK(fork());
        if (pid == 0) {
            if (how == 0)
                execve("/bin/true", arguments, environment);
            else if (how == 1)
                execv("/bin/true", arguments);
            else if (how == 2)
                execvp("true", arguments);
            else
                execl("/bin/true", "true", NULL);
            _exit(1);
        }
        ended_well(pid, "a child that executes on a small stack");
    }
    return NULL;
}

/* A thread with a stack of 32 KB has room for what it takes to start a program, whatever the size of the environment. */
CASE(c_spawn_on_a_small_stack) {
    pthread_attr_t attributes;
    pthread_t thread;
    OK(-pthread_attr_init(&attributes));
    OK(-pthread_attr_setstacksize(&attributes, 32768));
    OK(-pthread_create(&thread, &attributes, spawns, NULL));
    OK(-pthread_join(thread, NULL));
}

/* execveat(2) by path, by folder and by descriptor alone. */
CASE(c_execveat) {
    for (int how = 0; how < 3; how++) {
        int port = free_port(), listener = listening(port);
        char number[12], *arguments[] = {"ccases", "--program", "asks", number, NULL}, *environment[] = {"OWN=yes", NULL};
        snprintf(number, sizeof number, "%d", port);
        char folder[4096];
        snprintf(folder, sizeof folder, "%s", self());
        char *slash = strrchr(folder, '/');
        *slash = 0;
        pid_t pid = OK(fork());
        if (pid == 0) {
            if (how == 0)
                execveat(-1, self(), arguments, environment, 0);
            else if (how == 1)
                execveat(OK(open(folder, O_PATH | O_CLOEXEC)), slash + 1, arguments, environment, 0);
            else
                execveat(OK(open(self(), O_PATH | O_CLOEXEC)), "", arguments, environment, AT_EMPTY_PATH);
            BROKEN("execveat: %s", strerrorname_np(errno));
        }
        echo_once(listener);
        ended_well(pid, "the client");
        close(listener);
    }
}

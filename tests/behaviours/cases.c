/* Plain TCP programs, one per promise that TCP makes on Linux, of the kind that only C programs write.
 *
 *     ccases NAME                     runs one case: exit status 0 kept, 77 skipped, else broken
 *     ccases --list                   the names, one a line
 *     ccases --program NAME ARGS...   what cases execute; not to be started by hand
 *
 * Owns the entry; the cases live in the files beside it. Linux, glibc. */
#include "kit.h"

extern const struct entry __start_cases[], __stop_cases[];
extern const struct program __start_programs[], __stop_programs[];

int main(int count, char **arguments) {
    const char *name = count > 1 ? arguments[1] : "";
    if (strcmp(name, "--list") == 0) {
        for (const struct entry *entry = __start_cases; entry < __stop_cases; entry++)
            puts(entry->name);
        return 0;
    }
    if (count > 2 && strcmp(name, "--program") == 0) {
        for (const struct program *program = __start_programs; program < __stop_programs; program++)
            if (strcmp(arguments[2], program->name) == 0)
                return program->run(arguments + 3);
    }
    for (const struct entry *entry = __start_cases; entry < __stop_cases; entry++) {
        if (strcmp(name, entry->name) == 0) {
            entry->run();
            return 0;
        }
    }
    fprintf(stderr, "usage: ccases NAME | --list | --program NAME ARGUMENTS\n");
    return 2;
}

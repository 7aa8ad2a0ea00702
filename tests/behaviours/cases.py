#!/usr/bin/env python3
"""Plain TCP programs, one per promise that TCP makes on Linux.

    cases.py NAME                     runs one case: exit status 0 kept, 77 skipped, else broken
    cases.py --list                   the names, one a line
    cases.py --program NAME ARGS...   what cases execute; not to be started by hand

Python 3.11, standard library only. Owns the entry; the cases live in the modules beside it.
"""
import sys

import addresses  # noqa: F401: each module registers its cases
import data  # noqa: F401
import descriptors  # noqa: F401
import ends  # noqa: F401
import errors  # noqa: F401
import events  # noqa: F401
import kit
import lifecycle  # noqa: F401
import options  # noqa: F401
import processes  # noqa: F401
import room  # noqa: F401

SKIPPED = 77


def run(name):
    function, v6, root = kit.CASES[name]
    try:
        if v6 and not kit.has_v6():
            raise kit.Skip('no ::1 here')
        if root and kit.os.geteuid() != 0:
            raise kit.Skip('needs root')
        function()
    except kit.Skip as reason:
        print(f'WHY: {reason}')
        return SKIPPED
    except Exception as error:  # noqa: BLE001: whatever breaks the promise is the report
        lines = []
        trace = error.__traceback__
        while trace:
            lines.append(trace.tb_lineno)
            trace = trace.tb_next
        print(f'WHY: {type(error).__name__}: {error} (lines {lines[1:]})')
        return 1
    return 0


def main(arguments):
    if arguments == ['--list']:
        print('\n'.join(kit.CASES))
        return 0
    if arguments[:1] == ['--program'] and arguments[1:2] and arguments[1] in kit.PROGRAMS:
        return kit.PROGRAMS[arguments[1]](*arguments[2:])
    if len(arguments) == 1 and arguments[0] in kit.CASES:
        return run(arguments[0])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Runs every case in a process group of its own, natively or under a command prefix.

    run.py [--jobs N] [--only REGEX] [--timeout SECONDS] [--list] [--verbose] [PREFIX ...]

    run.py                            natively: everything must pass
    run.py --jobs 4 agentfs -q wrap --new --   each case runs as: agentfs -q wrap --new -- COMMAND

Each case says `ok NAME`, `FAIL NAME: why` or `skip NAME: why`; the last line is `N passed, N failed`, with
`, N skipped` where some were. Exit status 0 only when nothing failed. The C cases are compiled first, with
`$CC` (default cc), into a private folder; with --static so that they load no library, and only they are run.
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import kit

HERE = Path(__file__).resolve().parent
SKIPPED = 77
C_FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2', '-pthread']


# musl-gcc knows only the headers of musl itself; those of the kernel come after them.
STATIC_FLAGS = ['-static', '-w', *[word for folder in ('', f'/{os.uname().machine}-linux-gnu')
                                   for word in ('-idirafter', f'/usr/include{folder}')]]

# Cases that a static program of musl's fails without anything else: it loads no library, accept4 takes any flags.
NOT_STATIC = '^c_(dlvsym|library.*|accept4_flags|constructor)$'


def compiled(folder, more):
    binary = folder / 'ccases'
    sources = sorted(str(source) for source in HERE.glob('*.c'))
    subprocess.run([os.environ.get('CC', 'cc'), *C_FLAGS, *more, '-o', str(binary), *sources], check=True)
    return str(binary)


def listed(command):
    output = subprocess.run([*command, '--list'], stdout=subprocess.PIPE, check=True, text=True).stdout
    return [(name, [*command, name]) for name in output.split()]


def end_group(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass  # everybody in it has ended already


def run_case(command, timeout, ports):
    """Runs one case; its verdict, the reason, and all that it wrote."""
    environment = {**os.environ, 'BEHAVIOURS_PORTS': ports}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                   env=environment, start_new_session=True)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        end_group(process.pid)
        process.wait()
        output.seek(0)
        text = output.read().decode(errors='replace')
    lines = [line for line in text.splitlines() if line.strip()]
    reasons = [line[5:] for line in lines if line.startswith('WHY: ')]
    why = '; '.join(reasons) or (lines[-1] if lines else 'it said nothing')
    if status == 0:
        return 'ok', '', text
    if status == SKIPPED:
        return 'skip', why, text
    if status is None:
        return 'FAIL', f'still running after {timeout:g} s' + (f': {why}' if lines else ''), text
    if status < 0:
        return 'FAIL', f'killed by {signal.Signals(-status).name}' + (f': {why}' if lines else ''), text
    return 'FAIL', f'{why} (exit status {status})', text


def slices(count):
    """Ranges of ports that do not overlap, one for each case at work."""
    first, last = kit.port_range()
    size = (last - first + 1) // count
    queue = SimpleQueue()
    for index in range(count):
        start = first + index * size
        queue.put(f'{start}-{start + size - 1}')
    return queue


def arguments():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('--only', default='')
    parser.add_argument('--timeout', type=float, default=12)
    parser.add_argument('--list', action='store_true')
    parser.add_argument('--static', action='store_true')
    parser.add_argument('--verbose', action='store_true', help='print all that a failing case wrote')
    parser.add_argument('prefix', nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.prefix[:1] == ['--']:
        del given.prefix[0]
    return given


def main():
    given = arguments()
    with tempfile.TemporaryDirectory(prefix='behaviours-') as folder:
        cases = listed([compiled(Path(folder), STATIC_FLAGS if given.static else [])])
        if given.static:
            cases = [case for case in cases if not re.search(NOT_STATIC, case[0])]
        else:
            cases = listed([sys.executable, str(HERE / 'cases.py')]) + cases
        cases = [case for case in cases if re.search(given.only, case[0])]
        if given.list:
            print('\n'.join(name for name, _ in cases))
            return 0
        # The cases that change their user must be able to read the binary they execute.
        os.chmod(folder, 0o755)
        free = slices(given.jobs)

        def work(item):
            name, command = item
            ports = free.get()
            try:
                return name, *run_case([*given.prefix, *command], given.timeout, ports)
            finally:
                free.put(ports)

        counts = {'ok': 0, 'FAIL': 0, 'skip': 0}
        with ThreadPoolExecutor(given.jobs) as pool:
            for name, verdict, why, text in pool.map(work, cases):
                counts[verdict] += 1
                print(f'{verdict} {name}' + (f': {why}' if why else ''), flush=True)
                if verdict == 'FAIL' and given.verbose:
                    print(''.join(f'    {line}\n' for line in text.splitlines()[-40:]), end='')
    skipped = f', {counts["skip"]} skipped' if counts['skip'] else ''
    print(f'{counts["ok"]} passed, {counts["FAIL"]} failed{skipped}')
    return 1 if counts['FAIL'] else 0


if __name__ == '__main__':
    sys.exit(main())

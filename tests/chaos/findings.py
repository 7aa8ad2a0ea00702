"""Judges what happened: which failures a fault excuses, which are violations.

A failure is excused only by a fault that was at work while the call ran, or had ended less than `SETTLE` before
it began. What each fault excuses, and why that is right, stands in `EXCUSES`; everything else is a violation.
In particular no fault excuses an answer of another instance (but for one that TCP itself gives), a hang, or a
limit of descriptors that we needed more of than TCP does; and killing the collector excuses nothing but an
unanswered router.
"""
import collections
import json
import time

# Seconds after a fault in which the collector brings everything back.
SETTLE = 2.0
# Age of a listener below which an emptied run dir may take its name for good.
YOUNG = 1.0
# What shows that a listener has no name.
LOST = {('connect', 'ECONNREFUSED'), ('router', '404'), ('router', '502'), ('router', '503')}
# Violations that are printed; the log has all.
SHOWN = 20
# Violations after which the run ends.
HOPELESS = 200

# fault → calls and errnos that it excuses; `*` stands for any errno.
EXCUSES = {
    # Nobody listens on the router's port until the next command.
    'kill collector': {'router connect': {'ECONNREFUSED'}, 'router exchange': {'*'}, 'router': {'empty', '404', '502', '503'}},
    # A listener without a name cannot be found until the collector has put it back; what then is bound
    # meanwhile does not see it.
    'empty run dir': {'connect': {'ECONNREFUSED'}, 'any connect': {'ECONNREFUSED'}, 'router': {'404', '502', '503'}},
    # The programs open the folder again themselves.
    'lock run dir': {'router': {'404', '502', '503'}},
    # A name that cannot be made sends the bind to the host, unchanged, where two copies do collide: the one
    # thing that agentfs cannot help without a name. The program gets TCP's own errno. A connect is not led to the
    # host's port where the port was the instance's own: a server that was started anew meanwhile is not reached.
    'fill disk': {'bind': {'EADDRINUSE'}, 'connect': {'ECONNREFUSED'}, 'connect to nobody': {'*'}, 'router': {'404', '502', '503'}},
    # The router cannot accept, or reach the instance, until a descriptor is free.
    'starve collector': {'router connect': {'*'}, 'router exchange': {'*'}, 'router': {'empty', '404', '502', '503'}},
}
# wrap refuses to start a program that it cannot name: these faults excuse that, and the words it must say.
REFUSALS = {'fill disk': 'space', 'lock run dir': 'ermission'}
# The router learns of a listener a moment after it is up.
ROUTED = 1.0


class Findings:
    def __init__(self, home, log):
        self.home, self.log = home, log
        self.faults = []          # [name, began, ended or None]
        self.violations = []
        self.excused = collections.Counter()
        self.counts = collections.Counter()
        # Instances that `agentfs stop` was told to end: the router leaves them out first.
        self.leaving = set()
        self.refused = 0
        self.read_to = 0
        # Failures that wait for the end of the fault that may excuse them.
        self.began = time.monotonic()

    # --- faults

    def fault_begins(self, name):
        self.note(f'fault: {name}')
        self.faults.append([name, time.monotonic(), None])

    def fault_ends(self):
        self.faults[-1][2] = time.monotonic()
        self.note(f'fault ends: {self.faults[-1][0]}')

    def at_work(self, began, ended):
        """The faults that a call between these times may have met."""
        return {name for name, start, end in self.faults
                if start <= ended and (end is None or end + SETTLE >= began)}

    def was_too_young(self, up):
        """Whether the run dir was emptied before the collector gave a listener its second name: then its name is
        lost for good. Nobody can find what has no name; it has to be started again."""
        return any(name == 'empty run dir' and start - YOUNG <= up <= (end or start) for name, start, end in self.faults)

    # --- words

    def note(self, text):
        self.log.write(f'{time.monotonic() - self.began:8.2f} {text}\n')
        self.log.flush()

    def violation(self, text):
        self.violations.append(text)
        self.note(f'VIOLATION {text}')
        if len(self.violations) <= SHOWN:
            print(f'VIOLATION at {time.monotonic() - self.began:.2f} s: {text}', flush=True)

    def hopeless(self):
        """Whether so much went wrong that more of it says nothing."""
        return len(self.violations) >= HOPELESS

    # --- what programs report

    def read_reports(self):
        with open(self.home.reports, 'rb') as file:
            file.seek(self.read_to)
            for line in file:
                if not line.endswith(b'\n'):
                    break
                self.read_to += len(line)
                self.judge(json.loads(line))

    def judge(self, report):
        if report['kind'] == 'count':
            self.counts.update(report['counts'])
            return
        facts = ' '.join(f'{key}={value}' for key, value in report.items() if key not in ('t', 'began'))
        took = f'{report["began"] - self.began:.2f}…{report["t"] - self.began:.2f} s'
        if report['kind'] == 'wrong' and report.get('server') == 'shared' and \
                'fill disk' in self.at_work(report['began'], report['t']):
            # On the host, TCP shares connections among all that set SO_REUSEPORT.
            self.excused['fill disk: another member of SO_REUSEPORT'] += 1
            return None
        if report['kind'] != 'error':
            return self.violation(f'{facts} ({took})')
        call, number = report['call'], report['errno']
        if call == 'router' and number in ('404', '502', '503') and report['who'] in self.leaving:
            self.excused[f'about to be stopped: router {number}'] += 1
            return None
        if call == 'router' and number in ('404', '502', '503') and report['began'] - report['up'] < ROUTED:
            self.excused[f'a fresh listener: router {number}'] += 1
            return None
        if (call, number) in LOST and self.was_too_young(report['up']):
            self.excused['empty run dir: a listener too young to be kept'] += 1
            return None
        for fault in self.at_work(report['began'], report['t']):
            numbers = EXCUSES.get(fault, {}).get(call, ())
            if number in numbers or '*' in numbers:
                self.excused[f'{fault}: {call} {number}'] += 1
                self.note(f'excused by {fault}: {facts} ({took})')
                return None
        return self.violation(f'{facts} ({took})')

    def wrap_ended(self, instance, status, said):
        """A program that was to run on has ended."""
        for fault in self.at_work(instance.began, time.monotonic()):
            if status and REFUSALS.get(fault, '\0') in said:
                self.refused += 1
                self.note(f'refused to start, excused by {fault}: {said}')
                return
        self.violation(f'{instance.app}/{instance.name} ({instance.kind}) ended by itself with status {status}: {said}')

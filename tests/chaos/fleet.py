"""The wrapped instances: starts them, lets them live a random time, ends them in one of several ways."""
import collections
import random
import shutil
import signal
import tempfile
import time

import home as homes

APPS = ['shop', 'blog', 'mail', 'bank']
# A third of the instances is served by the seccomp engine.
ENGINES = ['auto', 'auto', 'seccomp']
# Seconds that an instance lives.
LIFE = (4.0, 30.0)
# Seconds until what is left of an instance whose program was killed is ended too.
AFTERLIFE = (0.5, 2.0)


class Instance:
    def __init__(self, app, name, kind, engine, process, ends_at, said):
        self.app, self.name, self.process, self.ends_at = app, name, process, ends_at
        self.kind = kind if engine == 'auto' else f'{kind}, {engine}'
        # stdout and stderr of wrap, before its program says anything (it does not).
        self.said = said
        self.began = time.monotonic()
        self.killed = False
        self.told_to_end = False


class Fleet:
    """`size` instances of every kind on one port, all the same."""

    def __init__(self, home, size, seed, findings):
        self.home, self.size, self.findings = home, size, findings
        self.random = random.Random(seed)
        self.port = homes.free_port(home.router + 1)
        self.living = []
        self.started = 0
        self.engines = collections.Counter()
        self.ends = {}
        self.growing = True
        # `agentfs stop` commands at work.
        self.commands = []
        self.kinds = {
            'threaded': [*home.python, str(home.programs / 'threaded.py'), str(self.port)],
            'prefork': [*home.python, str(home.programs / 'prefork.py'), str(self.port)],
            'shared': [*home.python, str(home.programs / 'prefork.py'), str(self.port), 'shared'],
            'epoll': [str(home.programs / 'epoll'), str(self.port)],
            'shell': ['sh', '-c', 'true | cat; "$@" & sleep 0; wait', 'sh', str(home.programs / 'epoll'),
                      str(self.port)],
        }
        if (home.programs / 'static').exists():
            self.kinds['static'] = [str(home.programs / 'static'), str(self.port)]
        if node := shutil.which('node'):
            self.kinds['node'] = [node, str(home.programs / 'server.mjs'), str(self.port)]

    def start(self):
        kind = self.random.choice(list(self.kinds))
        app, name = self.random.choice(APPS), f'n{self.started}'
        self.started += 1
        seed, engine = str(self.random.getrandbits(32)), self.random.choice(ENGINES)
        self.engines[engine] += 1
        said = tempfile.TemporaryFile(dir=self.home.root)
        process = self.home.popen(
            [str(self.home.agentfs), 'wrap', '--app', app, '--instance', name, '--engine', engine, '--',
             *self.home.python, str(self.home.programs / 'worker.py'), kind, str(self.port), seed, str(self.home.reports), '--',
             *self.kinds[kind]], stdout=said, stderr=said)
        self.findings.note(f'start: {app}/{name} ({kind}, {engine})')
        ends_at = time.monotonic() + self.random.uniform(*LIFE)
        self.living.append(Instance(app, name, kind, engine, process, ends_at, said))

    def tend(self):
        """Takes note of those that ended, ends those whose time has come, starts new ones in their place."""
        now = time.monotonic()
        self.commands = [command for command in self.commands if command.poll() is None]
        for instance in list(self.living):
            if instance.process.poll() is not None and not instance.killed:
                self._ended(instance)
            elif now > instance.ends_at:
                self._end(instance)
        if self.growing and len(self.living) < self.size:
            self.start()

    def _end(self, instance):
        if instance.told_to_end:
            # Whatever way it took: everything of it goes.
            self._clear(instance)
            return
        instance.told_to_end = True
        way = self.random.choice(['terminate', 'kill all', 'kill program', 'stop'])
        self.ends[way] = self.ends.get(way, 0) + 1
        self.findings.note(f'{way}: {instance.app}/{instance.name} ({instance.kind})')
        instance.ends_at = time.monotonic() + (self.random.uniform(*AFTERLIFE) if way == 'kill program' else 20)
        if way == 'terminate':
            instance.process.send_signal(signal.SIGTERM)
        elif way == 'kill program':
            # Its server lives on for a while, alone.
            instance.killed = True
            instance.process.kill()
        elif way == 'stop':
            self.findings.leaving.add(f'{instance.app}/{instance.name}')
            self.commands.append(self.home.popen(
                [str(self.home.agentfs), 'stop', f'{instance.app}/{instance.name}'],
                stdout=instance.said, stderr=instance.said))
        else:
            self._clear(instance)

    def _ended(self, instance):
        status = instance.process.returncode
        if not instance.told_to_end:
            instance.said.seek(0)
            said = instance.said.read().decode(errors='replace').strip()
            self.findings.wrap_ended(instance, status, said)
        self._clear(instance)

    def _clear(self, instance):
        # The worker first: it would report a server that it did not end itself.
        if instance.process.poll() is None:
            instance.process.kill()
        # Again and again: those that are killed fork meanwhile.
        while left := [pid for pid in homes.session(instance.process.pid)]:
            for pid in left:
                homes.kill(pid)
        instance.process.wait()
        instance.said.close()
        self.living.remove(instance)

    def end_those_on_the_host(self):
        """Ends the instances whose server has gone to the host's port, until none has."""
        deadline = time.monotonic() + 10
        while (sockets := homes.host_listeners(self.port)) and time.monotonic() < deadline:
            for instance in list(self.living):
                if any(homes.holds(pid, sockets) for pid in homes.session(instance.process.pid)):
                    instance.told_to_end, instance.ends_at = True, 0.0
            time.sleep(0.1)
        if sockets:
            self.findings.violation(f'a server stays on port {self.port} of the host when its instance has ended')

    def drain(self):
        """Ends all, in the usual ways."""
        self.growing = False
        for instance in self.living:
            instance.ends_at = min(instance.ends_at, time.monotonic())
        deadline = time.monotonic() + 30
        while self.living and time.monotonic() < deadline:
            self.tend()
            time.sleep(0.02)
        for instance in list(self.living):
            self._clear(instance)
        for command in self.commands:
            command.wait(60)

    def refill(self):
        self.growing = True

#!/usr/bin/env python3
"""Listeners come and go by the ten thousand in front of one collector, whose memory must not grow by them.

    tests/chaos/growth.py [--binary target/debug/agentfs] [--listeners 40000]

The journal keeps the last 16,384 events, so its memory is let fill first. What is kept of each listener after that, if
only its name, shows as megabytes. Exit status 1 where the collector grew. Uses a private AGENTFS_HOME and leaves nothing behind.
"""
import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# Events that fill the journal (JOURNAL_EVENTS, docs/limits.md) and let what is as old as it go round once more.
FILL = 2 * 16_384
# What the allocator may scatter, in bytes; a name that is kept makes 50 of them a listener.
SLACK = 1 << 20
PROGRAM = """
import socket, sys
for _ in range(int(sys.argv[1])):
    listener = socket.socket()
    listener.bind(('127.0.0.1', 0))
    listener.listen()
    listener.close()
"""


class Collector:
    """One of its own, in a home of its own."""

    def __init__(self, binary):
        self.binary = binary
        self.folder = tempfile.mkdtemp(prefix='afg', dir='/tmp')
        self.home = os.path.join(self.folder, 'h')
        inherited = {name: value for name, value in os.environ.items() if not name.startswith('AGENTFS_')}
        self.environment = {**inherited, 'AGENTFS_HOME': self.home, 'AGENTFS_ROUTER': '127.0.0.1:0',
                            'AGENTFS_QUIET': '1'}
        self.agentfs('daemon', 'start')
        self.pid = self.call('daemon.info')['pid']

    def agentfs(self, *arguments):
        subprocess.run([self.binary, '-q', *arguments], env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def call(self, method):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(os.path.join(self.home, 'collector.sock'))
            stream = connection.makefile('rw')
            stream.write(json.dumps({'id': 1, 'method': method, 'params': {}}) + '\n')
            stream.flush()
            return json.loads(stream.readline())['result']

    def listeners(self, count):
        """Makes listeners in instances of a thousand, and waits until nothing of them is left."""
        for _ in range(count // 1000):
            self.agentfs('wrap', '--app', 'growth', '--', sys.executable, '-S', '-c', PROGRAM, '1000')
        end = time.monotonic() + 60
        while self.call('list')['instances'] or os.listdir(os.path.join(self.home, 'run')):
            if time.monotonic() > end:
                raise SystemExit('growth: names of ended instances stay in the run dir')
            time.sleep(0.05)

    def events(self):
        port = self.call('daemon.info')['http_port']
        request = urllib.request.Request(f'http://127.0.0.1:{port}/metrics', headers={'Host': 'agentfs.localhost'})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(re.search(r'^\S*journal_events_total (\d+)', answer.read().decode(), re.MULTILINE)[1])

    def private(self):
        """Private memory in bytes."""
        with open(f'/proc/{self.pid}/status') as status:
            return int(re.search(r'RssAnon:\s+(\d+)', status.read())[1]) * 1024

    def close(self):
        self.agentfs('daemon', 'stop')
        shutil.rmtree(self.folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--binary', default=os.path.join(ROOT, 'target/debug/agentfs'))
    parser.add_argument('--listeners', type=int, default=40_000)
    options = parser.parse_args()
    collector = Collector(os.path.abspath(options.binary))
    try:
        fresh = collector.private()
        while collector.events() < FILL:
            collector.listeners(5_000)
        filled = collector.private()
        collector.listeners(options.listeners)
        ended = collector.private()
    finally:
        collector.close()
    print(f'growth: private memory of the collector, fresh {fresh >> 10} KiB, with a full journal {filled >> 10} KiB, '
          f'{options.listeners:,} listeners later {ended >> 10} KiB')
    if ended > filled + SLACK:
        raise SystemExit(f'growth: the collector grew by {(ended - filled) // options.listeners} bytes a listener')


if __name__ == '__main__':
    main()

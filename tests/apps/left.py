#!/usr/bin/env python3
"""Prints what still runs of one case: `PID COMMAND` a line.

left.py HOME SESSIONS: processes with AGENTFS_HOME=HOME in their environment, and those of a session listed in
the file SESSIONS. The asking shell and this program, which carry the same environment, are left out.
"""
import os
import sys

home, sessions_file = sys.argv[1:3]
wanted = f"AGENTFS_HOME={home}".encode()
try:
    with open(sessions_file) as file:
        sessions = set(file.read().split())
except FileNotFoundError:
    sessions = set()
askers = {str(os.getpid())}
parent = os.getppid()
while parent > 1:
    askers.add(str(parent))
    with open(f"/proc/{parent}/stat") as file:
        parent = int(file.read().rsplit(")", 1)[1].split()[1])
for process in filter(str.isdigit, os.listdir("/proc")):
    if process in askers:
        continue
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        with open(f"/proc/{process}/stat") as file:
            stat = file.read().rsplit(")", 1)[1].split()
        with open(f"/proc/{process}/environ", "rb") as file:
            environment = file.read().split(b"\0")
    except OSError:
        continue
    if stat[0] != "Z" and (wanted in environment or stat[3] in sessions):
        print(process, command[:150])

"""What is started in the place of programs that macOS protects: executes the exec and spawn hooks.

A system program loses the library, so the hooks start the interpreter that a script asks `env` for, another
shell than the system's, or the copy that `agentfs mac-tools` made. The rules have a table of their own in
macos/src/resolve.rs; here they go through the linked library, without allocation and on its own stack.
"""
import struct
import unittest

import test_hooks
import xnu
from test_hooks import ENVIRONMENT, INTERPOSE, UNTOUCHED, on_each_mac

HOME = "/Users/dev/.agentfs"
TOOLS = f"{HOME}/mac-tools/at".encode()


def mach(*cpus, fat=True):
    """The beginning of a program for processors: cputype and subtype of each."""
    if not fat:
        return struct.pack("<4I", 0xFEEDFACF, *cpus[0], 2) + bytes(16)
    entries = b"".join(struct.pack(">5I", *cpu, 4096, 4096, 12) for cpu in cpus)
    return struct.pack(">2I", 0xCAFEBABE, len(cpus)) + entries


ARM64, ARM64E, X86_64 = (0x0100000C, 0), (0x0100000C, 0x80000002), (0x01000007, 3)
MACH = mach(X86_64, ARM64)
NODE = (b"/opt/homebrew/bin/node", MACH)
BASH = (b"/opt/homebrew/bin/bash", MACH)
SYSTEM = [(path, MACH) for path in (b"/bin/sh", b"/bin/bash", b"/usr/bin/env", b"/usr/bin/perl")]
PATH = "PATH=/nowhere:/opt/homebrew/bin:/Users/dev/shims:/usr/bin:/bin"


def setUpModule():
    test_hooks.setUpModule()


class Starts(unittest.TestCase):
    def program(self, image, *files, more=()):
        environment = [*ENVIRONMENT, f"AGENTFS_HOME={HOME}", PATH, *more]
        return test_hooks.Program(image, environment, [*SYSTEM, *files])

    def start(self, program, words, function="execve", environment=None):
        """Starts a program with a hook: (what was called, the path, the arguments)."""
        machine = program.machine
        whole = environment is None
        words = [word.encode() for word in words.split(" ")]
        path, arguments = machine.c_string(words[0]), machine.c_strings(words)
        given = machine.word(program.system.environ_at) if whole else machine.c_strings(environment)
        descriptors = set(program.system.fds)
        if function == "execve":
            result = program.call(function, path, arguments, given)
        elif function in ("execv", "execvp"):
            result = program.call(function, path, arguments)
        elif function == "execvP":
            folders = machine.c_string("/nowhere:/usr/bin:/bin")
            result = program.call(function, path, folders, arguments)
        else:
            pid = machine.allocate(bytes(4))
            result = program.call(function, pid, path, 0, 0, arguments, given)
        self.assertEqual(result, (0, 0) if "spawn" in function else (-1, xnu.ENOENT))
        self.assertEqual(set(program.system.fds), descriptors, "a descriptor of ours stays open")
        called, started, arguments, entries = program.system.started.pop()
        self.assertEqual(program.system.started, [])
        if whole:
            self.assertIn(f"DYLD_INSERT_LIBRARIES={INTERPOSE}".encode(), entries)
        return called, started.decode(), b" ".join(arguments).decode()

    def check(self, program, words, path, arguments, **options):
        self.assertEqual(self.start(program, words, **options)[1:], (path, arguments))

    @on_each_mac
    def test_a_script_for_env_is_started_by_its_interpreter(self, image):
        script = b"/app/tool"
        for line, words in [
            (b"#!/usr/bin/env node\n", "node"),
            (b"#! /usr/bin/env\tnode  --x y # why\n", "node --x y"),
            (b"#!/usr/bin/env -S node --x\n", "node --x"),
            (b"#!/usr/bin/env -Snode\n", "node"),
        ]:
            program = self.program(image, NODE, (script, line))
            self.check(program, "/app/tool a b", "/opt/homebrew/bin/node", f"{words} /app/tool a b")
        program = self.program(image, (b"/opt/x/node", MACH), (script, b"#!/usr/bin/env /opt/x/node\n"))
        self.check(program, "/app/tool", "/opt/x/node", "/opt/x/node /app/tool")

    @on_each_mac
    def test_each_way_to_start_a_program_does_so(self, image):
        program = self.program(image, NODE, (b"/app/tool", b"#!/usr/bin/env node\n"))
        for function in ("execve", "execv", "execvp", "execvP", "posix_spawn", "posix_spawnp"):
            called, path, arguments = self.start(program, "/app/tool a", function)
            self.assertEqual((path, arguments), ("/opt/homebrew/bin/node", "node /app/tool a"), function)
            # Nothing is looked for any more.
            self.assertIn(called, ("execve", "execv", "posix_spawn"), function)

    @on_each_mac
    def test_a_name_is_looked_for_and_a_shell_of_the_system_is_another(self, image):
        program = self.program(image, (b"/usr/local/bin/bash", MACH))
        for function in ("execvp", "execvP", "posix_spawnp"):
            self.check(program, "sh -c x", "/usr/local/bin/bash", "sh -c x", function=function)
            # What is not replaced is looked for by the system itself.
            called, path, arguments = self.start(program, "perl x", function)
            self.assertEqual((called, path, arguments), (function, "perl", "perl x"))
        # A path without a slash is one in the working directory to these.
        for function in ("execve", "posix_spawn"):
            self.check(program, "sh -c x", "sh", "sh -c x", function=function)
        self.check(program, "/bin/sh -c x", "/usr/local/bin/bash", "/bin/sh -c x")

    @on_each_mac
    def test_the_users_shell_comes_first(self, image):
        own = (b"/my/dash", MACH)
        program = self.program(image, BASH, own, more=["AGENTFS_SHELL=/my/dash"])
        self.check(program, "/bin/sh -c x", "/my/dash", "/bin/sh -c x")
        self.check(program, "/bin/bash -c x", "/opt/homebrew/bin/bash", "/bin/bash -c x")
        # Also for a program that is given an environment without it.
        self.check(program, "/bin/sh -c x", "/my/dash", "/bin/sh -c x", environment=["A=1"])
        program = self.program(image, BASH, own, more=["npm_config_script_shell=/my/dash"])
        self.check(program, "/bin/sh -c x", "/my/dash", "/bin/sh -c x")

    @on_each_mac
    def test_a_script_for_a_shell_is_started_by_another(self, image):
        program = self.program(image, BASH, (b"/app/run", b"#!/bin/sh -e\necho\n"))
        self.check(program, "/app/run a", "/opt/homebrew/bin/bash", "/bin/sh -e /app/run a")

    @on_each_mac
    def test_a_shim_is_a_script_for_a_script(self, image):
        shim = (b"/Users/dev/shims/ruby", b"#!/usr/bin/env bash\n")
        program = self.program(image, BASH, shim, (b"/app/tool", b"#!/usr/bin/env -S ruby -w\n"))
        words = "bash /Users/dev/shims/ruby -w /app/tool a"
        self.check(program, "/app/tool a", "/opt/homebrew/bin/bash", words)
        circle = (b"/Users/dev/shims/ruby", b"#!/usr/bin/env ruby\n")
        program = self.program(image, circle, (b"/app/tool", b"#!/usr/bin/env ruby\n"))
        _, path, arguments = self.start(program, "/app/tool")
        self.assertEqual((path, arguments.count("ruby")), ("/Users/dev/shims/ruby", 4))

    @on_each_mac
    def test_a_copy_of_mac_tools_goes_before_everything(self, image):
        program = self.program(image, BASH, (TOOLS + b"/bin/sh", MACH), (TOOLS + b"/usr/bin/perl", MACH))
        self.check(program, "/bin/sh -c x", f"{TOOLS.decode()}/bin/sh", "/bin/sh -c x")
        self.check(program, "/usr/bin/perl x", f"{TOOLS.decode()}/usr/bin/perl", "/usr/bin/perl x")

    @on_each_mac
    def test_what_cannot_be_helped_is_started_as_it_is(self, image):
        for line in [
            b"#!/usr/bin/env node\n",
            b"#!/usr/bin/env -i bash\n",
            b"#!/usr/bin/perl\n",
            b"#!" + b"x" * 600,
            b"#!/usr/bin/env bash " + b"w " * 40 + b"\n",
            b"#!/opt/homebrew/bin/fish\n",
            b"#!",
            b"",
        ]:
            program = self.program(image, (b"/app/tool", line))
            self.check(program, "/app/tool a", "/app/tool", "/app/tool a")
        program = self.program(image, NODE, (b"/app/tool", b"#!/usr/bin/env node\n"))
        program.system.files[b"/app/tool"].mode = 0o644
        self.check(program, "/app/tool a", "/app/tool", "/app/tool a")
        program = self.program(image, (b"/opt/homebrew/bin/csh", MACH))
        self.check(program, "/bin/csh a", "/bin/csh", "/bin/csh a")
        program = self.program(image)
        self.check(program, "/app/missing a", "/app/missing", "/app/missing a")
        self.check(program, "/bin/sh", "/bin/sh", "/bin/sh")
        long = "/" + "x" * 2000
        self.check(program, f"{long} a", long, f"{long} a")

    @on_each_mac
    def test_a_file_that_cannot_be_executed_is_passed_by(self, image):
        program = self.program(image, (b"/opt/homebrew/bin/sh", MACH), BASH)
        program.system.files[b"/opt/homebrew/bin/sh"].mode = 0o644
        self.check(program, "/bin/sh -c x", "/opt/homebrew/bin/bash", "/bin/sh -c x")

    @on_each_mac
    def test_many_arguments_come_through(self, image):
        program = self.program(image, NODE, (b"/app/tool", b"#!/usr/bin/env node\n"))
        for count in (1, 59, 60, 61, 62, 63, 64, 500, 1020):
            rest = " ".join(str(number) for number in range(count))
            self.check(program, f"/app/tool {rest}", "/opt/homebrew/bin/node", f"node /app/tool {rest}")
        rest = " ".join(str(number) for number in range(5000))
        self.check(program, f"/app/tool {rest}", "/opt/homebrew/bin/node", f"node /app/tool {rest}")

    @on_each_mac
    def test_a_program_that_is_to_be_left_alone_is(self, image):
        program = self.program(image, BASH)
        given = ["A=1", "AGENTFS_NO_INTERPOSE=1", PATH]
        self.check(program, "/bin/sh -c x", "/bin/sh", "/bin/sh -c x", environment=given)
        outside = test_hooks.Program(image, ["A=1", PATH], [*SYSTEM, BASH])
        self.check(outside, "/bin/sh -c x", "/bin/sh", "/bin/sh -c x", environment=["A=1"])

    @on_each_mac
    def test_a_program_that_the_library_would_end_is_started_without_it(self, image):
        """dyld ends a program when it cannot load what it is told to, a library without its slice first of all."""
        library = INTERPOSE.encode()
        here = ARM64 if image is test_hooks.IMAGES["arm64"] else X86_64
        there = X86_64 if here is ARM64 else ARM64
        for program, slices, loads in [
            (mach(here, fat=False), [here], True),
            (mach(there, fat=False), [here], False),
            (mach(there, fat=False), [here, there], True),
            (mach(X86_64, ARM64), [here], True),
            (mach(ARM64E, fat=False), [here, there], False),
            (mach((7, 3), fat=False), [here, there], False),
            (b"echo", [here], True),
        ]:
            running = self.program(image, (b"/app/x", program), (library, mach(*slices)))
            path, arguments = running.machine.c_string("/app/x"), running.machine.c_strings([b"x"])
            given = running.machine.c_strings([f"DYLD_INSERT_LIBRARIES={INTERPOSE}:/x/own.dylib", "A=1"])
            for function, extra in (("execve", ()), ("posix_spawn", (0, 0))):
                begin = (running.machine.allocate(bytes(4)), path) if extra else (path,)
                running.call(function, *begin, *extra, arguments, given)
                entries = running.system.started.pop()[3]
                expected = f"DYLD_INSERT_LIBRARIES={INTERPOSE}:/x/own.dylib" if loads else "DYLD_INSERT_LIBRARIES=/x/own.dylib"
                self.assertIn(expected.encode(), entries)

    @on_each_mac
    def test_a_spawn_that_succeeds_leaves_errno_alone(self, image):
        program = self.program(image, NODE, (b"/app/tool", b"#!/usr/bin/env node\n"))
        self.start(program, "/app/tool", "posix_spawn")
        self.assertEqual(program.system.errno, UNTOUCHED)


if __name__ == "__main__":
    unittest.main()

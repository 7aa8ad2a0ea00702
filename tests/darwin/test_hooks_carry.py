"""How the library gets past programs that macOS protects: executes the exec and spawn hooks, system and popen.

System Integrity Protection removes the variable while such a program starts. So the arguments set it again behind it.
The rules have tests of their own in wire/src/carry; here they go through the linked library of both architectures.
"""
import unittest

import test_hooks
import test_hooks_start as starts
import xnu
from test_hooks import ENVIRONMENT, INTERPOSE, UNTOUCHED, on_each_mac
from test_hooks_start import HOME, MACH, NODE, PATH

VITE = (b"/app/bin/vite", b"#!/usr/bin/env node\n")
SYSTEM = [
    (path, MACH)
    for path in (b"/bin/sh", b"/bin/bash", b"/bin/zsh", b"/usr/bin/env", b"/usr/bin/nohup", b"/usr/bin/curl")
]
GIVEN = [*ENVIRONMENT, f"AGENTFS_HOME={HOME}", PATH.replace("=", "=/app/bin:")]
PAIRS = [entry.split("=", 1) for entry in (GIVEN[1], *(entry for entry in GIVEN if entry.startswith("AGENTFS_")))]
QUOTED = " ".join(f"{name}='{value}'" for name, value in PAIRS)
WORDS = [f"{name}={value}" for name, value in PAIRS]
EXPORT, ASSIGN = f"export {QUOTED}; ", f"{QUOTED} "


def setUpModule():
    starts.setUpModule()


class Carries(unittest.TestCase):
    def program(self, image, *files, given=GIVEN):
        return test_hooks.Program(image, given, [*SYSTEM, NODE, VITE, *files])

    def start(self, program, words, function="execve", environment=None):
        """Starts a program with a hook: the path and the arguments that the system was given."""
        machine = program.machine
        path, arguments = machine.c_string(words[0]), machine.c_strings([word.encode() for word in words])
        given = machine.word(program.system.environ_at) if environment is None else machine.c_strings(environment)
        if function == "execve":
            result = program.call(function, path, arguments, given)
        elif function in ("execv", "execvp"):
            result = program.call(function, path, arguments)
        elif function == "execvP":
            result = program.call(function, path, machine.c_string("/nowhere:/usr/bin:/bin"), arguments)
        else:
            result = program.call(function, machine.allocate(bytes(4)), path, 0, 0, arguments, given)
        self.assertEqual(result, (0, 0) if "spawn" in function else (-1, xnu.ENOENT))
        self.assertEqual(program.system.mappings, {}, "memory of ours stays mapped")
        _, started, arguments, _ = program.system.started.pop()
        self.assertEqual(program.system.started, [])
        return started.decode(), [argument.decode() for argument in arguments]

    @on_each_mac
    def test_the_text_of_a_shell_sets_the_variables(self, image):
        """`npm run dev` runs `/bin/sh -c vite`, and a Mac has no other shell than its own."""
        program = self.program(image)
        for function in ("execve", "execv", "execvp", "execvP", "posix_spawn", "posix_spawnp"):
            for shell in ("/bin/sh", "sh") if function in ("execvp", "execvP", "posix_spawnp") else ("/bin/sh",):
                path, arguments = self.start(program, [shell, "-c", "vite --port 1"], function)
                vite = f"'/opt/homebrew/bin/node' '/app/bin/vite' --port 1"
                self.assertEqual((path, arguments), ("/bin/sh", [shell, "-c", ASSIGN + vite]), function)
        path, arguments = self.start(program, ["/bin/zsh", "-lc", "a && exec b", "zero", "one"])
        expected = ["/bin/zsh", "-lc", EXPORT + "a && exec b", "zero", "one"]
        self.assertEqual((path, arguments), ("/bin/zsh", expected))

    @on_each_mac
    def test_scripts_and_programs_that_start_others_do(self, image):
        program = self.program(image, (b"/app/run", b"#!/bin/sh -e\n"))
        for words, path, expected in [
            (["/app/run", "a"], "/bin/sh", ["/bin/sh", "-c", "-e", EXPORT + '. "$0"', "/app/run", "a"]),
            (["/bin/sh", "/app/run"], "/bin/sh", ["/bin/sh", "-c", EXPORT + '. "$0"', "/app/run"]),
            (["/usr/bin/env", "-i", "node"], "/usr/bin/env", ["/usr/bin/env", "-i", *WORDS, "node"]),
            (
                ["/usr/bin/nohup", "vite"],
                "/usr/bin/nohup",
                ["/usr/bin/nohup", "/usr/bin/env", *WORDS, NODE[0].decode(), "/app/bin/vite"],
            ),
        ]:
            self.assertEqual(self.start(program, words), (path, expected))

    @on_each_mac
    def test_system_and_popen_do(self, image):
        for function in ("system", "popen", "popen$DARWIN_EXTSN"):
            program = self.program(image)
            machine = program.machine
            for text, expected in [(b"vite", f"{ASSIGN}'/opt/homebrew/bin/node' '/app/bin/vite'"), (b"a; b", EXPORT + "a; b")]:
                mode = (machine.c_string("r"),) if function != "system" else ()
                program.call(function, machine.c_string(text), *mode)
                self.assertEqual(program.system.started.pop()[1].decode(), expected)
                self.assertEqual(program.system.mappings, {})
                # A text that went through here before is not changed again.
                path, arguments = self.start(program, ["/bin/sh", "-c", expected])
                self.assertEqual(arguments, ["/bin/sh", "-c", expected])

    @on_each_mac
    def test_an_environment_that_lacks_them_is_completed(self, image):
        program = self.program(image)
        path, arguments = self.start(program, ["/bin/sh", "-c", "a; b"], environment=["A=1"])
        self.assertEqual(arguments, ["/bin/sh", "-c", EXPORT + "a; b"])
        own = [f"DYLD_INSERT_LIBRARIES=/own it's.dylib", *GIVEN[2:]]
        path, arguments = self.start(program, ["/bin/sh", "-c", "a; b"], environment=own)
        self.assertTrue(arguments[2].startswith(rf"export DYLD_INSERT_LIBRARIES='/own it'\''s.dylib:{INTERPOSE}' "))
        others = [entry for entry in GIVEN if not entry.startswith("AGENTFS_INSTANCE")]
        another = [*others, "AGENTFS_INSTANCE=another"]
        path, arguments = self.start(program, ["/bin/sh", "-c", "a; b"], environment=another)
        self.assertIn("AGENTFS_INSTANCE='another'; a; b", arguments[2])
        for given in ([*others, "AGENTFS_NO_INTERPOSE=1"], ["AGENTFS_NO_INTERPOSE=1"], ["AGENTFS_INSTANCE=another"]):
            path, arguments = self.start(program, ["/bin/sh", "-c", "a; b"], environment=given)
            self.assertEqual(arguments, ["/bin/sh", "-c", "a; b"])

    @on_each_mac
    def test_what_is_not_understood_or_too_long_is_started_as_it_is(self, image):
        program = self.program(image)
        for words in [
            ["/bin/sh"],
            ["/bin/sh", "-s", "a"],
            ["/usr/bin/curl", "x"],
            ["/usr/bin/env", "-S", "node x"],
            ["/opt/homebrew/bin/node", "sh", "-c", "x"],
            ["/bin/sh", "-c", "#" * (1 << 20)],
        ]:
            self.assertEqual(self.start(program, words), (words[0], words))
        # A long one that macOS accepts is carried.
        text = "echo; #" + "x" * 200_000
        self.assertEqual(self.start(program, ["/bin/sh", "-c", text])[1][2], EXPORT + text)
        outside = test_hooks.Program(image, ["A=1", PATH], [*SYSTEM, NODE, VITE])
        self.assertEqual(self.start(outside, ["/bin/sh", "-c", "vite"])[1], ["/bin/sh", "-c", "vite"])

    @on_each_mac
    def test_a_spawn_that_succeeds_leaves_errno_alone(self, image):
        program = self.program(image)
        self.start(program, ["/bin/sh", "-c", "vite"], "posix_spawn")
        self.assertEqual(program.system.errno, UNTOUCHED)


if __name__ == "__main__":
    unittest.main()

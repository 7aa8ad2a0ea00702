"""Breaks the macOS side of the library on purpose, one way at a time, and asks whether the tests notice.

Called by `ci/darwin.sh mutate`. Works on a copy of the tree. A mutation that does not compile, or whose
place in the source is not found, is an error of this list; one that the tests do not notice is a missing test.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
BUILD = pathlib.Path(os.environ["AGENTFS_DARWIN_TARGET"])
COPY = BUILD / "mutant/tree"
SOURCES = "interpose/src/"

# (what is broken, file, text, replacement)
MUTATIONS = [
    ("no tuple for execl", "hooks/macos.rs", "        execl: List = crate::real::macos::variadic::execl;\n", ""),
    ("no fcntl$NOCANCEL", "hooks/macos.rs", "        fcntl_nocancel: Control = crate::real::macos::variadic::fcntl_nocancel;\n", ""),
    ("no connect$NOCANCEL", "functions.rs", '"connect$NOCANCEL" fn', '"connect" fn'),
    ("tuples are not kept by the linker", "hooks.rs", "                    #[used]\n", ""),
    ("a tuple replaces another function", "functions.rs", '"accept$NOCANCEL" fn', '"recvmsg" fn'),
    ("no sun_len", "header.rs", "header(libc::AF_UNIX, length)", "header(libc::AF_UNIX, length * 0)"),
    ("no sin_len", "header.rs", "    header(family, length)", "    header(family, length * 0)"),
    ("families as on Linux", "header.rs", "[_, family, ..]", "[family, _, ..]"),
    ("fcntl looks into a register on arm64", "hooks/macos.rs", '"ldr x2, [sp]"', '"mov x2, x3"'),
    ("execl loses its first argument on arm64", "hooks/macos.rs", '"str x1, [sp, #24]"', '"nop"'),
    ("execl loses an argument on x86-64", "hooks/macos.rs", '"push r8"', '"push r9"'),
    ("execl leaves the stack off on x86-64", "hooks/macos.rs", '"add rsp, 40"', '"add rsp, 48"'),
    ("errno is not restored", "sys/errno.rs", "        set_errno(self.0);", "        let _ = self.0;"),
    ("a descriptor stays open", "sys/descriptor.rs", "        close(self.0);", "        let _ = close;"),
    ("the collector is not woken", "sys/syscalls/files/macos.rs", "libc::chmod(name.c_path().as_ptr(), 0o600)", "0"),
    ("options of Unix sockets shine through", "sys/answers/macos.rs", "LEVEL: bool = true", "LEVEL: bool = false"),
    ("SIGPIPE comes back", "known.rs", "    libc::SO_NOSIGPIPE,\n", "    libc::SO_KEEPALIVE,\n"),
    ("Linux's errno for a wrong family", "sys/answers/macos.rs", "c_int = libc::EAFNOSUPPORT", "c_int = libc::EINVAL"),
    ("a full queue refuses", "calls/connect/client.rs", "CONNECT_TRIES: u32 = 50", "CONNECT_TRIES: u32 = 0"),
    ("a listener connects", "sys/options.rs", "is_ok_and(|value| value != 0)", "is_ok_and(|value| value == 1)"),
    ("clients leave their files", "client_names/macos.rs", "    let _ = sys::unlink(path(", "    let _ = sys::access(path("),
    ("close-on-exec is lost", "sys/syscalls/descriptors/macos.rs", "    if close_on_exec_flag {", "    if false {"),
]


def copy():
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, COPY / name)
    venv = BUILD / "mutant/venv"
    if not venv.is_symlink():
        venv.symlink_to(BUILD / "venv")


def step(*steps):
    environment = dict(os.environ, AGENTFS_DARWIN_TARGET=str(BUILD / "mutant"), CARGO_TERM_QUIET="true")
    # What the outer script has set for its own builds.
    for name in [name for name in environment if name.endswith("_RUSTFLAGS")]:
        del environment[name]
    return subprocess.run(
        ["bash", "ci/darwin.sh", *steps], cwd=COPY, env=environment, capture_output=True, text=True
    )


def failed_tests(output):
    return sorted(set(re.findall(r"^(?:FAIL|ERROR): (\w+)", output, flags=re.M)))


def main():
    copy()
    sound = step("interposer", "inspect", "emulate")
    if sound.returncode:
        sys.exit(f"the library fails its tests as it is:\n{sound.stdout}{sound.stderr}")
    missed = 0
    for what, file, text, replacement in MUTATIONS:
        path = COPY / SOURCES / file
        original = path.read_text()
        if text not in original:
            sys.exit(f"{what}: `{text.strip()}` is not in {SOURCES}{file} any more")
        path.write_text(original.replace(text, replacement, 1))
        built = step("interposer")
        if built.returncode:
            sys.exit(f"{what}: does not build:\n{built.stderr}")
        noticed = []
        for tests in ("inspect", "emulate"):
            result = step(tests)
            if result.returncode:
                noticed += failed_tests(result.stderr) or [tests]
        missed += not noticed
        shown = ", ".join(noticed[:2]) + (f" and {len(noticed) - 2} more" if len(noticed) > 2 else "")
        print(f"{'noticed' if noticed else 'MISSED '}  {what}: {shown}", flush=True)
        path.write_text(original)
    print(f"{len(MUTATIONS) - missed} of {len(MUTATIONS)} mutations noticed")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

"""Which hooks the sources declare for macOS."""
import pathlib
import re

SOURCES = pathlib.Path(__file__).parents[2] / "interpose/src"

# Named here as well as in the sources, so that none of them goes by accident: what issue and manual promise.
PROMISED = {
    "bind", "listen", "accept", "connect", "getsockname", "getpeername", "getsockopt", "setsockopt",
    "sendto", "sendmsg", "recvfrom", "recvmsg", "dup", "dup2", "fcntl", "getaddrinfo",
    "execve", "execv", "execvp", "execvP", "execl", "execlp", "execle", "posix_spawn", "posix_spawnp",
    "connectx", "connect$NOCANCEL", "accept$NOCANCEL", "sendto$NOCANCEL", "sendmsg$NOCANCEL",
    "recvfrom$NOCANCEL", "recvmsg$NOCANCEL", "fcntl$NOCANCEL",
}  # fmt: skip


def hooks():
    """Symbols of the lists and of the variadic originals, those for Linux alone left out."""
    lists = (SOURCES / "functions.rs").read_text()
    # A list for another system starts at its cfg and ends at the first brace in column 0.
    lists = re.sub(r'#\[cfg\(target_os = "linux"\)\]\nmacro_rules! .*?\n}\n', "", lists, flags=re.S)
    found = re.findall(r'^\s*"([^"]+)" fn \w+\(', lists, flags=re.M)
    found += re.findall(r'#\[link_name = "([^"]+)"\]', (SOURCES / "real/macos.rs").read_text())
    if len(found) != len(set(found)):
        raise AssertionError(f"declared twice: {sorted(name for name in found if found.count(name) > 1)}")
    return set(found)

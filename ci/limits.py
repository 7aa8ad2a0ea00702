#!/usr/bin/env python3
"""Writes docs/limits.md from the constants of the sources; with --check only says whether it would change.

Every constant of a limits.rs is a limit and must be listed. So is every number and time outside of them, unless
NO_LIMITS says that it is something else: the number of a protocol, a flag, the width of a column."""
import pathlib
import re
import sys

TITLES = {
    "wire/src/limits.rs": "Shared by several parts",
    "home/src/limits.rs": "On disk",
    "tls/src/limits.rs": "TLS",
    "collector/src/limits.rs": "Collector",
    "router/src/limits.rs": "Router",
    "handoff/src/limits.rs": "Hand-off",
    "engine/src/limits.rs": "Seccomp engine",
    "macos/src/limits.rs": "Programs on macOS",
}
# File, and the names in it that are no limits; `*` stands for any letters.
NO_LIMITS = {
    "cli/src/display.rs": "*_WIDTH",
    "cli/src/guardian.rs": "SIGNALLED PANICKED",
    "interpose/src/convert/linux.rs": "F_*ETSIG",
    "interpose/src/hints.rs": "KNOWN OPTIONS BACKLOG_* REUSE_* OWNER DATAGRAM SEND_BUFFER RECEIVE_BUFFER LOCAL DUPLICATED TCP ENDED RARE "
                              "MADE",
    "interpose/src/known.rs": "PROTOCOL",
    "interpose/src/options/ended.rs": "LATE PROCESS RESET",
    "interpose/src/options/table.rs": "CHANGING",
    "interpose/src/calls/tcp_info.rs": "ESTABLISHED FIN_WAIT2 CLOSE CLOSE_WAIT LISTEN",
    "interpose/src/rawaddr.rs": "IN_BYTES IN6_BYTES IN6_LEAST_BYTES STORAGE_BYTES FIRST_PAGE",
    "interpose/src/sys/syscalls/descriptors/linux.rs": "KCMP_EPOLL_TFD",
    "interpose/src/sys/answers/linux.rs": "WRONG_FAMILY SO_PEERGROUPS SO_PEERPIDFD INFO_OPTION TEXT_OPTION PEER_NAME_OPTION",
    "interpose/src/sys/answers/macos.rs": "WRONG_FAMILY INFO_OPTION TEXT_OPTION PEER_NAME_OPTION",
    "interpose/src/calls/exec/arguments.rs": "POINTER_BYTES",
    "interpose/src/calls/loading.rs": "DEEPBIND",
    "interpose/src/calls/exec_list.rs": "IN_REGISTERS",
    "interpose/src/calls/syscall.rs": "LAST_OF_SOCKETS",
    "interpose/src/notify/page/linux.rs": "TRACED MOVED",
    "interpose/src/sys/syscalls/files/linux.rs": "USED",
    "interpose/src/sys/syscalls/sockets/linux.rs": "SOCK_DIAG_BY_FAMILY NLM_F_REQUEST UDIAG_SHOW_RQLEN UNIX_DIAG_RQLEN "
                                                   "RQLEN_BYTES AF_UNIX",
    "interpose/src/sys/syscalls/process/linux.rs": "PAGE_BYTES OPERATION",
    "engine/src/address.rs": "IN_BYTES IN6_BYTES IN6_LEAST_BYTES",
    "engine/src/facts.rs": "CLOSE MULTIPATH",
    "engine/src/filter.rs": "ARCHITECTURE NUMBER MACHINE ARGUMENTS LOAD IS HAS RETURN ALLOW ASK FAST_OPEN",
    "engine/src/port_space.rs": "V4 V6 CLOSED END LO UP NEW_LINK NEW_ROUTE REQUEST_ACK CREATE OUT LOCAL_TABLE BOOT SCOPE_HOST LOCAL",
    "engine/src/process.rs": "THREAD THREADS",
    "engine/src/sys/options.rs": "F_SETSIG F_GETSIG OPTION_BYTES SO_NETNS_COOKIE",
    "engine/src/sys/seccomp.rs": "SYNC_WAKE_UP SET_FLAGS SEND",
    "engine/src/supervisor.rs": "ENTRANCE",
    "engine/src/tcp_table.rs": "HEADER QUESTION PORTS ADDRESSES NUMBER BY_FAMILY DONE ERROR STATES DUMP",
    "engine/src/sys/kcmp.rs": "WATCHED",
    "home/src/trace_page.rs": "PAGE_BYTES MOVED",
    "macos/src/signature.rs": "SLOT_* *_AT",
    "macos/src/tools.rs": "HASH_DIGITS",
    "router/src/message/head.rs": "FRAME_HEAD SETTINGS",
    "system/src/diag.rs": "ERROR DONE BY_FAMILY ONE DUMP TCP LISTEN ANY HEADER QUESTION ANSWER PORTS ADDRESS USER INODE",
    "tls/src/authority.rs": "DAY",
    "wire/src/broker.rs": "VERSION",
    "wire/src/dns.rs": "HEADER_BYTES TYPE_* CLASS_* PORT",
    "wire/src/elf.rs": "HEADER_BYTES PROGRAM_HEADER_BYTES SECTION_HEADER_BYTES PT_* DT_* MACHINE",
    "wire/src/event/json.rs": "CLIENT_LEFT",
    "wire/src/notice.rs": "VERSION",
    "wire/src/slices.rs": "SUBTYPE_ARM64E",
    "wire/src/url.rs": "HTTP HTTPS",
}
HEAD = """# Limits

Every limit has one named constant. `ci/limits.py` writes this page: first the limits that packages define in
`limits.rs`, then the numbers and times that one file uses alone.
"""
ELSEWHERE = """## Of one file

| limit | file | value | what it is, why, and what happens there |
|---|---|---|---|"""
CONSTANT = re.compile(
    r"(?P<comment>(?:^ *///[^\n]*\n)*)(?P<attributes>(?:^ *#\[[^\n]*\]\n)*)"
    r"^ *(?:pub(?:\(\w+\))? )?const (?P<name>[A-Z]\w*):\s*(?P<type>[^=]+?)\s*=\s*(?P<value>.+?);$",
    re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"u8|u16|u32|u64|u128|usize|i32|i64|isize|(?:libc::)?c_int|Duration|\[Duration; \d+\]")
# Bits and modes: flags, numbers of protocols, permissions.
BITS = re.compile(r"!?0[xo]")
SYSTEMS = {"linux": "Linux", "macos": "macOS"}


def source(path):
    """What is compiled without tests."""
    text = path.read_text()
    parent = path.parent.with_suffix(".rs") if path.parent.name != "src" else path.parent / "lib.rs"
    if parent.exists() and f"#[cfg(test)]\nmod {path.stem};" in parent.read_text():
        return ""
    return re.split(r"^#\[cfg\(test\)\]\n(?:pub\(crate\) )?mod \w+ \{", text, flags=re.MULTILINE)[0]


def value(text):
    text = " ".join(text.split())
    if re.fullmatch(r"[\d_]+", text):
        return text.replace("_", "")
    text = re.sub(r"(?<=\d)_(?=\d)", "", text)
    units = {"secs": "s", "millis": "ms", "micros": "µs"}
    text = re.sub(r"Duration::from_(secs|millis|micros)\(((?:[^()]|\(\))*)\)",
                  lambda found: f"{found[2]} {units[found[1]]}", text)
    return text.replace("|", "\\|")


def reason(comment, attributes):
    text = " ".join(line.strip().removeprefix("///").strip() for line in comment.strip().splitlines())
    text = re.sub(r"\[`(?:\w+::)*(\w+)`\]", r"`\1`", text).replace("|", "\\|")
    system = re.search(r'cfg\(target_os = "(\w+)"\)', attributes)
    return f"{text} ({SYSTEMS[system[1]]} only.)" if system else text


def constants(path):
    """Name, type, value and reason of each. One without a comment stands with the one before it."""
    before = None
    for found in CONSTANT.finditer(source(path)):
        why = reason(found["comment"], found["attributes"])
        if not found["comment"] and before and source(path)[before.end():found.start()] == "\n":
            why = f"See `{before['name']}`."
        before = found
        yield found["name"], found["type"], value(found["value"]), why


def is_limit(path, name, kind, text):
    patterns = NO_LIMITS.get(str(path), "").split()
    excluded = any(re.fullmatch(pattern.replace("*", ".*"), name) for pattern in patterns)
    return bool(NUMBER.fullmatch(kind)) and not BITS.match(text) and not excluded


def page():
    """The page, and what is wrong with the sources."""
    files = sorted(path for path in pathlib.Path().glob("*/src/**/*.rs") if path.parts[0] not in ("fixtures", "tests"))
    wrong, parts = [], [HEAD]
    for path in (path for path in files if path.name == "limits.rs" and str(path) not in TITLES):
        wrong.append(f"{path} has no title in ci/limits.py")
    for path, title in TITLES.items():
        parts.append(f"## {title} (`{path}`)\n\n| limit | value | what it is, why, and what happens there |\n|---|---|---|")
        listed = [found for found in constants(pathlib.Path(path)) if found[3]]
        parts += [f"| `{name}` | {text} | {why} |" for name, _, text, why in listed]
        parts.append("")
        there = re.findall(r"\bconst (\w+)", re.sub(r"//.*", "", source(pathlib.Path(path))))
        names = [found[0] for found in listed]
        wrong += [f"{path}: {name} is not listed; it needs a comment" for name in there if name not in names]
    parts.append(ELSEWHERE)
    for path in (path for path in files if path.name != "limits.rs"):
        for name, kind, text, why in constants(path):
            if is_limit(path, name, kind, text):
                parts.append(f"| `{name}` | `{path}` | {text} | {why} |")
                wrong += [] if why else [f"{path}: {name} has no comment"]
    for path, names in NO_LIMITS.items():
        there = [found[0] for found in constants(pathlib.Path(path))] if pathlib.Path(path).exists() else []
        wrong += [f"{path} has no {name}; ci/limits.py says that it is not a limit" for name in names.split()
                  if not any(re.fullmatch(name.replace("*", ".*"), other) for other in there)]
    return "\n".join([*parts, ""]), wrong


if __name__ == "__main__":
    text, wrong = page()
    if wrong:
        sys.exit("\n".join(f"error: {line}" for line in wrong))
    target = pathlib.Path("docs/limits.md")
    if sys.argv[1:] == ["--check"]:
        if target.read_text() != text:
            sys.exit("error: docs/limits.md is not what the constants say\nhint: run ci/limits.py and commit it")
    else:
        target.write_text(text)

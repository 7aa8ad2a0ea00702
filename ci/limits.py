#!/usr/bin/env python3
"""Writes docs/limits.md from the constants of the sources; with --check only says whether it would change."""
import glob
import re
import sys

FILES = {
    "Shared by several parts": "wire/src/limits.rs",
    "Collector": "collector/src/limits.rs",
    "Router": "router/src/limits.rs",
    "Hand-off": "handoff/src/limits.rs",
    "Programs on macOS": "macos/src/limits.rs",
}
HEAD = """# Limits

Every limit has one named constant. `ci/limits.py` writes this page: first the limits that packages define in
`limits.rs`, then the times, sizes and attempts that one file uses alone.
"""
CONSTANT = re.compile(
    r"((?:^[ ]*///[^\n]*\n)+)(?:^[ ]*#\[[^\n]*\n)*^[ ]*(?:pub(?:\([^)]*\))? )?const (\w+): ([^=]+)=\s*([^;]+);", re.M)
# Names of sizes, times and attempts; a `Duration` is a time whatever its name. Sizes of socket addresses are not limits.
LOCAL = re.compile(r"^(?!IN6?_|STORAGE_|IN6_LEAST_).*(_BYTES|_MS|_SECONDS|TRIES)$")


def value(text):
    text = " ".join(text.split())
    if re.fullmatch(r"[\d_]+", text):
        return text.replace("_", "")
    return re.sub(r"Duration::from_(?:millis\((\d+)\)|secs\((\d+)\))",
                  lambda found: f"{found[1]} ms" if found[1] else f"{found[2]} s", text)


def reason(comment):
    text = " ".join(line.strip().removeprefix("///").strip() for line in comment.strip().splitlines())
    return re.sub(r"\[`(?:\w+::)*(\w+)`\]", r"`\1`", text).replace("|", "\\|")


def page():
    parts = [HEAD]
    for title, path in FILES.items():
        parts.append(f"## {title} (`{path}`)\n\n| limit | value | what it is, why, and what happens there |\n|---|---|---|")
        parts += [f"| `{name}` | {value(text)} | {reason(comment)} |" for comment, name, _, text in constants(path)]
        parts.append("")
    parts.append("## Of one file\n\n| limit | file | value | what it is |\n|---|---|---|---|")
    for path in sorted(glob.glob("*/src/**/*.rs", recursive=True)):
        if path in FILES.values() or path.split("/")[0] in ("fixtures", "tests"):
            continue
        parts += [f"| `{name}` | `{path}` | {value(text)} | {reason(comment)} |"
                  for comment, name, kind, text in constants(path) if "Duration" in kind or LOCAL.search(name)]
    parts.append("")
    return "\n".join(parts)


def constants(path):
    with open(path) as file:
        return CONSTANT.findall(re.split(r"#\[cfg\(test\)\]\s*mod ", file.read())[0])


if __name__ == "__main__":
    text = page()
    if sys.argv[1:] == ["--check"]:
        with open("docs/limits.md") as file:
            if file.read() != text:
                sys.exit("error: docs/limits.md is not what the constants say\nhint: run ci/limits.py and commit it")
    else:
        with open("docs/limits.md", "w") as file:
            file.write(text)

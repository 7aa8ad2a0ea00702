#!/usr/bin/env python3
"""Writes docs/limits.md from the constants of every limits.rs; with --check only says whether it would change."""
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

Every limit has one named constant. `ci/limits.py` writes this page from the files that define them.
"""
CONSTANT = re.compile(r"((?:[ ]*///[^\n]*\n)+)[ ]*pub(?:\(crate\))? const (\w+): [^=]+= ([^;]+);")


def value(text):
    text = text.strip()
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
        with open(path) as file:
            source = file.read().split("#[cfg(test)]")[0]
        parts.append(f"## {title} (`{path}`)\n\n| limit | value | what it is, why, and what happens there |\n|---|---|---|")
        parts += [f"| `{name}` | {value(text)} | {reason(comment)} |" for comment, name, text in CONSTANT.findall(source)]
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    text = page()
    if sys.argv[1:] == ["--check"]:
        with open("docs/limits.md") as file:
            if file.read() != text:
                sys.exit("error: docs/limits.md is not what the constants say\nhint: run ci/limits.py and commit it")
    else:
        with open("docs/limits.md", "w") as file:
            file.write(text)

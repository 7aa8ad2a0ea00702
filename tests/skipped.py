#!/usr/bin/env python3
"""Lists the tests that say that they were skipped: the runner counts them as passed. Then the closing line again.

    tests/skipped.py FILE...      junit.xml of nextest, or what `cargo test -- --show-output` printed
"""
import pathlib
import re
import sys
from xml.etree import ElementTree

MARK = "skipped: "


def of_nextest(text):
    """(test, reason) of each skipped test, and the closing line."""
    root = ElementTree.fromstring(text)
    found = []
    for suite in root.iter("testsuite"):
        for case in suite.iter("testcase"):
            for output in (*case.iter("system-out"), *case.iter("system-err")):
                found += [(f"{suite.get('name')} {case.get('name')}", why) for why in reasons(output.text or "")]
    count = {name: int(root.get(name, "0")) for name in ("tests", "failures", "errors")}
    failed = count["failures"] + count["errors"]
    closing = f"Summary [{float(root.get('time', 0)):.3f}s] {count['tests']} tests run: "
    return found, closing + f"{count['tests'] - failed} passed, {failed} failed"


def of_cargo(text):
    """The same, of the built-in runner."""
    found, test, closing = [], "", ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"---- (\S+) stdout ----", line):
            test = heading[1]
        elif line.startswith("test result: "):
            closing = line
        else:
            found += [(test, why) for why in reasons(line)]
    return found, closing


def reasons(text):
    return [line.removeprefix(MARK) for line in text.splitlines() if line.startswith(MARK)]


def main():
    closing = ""
    for name in sys.argv[1:]:
        text = pathlib.Path(name).read_text(encoding="utf-8", errors="replace")
        found, closing = of_nextest(text) if name.endswith(".xml") else of_cargo(text)
        for test, why in sorted(set(found)):
            print(f"skipped: {test}: {why}")
    print(closing)


main()

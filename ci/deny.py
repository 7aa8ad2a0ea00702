#!/usr/bin/env python3
"""Checks dependencies against deny.toml: licences, wildcard versions, sources.

Stands in for `cargo deny check bans licenses sources` where cargo-deny is not installed (building it
takes longer than everything else in .ci/run). Same file, same rules; what it does not understand is an
error. Prints one line for each violation; exits 1 where there is one.
"""
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict


def allowed(expression, licences):
    """Evaluates an SPDX expression: OR, AND, WITH, parentheses, and the old `MIT/Apache-2.0` form."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def one():
        if peek() == "(":
            take()
            result = any_of()
            if take() != ")":
                raise ValueError(expression)
            return result
        name = take()
        if peek() == "WITH":
            take()
            name = f"{name} WITH {take()}"
        return name in licences

    def all_of():
        result = one()
        while peek() == "AND":
            take()
            result = one() and result
        return result

    def any_of():
        result = all_of()
        while peek() == "OR":
            take()
            result = all_of() or result
        return result

    result = any_of()
    if position != len(tokens):
        raise ValueError(expression)
    return result


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    metadata = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    members = set(metadata["workspace_members"])
    licences = set(rules["licenses"]["allow"])
    violations, versions = [], defaultdict(set)
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].add(package["version"])
        if package["id"] not in members:
            source = package["source"] or "a path"
            if not source.startswith("registry+") or "crates.io-index" not in source:
                violations.append(f"{name}: source {source} is not the default registry")
        try:
            if not package["license"] or not allowed(package["license"], licences):
                violations.append(f"{name}: licence {package['license']} is not allowed by deny.toml")
        except (ValueError, IndexError):
            violations.append(f"{name}: cannot read the licence {package['license']!r}")
        for dependency in package["dependencies"] if package["id"] in members else []:
            if dependency["req"] == "*" and not dependency.get("path"):
                violations.append(f"{name}: wildcard version of {dependency['name']}")
    for name, all_versions in sorted(versions.items()):
        if len(all_versions) > 1:
            print(f"note: {name} in several versions: {', '.join(sorted(all_versions))}")
    for violation in violations:
        print(f"error: {violation}")
    print(f"{len(metadata['packages'])} packages, {len(violations)} violations of deny.toml")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes what compiler and linker take for a macOS SDK: sdk.py FOLDER. Text stubs and a handful of headers.

The names in symbols/*.txt are those that our programs and Rust's standard library use, one a line, as
Apple's headers declare them (with the underscore of Mach-O). A name that is missing makes the link fail and
is added by hand, after a look into the header that it exists in macOS 12.
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
STUB = """--- !tapi-tbd
tbd-version:     4
targets:         [ x86_64-macos, arm64-macos ]
install-name:    '{install_name}'
exports:
  - targets:         [ x86_64-macos, arm64-macos ]
    symbols:         [ {symbols} ]
...
"""
FRAMEWORKS = "System/Library/Frameworks"


def stub(path, install_name, symbols):
    """The stub of one library."""
    names = ", ".join(f"'{name}'" for name in symbols)
    write(path, STUB.format(install_name=install_name, symbols=names))


def write(path, text):
    """One file; untouched where it has this text already, so that nothing is built again for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main():
    folder = pathlib.Path(sys.argv[1])
    for header in sorted((HERE / "include").glob("*.h")):
        write(folder / "usr/include" / header.name, header.read_text())
    for names in sorted((HERE / "symbols").glob("*.txt")):
        symbols = sorted(set(names.read_text().split()))
        if names.stem == "libSystem":
            # What rustc links besides libSystem is part of it, or of its umbrella.
            for library in ("libSystem", "libc", "libm", "libiconv"):
                stub(folder / f"usr/lib/{library}.tbd", "/usr/lib/libSystem.B.dylib", symbols)
        else:
            inner = f"{FRAMEWORKS}/{names.stem}.framework"
            stub(folder / inner / f"{names.stem}.tbd", f"/{inner}/Versions/A/{names.stem}", symbols)


if __name__ == "__main__":
    main()

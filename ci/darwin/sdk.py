"""Writes the text stubs that the linker takes for a macOS SDK: sdk.py FOLDER.

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


def write(path, install_name, symbols):
    """One stub; untouched where it has these words already, so that nothing is linked again for it."""
    text = STUB.format(install_name=install_name, symbols=", ".join(f"'{name}'" for name in symbols))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def main():
    folder = pathlib.Path(sys.argv[1])
    for names in sorted((HERE / "symbols").glob("*.txt")):
        symbols = sorted(set(names.read_text().split()))
        if names.stem == "libSystem":
            # What rustc links besides libSystem is part of it, or of its umbrella.
            for library in ("libSystem", "libc", "libm", "libiconv"):
                write(folder / f"usr/lib/{library}.tbd", "/usr/lib/libSystem.B.dylib", symbols)
        else:
            inner = f"{FRAMEWORKS}/{names.stem}.framework"
            write(folder / inner / f"{names.stem}.tbd", f"/{inner}/Versions/A/{names.stem}", symbols)


if __name__ == "__main__":
    main()

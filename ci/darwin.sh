#!/usr/bin/env bash
# macOS on Linux: type-check and lint, build, link, inspect and execute for both kinds of Mac, without a Mac.
#   ci/darwin.sh              everything
#   ci/darwin.sh STEP...      single steps: interposer inspect emulate lint binary
#   ci/darwin.sh mutate       breaks the library in a dozen ways; the tests must notice each (not among everything)
# Needs Rust (rust-toolchain.toml), python3, and beside the clone ../shared/macos with the sources of Rust's
# standard library (it says how in env.sh). AGENTFS_DARWIN_TARGET moves the build out of target/darwin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
provided=${AGENTFS_DARWIN_PROVIDED:-../shared/macos}
targets=(aarch64-apple-darwin x86_64-apple-darwin)
build=${AGENTFS_DARWIN_TARGET:-$root/target/darwin}
export AGENTFS_DARWIN_TARGET=$build
# Where this machine's own programs are built.
own=${CARGO_TARGET_DIR:-$root/target}
sdk=$build/sdk
venv=$build/venv
# The library for both kinds of Mac: an inserted library without the right slice ends the program.
universal=$build/universal/libagentfs_interpose.dylib
unicorn=2.1.4

say() { printf '== macOS: %s\n' "$*" >&2; }
die() { printf 'ci/darwin.sh: %s\n' "$*" >&2; exit 1; }

# Installs a Debian package.
install() {
    [ "$(id -u)" = 0 ] || die "$1 is missing; apt-get install $1"
    say "installing $1"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$1" >&2
}

environment() {
    [ -f "$provided/env.sh" ] || die "cannot find $provided/env.sh: the sources of Rust's standard library for
the macOS targets are expected there; without them nothing can be checked for macOS"
    command -v python3 >/dev/null || install python3
    # For the C in our dependencies.
    command -v clang >/dev/null || install clang
    export CC_aarch64_apple_darwin=clang CC_x86_64_apple_darwin=clang
    mkdir -p "$build"
    # shellcheck disable=SC1091
    source "$provided/env.sh"
    python3 ci/darwin/sdk.py "$sdk"
    export SDKROOT=$sdk
    local linker sources
    linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
    sources=$(dirname "$__CARGO_TESTS_ONLY_SRC_ROOT")
    # No path of this machine ends up in what is built.
    flags="-Clinker=$linker -Clinker-flavor=darwin-lld -Zunstable-options -Clink-arg=-syslibroot
        -Clink-arg=$sdk -Clink-arg=-S --remap-path-prefix=$root=agentfs
        --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=registry
        --remap-path-prefix=$sources=rust --remap-path-prefix=$build=target"
    use_flags ""
}

# Compiler flags for both targets, with more of them behind.
use_flags() {
    local all
    all=$(echo "$flags $1" | tr -s '\n ' ' ')
    export CARGO_TARGET_AARCH64_APPLE_DARWIN_RUSTFLAGS=$all CARGO_TARGET_X86_64_APPLE_DARWIN_RUSTFLAGS=$all
}

# An environment of its own with the processor emulator from PyPI.
emulator() {
    [ -e "$venv/$unicorn" ] && return
    rm -rf "$venv"
    # Debian splits venv off from python3.
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        install python3-venv
        python3 -m venv "$venv"
    fi
    "$venv/bin/pip" install --quiet --disable-pip-version-check "unicorn==$unicorn"
    touch "$venv/$unicorn"
}

# The tests of one file: check PYTHON FILE
check() {
    AGENTFS_DYLIB=$universal PYTHONDONTWRITEBYTECODE=1 \
        "$1" -m unittest discover --start-directory tests/darwin --pattern "$2"
}

# A cargo command for both targets.
cross() {
    local command=$1 target arguments=()
    shift
    for target in "${targets[@]}"; do arguments+=(--target "$target"); done
    cargo "$command" --locked "${arguments[@]}" "$@"
}

interposer() {
    say "interposer for both, one universal library"
    use_flags "-Clink-arg=-install_name -Clink-arg=@rpath/libagentfs_interpose.dylib"
    # With panic=abort the library is no_std and needs no more than core.
    cross build --profile interpose -Zbuild-std=core --package agentfs-interpose
    use_flags ""
    local target slices=()
    for target in "${targets[@]}"; do slices+=("$build/$target/interpose/libagentfs_interpose.dylib"); done
    mkdir -p "$(dirname "$universal")"
    python3 ci/darwin/universal.py "$universal" "${slices[@]}"
}

inspect() {
    say "what is in the linked library"
    check python3 test_linked.py
    say "what agentfs reads in it"
    env -u RUSTC_BOOTSTRAP -u __CARGO_TESTS_ONLY_SRC_ROOT CARGO_TARGET_DIR="$own" AGENTFS_DYLIB="$universal" \
        cargo test --locked --quiet --package agentfs-macos --features built built::
}

emulate() {
    say "executing the hooks"
    emulator
    check "$venv/bin/python" "test_hooks*.py"
}

lint() {
    say "type check and lints, warnings denied"
    AGENTFS_INTERPOSE_LIB=$universal cross clippy --workspace --all-targets -Zbuild-std=std,panic_abort -- -D warnings
}

binary() {
    say "agentfs with the library in it"
    # What is shipped is built on a Mac with the release profile; this shows that it compiles and links. For that, it need not
    # be optimised in one piece, which takes longer.
    AGENTFS_INTERPOSE_LIB=$universal CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=0 \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cross build --release -Zbuild-std=std,panic_abort --package agentfs
    AGENTFS_BINARIES="$build/${targets[0]}/release/agentfs $build/${targets[1]}/release/agentfs" \
        check python3 test_binary.py
}

mutate() {
    emulator
    AGENTFS_DARWIN_PROVIDED=$(cd "$provided" && pwd) python3 ci/darwin/mutations.py
}

environment
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(interposer inspect emulate lint binary)
for step in "${steps[@]}"; do
    case $step in
        interposer | inspect | emulate | lint | binary | mutate) "$step" ;;
        *) die "unknown step $step; the steps are interposer inspect emulate lint binary mutate" ;;
    esac
done
say "done: ${steps[*]}"

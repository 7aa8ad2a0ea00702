//! End-to-end tests: the real binary, ordinary programs, one test per observable promise. Each test has
//! a home of its own, so all of them run at once.
#![expect(
    clippy::unwrap_used,
    reason = "all of it is tests; clippy only knows the functions that are marked"
)]
/// Python's `kernel(NUMBER, …)`: a system call by an instruction of its own, which no library sees. Returns what the kernel
/// does: an error is a negative number.
macro_rules! kernel {
    () => {
        r#"
import ctypes, mmap, platform
CODE = {
    # mov rax, rdi, and each argument one register on; syscall; ret
    "x86_64": "4889f8 4889f7 4889d6 4889ca 4d89c2 4d89c8 0f05 c3",
    # mov x8, x0, and each argument one register on; svc 0; ret
    "aarch64": "e80300aa e00301aa e10302aa e20303aa e30304aa e40305aa 010000d4 c0035fd6",
}[platform.machine()]
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex(CODE))
kernel = ctypes.CFUNCTYPE(*[ctypes.c_long] * 7)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
def kernel(number, *arguments, call=kernel):
    return call(number, *arguments, *[0] * (5 - len(arguments)))
"#
    };
}

mod bad_input;
mod balance;
mod broker;
mod checkouts;
mod clients;
mod collector;
mod commands;
mod descriptors;
mod display;
// The seccomp engine.
#[cfg(target_os = "linux")]
mod engine;
#[cfg(target_os = "linux")]
mod engine_limits;
#[cfg(target_os = "linux")]
mod engine_ways;
mod face;
mod fallback;
mod faults;
mod guards;
mod handoff;
mod handover;
mod hostile;
mod interposer;
mod joining;
mod lifecycle;
mod meaning;
mod names;
mod other_forks;
mod pages;
mod programs;
mod protected;
mod reach;
mod rebind;
mod resolver;
mod rewrite_host;
mod router;
mod self_test;
mod servers;
#[cfg(target_os = "linux")]
mod stand_ins;
mod stop;
mod surroundings;
mod survive;
mod terminal;
mod told;
mod true_client;
mod trust;
// Static programs, machine code of other kinds and musl: what macOS has instead is in `macos/`.
#[cfg(target_os = "linux")]
mod unreached;
mod wrap;

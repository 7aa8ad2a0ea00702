//! Functions of libc that are found or called by their symbols.
#![cfg_attr(
    any(panic = "abort", not(target_vendor = "apple")),
    expect(unsafe_code, reason = "calls functions of libc")
)]
#[cfg(not(target_vendor = "apple"))]
use super::errno::Errno;
#[cfg(not(target_vendor = "apple"))]
use libc::{c_char, c_void};

/// The next definition of a symbol after this library, or null. `name` ends in NUL.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn next_symbol(name: &str) -> *mut c_void {
    let _errno = Errno::keep();
    // SAFETY: `name` ends in NUL, as every caller's literal does.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast::<c_char>()) }
}

/// libc's syscall(2), past our own hook of it.
#[cfg(target_os = "linux")]
pub(in crate::sys) fn kernel() -> unsafe extern "C" fn(libc::c_long, ...) -> libc::c_long {
    use core::sync::atomic::{AtomicPtr, Ordering};
    /// Takes its place where there is none.
    extern "C" fn missing() -> libc::c_long {
        super::errno::set_errno(libc::ENOSYS);
        -1
    }
    static NEXT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
    let mut next = NEXT.load(Ordering::Relaxed);
    if next.is_null() {
        next = next_symbol("syscall\0");
        if next.is_null() {
            let missing: extern "C" fn() -> libc::c_long = missing;
            next = missing as *mut c_void;
        }
        NEXT.store(next, Ordering::Relaxed);
    }
    // SAFETY: the address of libc's function, whose C signature this is; or of one that looks at no argument, and arguments
    // are the caller's to remove.
    unsafe { core::mem::transmute(next) }
}

/// Whether the process certainly has no second thread: glibc says so in a variable (`__libc_single_threaded`, since 2.32).
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn is_only_thread() -> bool {
    use core::sync::atomic::{AtomicI8, AtomicPtr, Ordering};
    static NO: AtomicI8 = AtomicI8::new(0);
    static VARIABLE: AtomicPtr<AtomicI8> = AtomicPtr::new(core::ptr::null_mut());
    let mut variable = VARIABLE.load(Ordering::Relaxed);
    if variable.is_null() {
        variable = next_symbol("__libc_single_threaded\0").cast::<AtomicI8>();
        if variable.is_null() {
            variable = (&raw const NO).cast_mut();
        }
        VARIABLE.store(variable, Ordering::Relaxed);
    }
    // SAFETY: the variable of libc, which is never unloaded, or our own.
    unsafe { &*variable }.load(Ordering::Relaxed) != 0
}

/// Nobody says so on macOS.
#[cfg(target_vendor = "apple")]
pub(crate) fn is_only_thread() -> bool {
    false
}

/// Ends the process. Only the panic handler calls it, and no code can panic.
#[cfg(panic = "abort")]
#[cfg_attr(test, expect(dead_code, reason = "the panic handler of std is used under test"))]
pub(crate) fn abort() -> ! {
    // SAFETY: abort takes no arguments.
    unsafe { libc::abort() }
}

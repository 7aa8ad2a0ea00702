//! The functions of libc that are hooked: symbol, name here, C signature, and the result if libc has no such function.
//! Each is listed once. `real` makes the function that the program would call without us, `hooks` the one that it calls.
//! `calls` says what a hook does and why it exists.

/// Calls `$make` with the functions of both systems.
macro_rules! functions {
    ($make:ident) => {
        $make! {
            "socket" fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int, -1;
            "bind" fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, -1;
            "listen" fn listen(fd: c_int, backlog: c_int) -> c_int, -1;
            "accept" fn accept(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int, -1;
            "connect" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, -1;
            "getsockname" fn getsockname(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int, -1;
            "getpeername" fn getpeername(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int, -1;
            "getsockopt" fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut socklen_t) -> c_int, -1;
            "setsockopt" fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t) -> c_int, -1;
            "shutdown" fn shutdown(fd: c_int, how: c_int) -> c_int, -1;
            "sendto" fn sendto(fd: c_int, data: *const c_void, size: size_t, flags: c_int, address: *const sockaddr, length: socklen_t) -> ssize_t, -1;
            "sendmsg" fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t, -1;
            "recvfrom" fn recvfrom(fd: c_int, data: *mut c_void, size: size_t, flags: c_int, address: *mut sockaddr, length: *mut socklen_t) -> ssize_t, -1;
            "recvmsg" fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t, -1;
            "dup" fn dup(fd: c_int) -> c_int, -1;
            "dup2" fn dup2(fd: c_int, to: c_int) -> c_int, -1;
            "execve" fn execve(program: *const c_char, arguments: Strings, environment: Strings) -> c_int, -1;
            "execv" fn execv(program: *const c_char, arguments: Strings) -> c_int, -1;
            "execvp" fn execvp(program: *const c_char, arguments: Strings) -> c_int, -1;
            "system" fn system(command: *const c_char) -> c_int, -1;
            "popen" fn popen(command: *const c_char, mode: *const c_char) -> *mut libc::FILE, core::ptr::null_mut();
            "posix_spawn" fn posix_spawn(pid: *mut libc::pid_t, program: *const c_char, actions: Actions, attributes: Attributes, arguments: Strings, environment: Strings) -> c_int, libc::ENOSYS;
            "posix_spawnp" fn posix_spawnp(pid: *mut libc::pid_t, program: *const c_char, actions: Actions, attributes: Attributes, arguments: Strings, environment: Strings) -> c_int, libc::ENOSYS;
            "getaddrinfo" fn getaddrinfo(node: *const c_char, service: *const c_char, hints: *const Info, result: *mut *mut Info) -> c_int, libc::EAI_SYSTEM;
            "gethostbyname" fn gethostbyname(name: *const c_char) -> *mut libc::hostent, core::ptr::null_mut();
            "gethostbyname2" fn gethostbyname2(name: *const c_char, family: c_int) -> *mut libc::hostent, core::ptr::null_mut();
        }
    };
}

/// Calls `$make` with the functions that only glibc has.
#[cfg(target_os = "linux")]
macro_rules! gnu_functions {
    ($make:ident) => {
        $make! {
            "syscall" fn syscall(number: libc::c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> libc::c_long, -1;
            "close" fn close(fd: c_int) -> c_int, -1;
            "fork" fn fork() -> libc::pid_t, -1;
            "forkpty" fn forkpty(terminal: *mut c_int, name: *mut c_char, settings: *const libc::termios, size: *const libc::winsize) -> libc::pid_t, -1;
            "umask" fn umask(mask: libc::mode_t) -> libc::mode_t, 0;
            "accept4" fn accept4(fd: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int, -1;
            "dup3" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int, -1;
            "fcntl" fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int, -1;
            "fcntl64" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int, -1;
            "epoll_create" fn epoll_create(size: c_int) -> c_int, -1;
            "epoll_create1" fn epoll_create1(flags: c_int) -> c_int, -1;
            "sendmmsg" fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: libc::c_uint, flags: c_int) -> c_int, -1;
            "recvmmsg" fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: libc::c_uint, flags: c_int, timeout: *mut libc::timespec) -> c_int, -1;
            "send" fn send(fd: c_int, data: *const c_void, size: size_t, flags: c_int) -> ssize_t, -1;
            "recv" fn recv(fd: c_int, data: *mut c_void, size: size_t, flags: c_int) -> ssize_t, -1;
            "__recv_chk" fn recv_chk(fd: c_int, data: *mut c_void, size: size_t, room: size_t, flags: c_int) -> ssize_t, -1;
            "__recvfrom_chk" fn recvfrom_chk(fd: c_int, data: *mut c_void, size: size_t, room: size_t, flags: c_int, address: *mut sockaddr, length: *mut socklen_t) -> ssize_t, -1;
            "execvpe" fn execvpe(program: *const c_char, arguments: Strings, environment: Strings) -> c_int, -1;
            "fexecve" fn fexecve(fd: c_int, arguments: Strings, environment: Strings) -> c_int, -1;
            "execveat" fn execveat(folder: c_int, program: *const c_char, arguments: Strings, environment: Strings, flags: c_int) -> c_int, -1;
            "gethostbyname_r" fn gethostbyname_r(name: *const c_char, result: *mut libc::hostent, buffer: *mut c_char, size: size_t, found: *mut *mut libc::hostent, error: *mut c_int) -> c_int, libc::ENOSYS;
            "gethostbyname2_r" fn gethostbyname2_r(name: *const c_char, family: c_int, result: *mut libc::hostent, buffer: *mut c_char, size: size_t, found: *mut *mut libc::hostent, error: *mut c_int) -> c_int, libc::ENOSYS;
        }
    };
}

/// Calls `$make` with the functions that only macOS has.
#[cfg(target_os = "macos")]
macro_rules! mac_functions {
    ($make:ident) => {
        $make! {
            "connect$NOCANCEL" fn connect_nocancel(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int, -1;
            "accept$NOCANCEL" fn accept_nocancel(fd: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int, -1;
            "sendto$NOCANCEL" fn sendto_nocancel(fd: c_int, data: *const c_void, size: size_t, flags: c_int, address: *const sockaddr, length: socklen_t) -> ssize_t, -1;
            "sendmsg$NOCANCEL" fn sendmsg_nocancel(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t, -1;
            "recvfrom$NOCANCEL" fn recvfrom_nocancel(fd: c_int, data: *mut c_void, size: size_t, flags: c_int, address: *mut sockaddr, length: *mut socklen_t) -> ssize_t, -1;
            "recvmsg$NOCANCEL" fn recvmsg_nocancel(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t, -1;
            "connectx" fn connectx(fd: c_int, endpoints: *const sa_endpoints_t, association: sae_associd_t, flags: libc::c_uint, data: *const iovec, count: libc::c_uint, sent: *mut size_t, connection: *mut sae_connid_t) -> c_int, -1;
            "popen$DARWIN_EXTSN" fn popen_extsn(command: *const c_char, mode: *const c_char) -> *mut libc::FILE, core::ptr::null_mut();
            "execvP" fn exec_search(program: *const c_char, path: *const c_char, arguments: Strings) -> c_int, -1;
        }
    };
}

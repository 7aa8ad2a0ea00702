//! The operating system: the calls that agentfs makes for itself, what it owns, and what TCP would answer.
//!
//! A call that fails returns `Err(errno)`. Callers that must not change the program's errno use [`Errno`].
mod answers;
mod descriptor;
mod errno;
mod kinds;
mod memory;
mod name;
mod options;
mod plain;
mod signals;
mod symbols;
mod syscalls;

pub(crate) use crate::header::{family_of, socklen};
#[cfg(target_os = "linux")]
pub(crate) use answers::info_length;
pub(crate) use answers::{
    ANSWERS_ANY_LEVEL, INFO_OPTION, PEER_NAME_OPTION, TEXT_OPTION, WRONG_FAMILY, as_read_back,
    buffer_request, inet_answer, is_common, is_of_peer, is_telling, peer_answer, take_back, text_of,
};
pub(crate) use descriptor::Fd;
pub(crate) use errno::{Errno, Result, errno, fail, set_errno};
pub(crate) use kinds::{is_closed, is_tcp};
pub(crate) use memory::Memory;
pub(crate) use name::RawName;
pub(crate) use options::{copy_option, is_listening, option, set_option};
pub(crate) use signals::Blocked;
#[cfg(panic = "abort")]
pub(crate) use symbols::abort;
pub(crate) use symbols::is_only_thread;
#[cfg(not(target_vendor = "apple"))]
pub(crate) use symbols::next_symbol;
pub(crate) use syscalls::descriptors::{control, replace, status_flags, wait_readable};
#[cfg(target_os = "linux")]
pub(crate) use syscalls::descriptors::{epoll_control, epoll_watches, events_now};
#[cfg(any(target_os = "macos", feature = "stand-ins", test))]
pub(crate) use syscalls::files::is_program;
pub(crate) use syscalls::files::{
    access, announce, change_mode, exists, inode, lock, make_folder, open, read, unlink,
};
#[cfg(target_os = "linux")]
pub(crate) use syscalls::files::{directory_entries, gains_rights, mask_changed, may_execute, read_at};
#[cfg(all(test, target_os = "linux"))]
pub(crate) use syscalls::process::no_new_rights;
pub(crate) use syscalls::process::{
    coarse_ms, is_own_user, monotonic_ns, now_ns, pause_us, process_id, program_name,
};
#[cfg(target_os = "linux")]
pub(crate) use syscalls::process::{map_page, unmap_page, word_is};
pub(crate) use syscalls::sockets::{
    bind, connect, control_length, get_option, own_name, peer_name, peer_user, receive_with_descriptors,
    send_now, send_to, set_option_raw, tcp_socket, udp_socket, unix_socket,
};
#[cfg(target_os = "linux")]
pub(crate) use syscalls::sockets::{end_reading, queue_of, receive_now, send, unread};

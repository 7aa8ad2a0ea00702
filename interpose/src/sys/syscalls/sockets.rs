//! Sockets: making, naming, connecting, options, messages.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(target_os = "linux")]
pub(crate) use linux::{end_reading, queue_of, receive_now, send, unread};
pub(crate) use system::{
    bind, connect, control_length, get_option, own_name, peer_name, peer_user, receive_with_descriptors,
    send_now, send_to, set_option_raw, tcp_socket, udp_socket, unix_socket,
};

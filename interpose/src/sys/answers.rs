//! What TCP would answer where a Unix socket answers something else, and how the kernel takes values of options. No
//! file and no descriptor of the program is touched here. Both systems have the same names.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(target_os = "linux")]
pub(crate) use linux::info_length;
pub(crate) use system::{
    ANSWERS_ANY_LEVEL, INFO_OPTION, PEER_NAME_OPTION, TEXT_OPTION, WRONG_FAMILY, as_read_back,
    buffer_request, inet_answer, is_common, is_of_peer, is_telling, peer_answer, take_back, text_of,
};

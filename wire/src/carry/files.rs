//! What must be known about files, and what was found out about one.
use crate::script::{self, HEAD_BYTES, Start};
use core::ffi::CStr;

/// Bytes of a path, `PATH_MAX` of macOS. A program with a longer path is started unchanged.
const PATH_BYTES: usize = 1024;

/// What must be known about files.
pub trait Files {
    /// Whether the program at this path loses the variables when it starts.
    fn protects(&self, path: &[u8]) -> bool;
    /// Finds the program that a command names, as execvp(3) does, and reads its first bytes. `false`: there is none.
    fn find(&self, name: &[u8], found: &mut Found) -> bool;
    /// Whether a file is at this path, as seen from the working directory.
    fn is_file(&self, path: &[u8]) -> bool;
}

/// Where a program is, and its first bytes.
#[derive(Clone, Debug)]
pub struct Found {
    path: [u8; PATH_BYTES],
    path_length: usize,
    head: [u8; HEAD_BYTES],
    head_length: usize,
}

// === impl Found ===

impl Default for Found {
    fn default() -> Self {
        Self::new()
    }
}

impl Found {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { path: [0; PATH_BYTES], path_length: 0, head: [0; HEAD_BYTES], head_length: 0 }
    }

    /// Takes a path in parts; `false` where it does not fit. A NUL follows it.
    pub fn set_path(&mut self, parts: &[&[u8]]) -> bool {
        self.path_length = 0;
        self.head_length = 0;
        for part in parts {
            let Some(end) = self.path_length.checked_add(part.len()).filter(|end| *end < PATH_BYTES) else {
                return false;
            };
            let Some(room) = self.path.get_mut(self.path_length..end) else { return false };
            for (to, from) in room.iter_mut().zip(*part) {
                *to = *from;
            }
            self.path_length = end;
        }
        if let Some(byte) = self.path.get_mut(self.path_length) {
            *byte = 0;
        }
        true
    }

    /// The path.
    pub fn path(&self) -> &[u8] {
        self.path.get(..self.path_length).unwrap_or(&[])
    }

    /// The path as C has it.
    pub fn path_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.path).unwrap_or(c"")
    }

    /// Takes the file's first bytes: `read` fills a buffer and says how many bytes there are.
    pub fn set_head(&mut self, read: impl FnOnce(&mut [u8]) -> usize) {
        self.head_length = read(&mut self.head).min(HEAD_BYTES);
    }

    /// The file's first bytes.
    pub fn head(&self) -> &[u8] {
        self.head.get(..self.head_length).unwrap_or(&[])
    }

    /// The kind of the program.
    pub(super) fn kind(&self, files: &dyn Files) -> Start<'_> {
        script::look_where(self.path(), self.head(), |path| files.protects(path))
    }
}

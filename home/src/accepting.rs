//! Which Unix sockets are listening. Linux lists them in `/proc/net/unix` (proc(5)): the flag 00010000 is
//! `__SO_ACCEPTCON`. On other systems every bound socket counts as listening; programs call `listen`
//! microseconds after `bind`, and the router tries again if it is refused.
use crate::limits::{ACCEPTING_CHEAP, ACCEPTING_SHARE};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// `__SO_ACCEPTCON` of linux/net.h.
const ACCEPTING: u32 = 0x0001_0000;

/// The named sockets at one moment: path → whether a socket with that name is listening. An accepted
/// connection has the same name as its listener, so one that is listening is enough.
#[derive(Debug, Default)]
pub struct AcceptingSockets {
    by_path: HashMap<String, bool>,
}

/// How expensive it is to read the list, which has every Unix socket of the machine.
#[derive(Debug, Default)]
pub struct Price {
    /// When it was read last, and how long that took.
    last: Option<(Instant, Duration)>,
}

// === impl Price ===

impl Price {
    /// Whether to read the list for a socket, `seen` before or not. If it is expensive, a new socket waits: its
    /// program reports `listen` by itself soon, or the socket is checked again in a moment.
    fn allows(&self, seen: bool, now: Instant) -> bool {
        let Some((at, took)) = self.last else { return true };
        took < ACCEPTING_CHEAP || (seen && now.saturating_duration_since(at) >= took * ACCEPTING_SHARE)
    }

    /// The list, if it may be read for a socket now.
    pub fn read(&mut self, seen: bool) -> Option<AcceptingSockets> {
        let now = Instant::now();
        self.allows(seen, now).then(|| {
            let sockets = AcceptingSockets::read();
            self.last = Some((now, now.elapsed()));
            sockets
        })
    }
}

// === impl AcceptingSockets ===

impl AcceptingSockets {
    /// Reads the list. If there is none, every socket counts as listening.
    fn read() -> Self {
        match std::fs::read("/proc/net/unix") {
            Ok(text) => Self::parse(&String::from_utf8_lossy(&text)),
            Err(_) => Self::default(),
        }
    }

    fn parse(text: &str) -> Self {
        let mut by_path = HashMap::new();
        for line in text.lines() {
            let mut fields = line.split_ascii_whitespace();
            let flags = fields.nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok());
            // Type, state and inode are between; a path may have blanks.
            let inode = fields.nth(2);
            let (Some(flags), Some(inode)) = (flags, inode) else { continue };
            let Some((_, path)) = line.split_once(&format!(" {inode} ")) else { continue };
            *by_path.entry(collapse(path)).or_insert(false) |= flags & ACCEPTING != 0;
        }
        Self { by_path }
    }

    /// Whether the socket at `path` is listening. If the list does not have the name, it was bound under
    /// another name, for instance in another network namespace: that cannot be checked, so it counts as
    /// listening.
    pub fn contains(&self, path: &Path) -> bool {
        let whole = collapse(&path.to_string_lossy());
        let file = || path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
        let found = self.by_path.get(&whole).or_else(|| self.by_path.get(&file()));
        found.copied().unwrap_or(true)
    }
}

/// A path with double slashes replaced by single ones: the interposer marks a socket's family with them.
fn collapse(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !text.ends_with('/') {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000003 00000000 00000000 0001 03  1128
0000000000000000: 00000002 00000000 00010000 0001 01  2001 /run/a/shop-k3f9.8080.sock
0000000000000000: 00000003 00000000 00000000 0001 03  2002 /run/a/shop-k3f9.8080.sock
0000000000000000: 00000002 00000000 00000000 0001 01  2003 /run/a//shop-k3f9.81.sock
0000000000000000: 00000002 00000000 00000000 0001 01  2004 shop-k3f9.82.sock
0000000000000000: 00000002 00000000 00010000 0001 01 20055 /run/a b/shop-x.sock
";

    #[test]
    fn listening_is_told_from_bound() {
        let sockets = AcceptingSockets::parse(LIST);
        for (path, listens) in [
            ("/run/a/shop-k3f9.8080.sock", true),
            ("/run/a/shop-k3f9.81.sock", false),
            ("/run/a/shop-k3f9.82.sock", false),
            ("/run/a b/shop-x.sock", true),
            ("/run/a/never-seen.sock", true),
        ] {
            assert_eq!(sockets.contains(Path::new(path)), listens, "{path}");
        }
    }

    #[test]
    fn an_expensive_list_is_read_now_and_then() {
        let now = Instant::now();
        let mut price = Price::default();
        assert!(price.allows(false, now), "its price is not known");
        price.last = Some((now, ACCEPTING_CHEAP / 2));
        assert!(price.allows(false, now) && price.allows(true, now), "cheap");
        let took = ACCEPTING_CHEAP * 2;
        price.last = Some((now, took));
        let later = now + took * ACCEPTING_SHARE;
        assert!(!price.allows(true, now) && !price.allows(false, later) && price.allows(true, later));
    }
}

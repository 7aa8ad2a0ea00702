//! The page is mapped on first use. The kernel compares its first word, so that a page without memory behind it is an
//! error and not a signal. That costs a sixth of what opening and reading the file costs.
use super::file::open;
use crate::config::Config;
use crate::sys;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Milliseconds after which a page that could not be mapped is tried again, and a mapped one is asked whether the
/// collector has replaced it.
const AGAIN_MS: u64 = 100;

/// The first word while somebody traces.
const TRACED: u32 = u32::from_ne_bytes([1, 0, 0, 0]);
/// The first word of a page that the collector has replaced.
const MOVED: u32 = u32::from_ne_bytes([2, 0, 0, 0]);

/// Where the page is mapped; 0 if it is not.
static PAGE: AtomicUsize = AtomicUsize::new(0);
/// When the page was mapped, or mapping it was tried, or it was asked whether it was replaced.
static ASKED_MS: AtomicU64 = AtomicU64::new(0);

/// The coarse clock has ticks of its own.
pub(super) fn tick(now_ms: u64) -> u64 {
    now_ms
}

/// Asks the page.
pub(super) fn look(config: &Config, now: u64) -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    let due = now.wrapping_sub(ASKED_MS.load(Ordering::Relaxed)) >= AGAIN_MS;
    let lost = match page {
        0 => due,
        _ => match sys::word_is(page, TRACED) {
            Ok(true) => return true,
            Ok(false) => due && sys::word_is(page, MOVED) == Ok(true),
            // The file was cut short.
            Err(_) => due,
        },
    };
    if due {
        ASKED_MS.store(now, Ordering::Relaxed);
    }
    lost && sys::word_is(map(config, page), TRACED) == Ok(true)
}

/// Maps the page anew. Returns its address, or 0.
fn map(config: &Config, before: usize) -> usize {
    let new = open(config).and_then(|file| sys::map_page(file.number())).unwrap_or(0);
    // Another thread may have been faster. A thread that still asks the old address is told EFAULT, or that some other
    // word is not the one it asks for.
    let unused = match PAGE.compare_exchange(before, new, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(old) => old,
        Err(_) => new,
    };
    sys::unmap_page(unused);
    PAGE.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_page_that_is_cut_short_or_replaced_is_found_again() {
        let home = std::path::Path::new("/tmp").join(format!("af-page-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        let config = Config::of_shop(&format!("{}/run", home.display()));
        let path = home.join("trace.page");
        let mut now = 1000;
        let mut traces = || {
            now += AGAIN_MS;
            look(&config, now)
        };
        assert!(!traces(), "the file does not exist yet");
        let page = |first: u8| {
            fs::write(&path, [&[first][..], &[0; 4095]].concat()).unwrap();
            fs::File::options().write(true).open(&path).unwrap()
        };
        let file = page(0);
        assert!(!traces());
        file.write_all_at(&[1], 0).unwrap();
        assert!(traces(), "somebody traces");
        file.set_len(0).unwrap();
        assert!(!traces(), "it was cut short");
        file.set_len(4096).unwrap();
        file.write_all_at(&[1], 0).unwrap();
        assert!(traces(), "it was restored");
        fs::remove_file(&path).unwrap();
        let new = page(1);
        file.write_all_at(&[2], 0).unwrap();
        assert!(traces(), "the new one");
        new.write_all_at(&[0], 0).unwrap();
        assert!(!traces());
        fs::remove_dir_all(&home).unwrap();
        new.write_all_at(&[1], 0).unwrap();
        assert!(traces(), "it stays mapped");
    }
}

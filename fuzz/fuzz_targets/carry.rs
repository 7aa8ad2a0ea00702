//! Texts of shells: rewriting never panics. If no command in a text is known, only the variables come before it. A text that
//! went through is not changed again.
#![no_main]

use agentfs_wire::carry::{Files, Found, carry_text};
use libfuzzer_sys::fuzz_target;

struct All(bool);

impl Files for All {
    fn protects(&self, path: &[u8]) -> bool {
        path.starts_with(b"/usr/")
    }
    fn find(&self, name: &[u8], found: &mut Found) -> bool {
        let script = b"#!/usr/bin/env node\n";
        self.0 && found.set_path(&[b"/x/", name]) && {
            found.set_head(|room| {
                let length = if name == b"node" { 0 } else { script.len() };
                room[..length].copy_from_slice(&script[..length]);
                length
            });
            true
        }
    }
    fn is_file(&self, _: &[u8]) -> bool {
        self.0
    }
}

fuzz_target!(|text: &[u8]| {
    let variables = |each: &mut dyn FnMut(&[u8], &[u8])| each(b"V", b"it's");
    for knows in [false, true] {
        let mut written = Vec::new();
        if !carry_text(text, &variables, &All(knows), &mut |bytes| written.extend_from_slice(bytes)) {
            continue;
        }
        assert!(written.starts_with(b"V='it'\\''s' ") || written.starts_with(b"export V='it'\\''s'; "));
        if !knows {
            assert!(written.ends_with(text));
        }
        assert!(!carry_text(&written, &variables, &All(knows), &mut |_| {}));
    }
});

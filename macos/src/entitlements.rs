//! The three entitlements of a code signature that decide about libraries. The signature has them as an XML
//! property list and, since macOS 12, in DER. Pure; what cannot be read grants nothing.

/// What a program is entitled to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// `com.apple.security.cs.allow-dyld-environment-variables`: the hardened runtime keeps `DYLD_…`
    /// variables.
    pub dyld_variables: bool,
    /// `com.apple.security.cs.disable-library-validation`: libraries of other signers may be loaded.
    pub any_library: bool,
    /// `com.apple.security.get-task-allow`: a debugger may attach. Says nothing about libraries.
    pub get_task_allow: bool,
}

/// DER tags: X.690, and Apple's application tag 16 around a context tag 16 (Security, `libDER`).
const BOOLEAN: u8 = 0x01;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const APPLICATION_16: u8 = 0x70;
const CONTEXT_16: u8 = 0xb0;

// === impl Entitlements ===

impl Entitlements {
    /// Reads a property list.
    pub fn from_xml(text: &[u8]) -> Self {
        let mut found = Self::default();
        let Ok(text) = std::str::from_utf8(text) else { return found };
        let text = without_comments(text);
        for part in text.split("<key>").skip(1) {
            if let Some((key, value)) = part.split_once("</key>") {
                found.set(key.trim(), value.trim_start().starts_with("<true"));
            }
        }
        found
    }

    /// Reads DER.
    pub fn from_der(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        let _ = found.read_der(bytes);
        found
    }

    /// The entitlements that at least one of the two grants.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            dyld_variables: self.dyld_variables || other.dyld_variables,
            any_library: self.any_library || other.any_library,
            get_task_allow: self.get_task_allow || other.get_task_allow,
        }
    }

    fn read_der(&mut self, bytes: &[u8]) -> Option<()> {
        let (tag, mut content, _) = element(bytes)?;
        if tag == APPLICATION_16 {
            // A version, then the dictionary.
            let (_, _, rest) = element(content)?;
            let (CONTEXT_16, dictionary, _) = element(rest)? else { return None };
            content = dictionary;
        } else if tag != SET {
            return None;
        }
        while let Some((SEQUENCE, pair, rest)) = element(content) {
            content = rest;
            let (UTF8_STRING, key, value) = element(pair)? else { return None };
            if let (Ok(key), Some((BOOLEAN, value, _))) = (std::str::from_utf8(key), element(value)) {
                self.set(key, value.iter().any(|byte| *byte != 0));
            }
        }
        Some(())
    }

    fn set(&mut self, key: &str, on: bool) {
        match key {
            "com.apple.security.cs.allow-dyld-environment-variables" => self.dyld_variables = on,
            "com.apple.security.cs.disable-library-validation" => self.any_library = on,
            "com.apple.security.get-task-allow" => self.get_task_allow = on,
            _ => {}
        }
    }
}

/// The first element: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let length = if *first < 0x80 {
        usize::from(*first)
    } else {
        let (digits, behind) =
            rest.split_at_checked(usize::from(*first & 0x7f)).filter(|(it, _)| it.len() <= 4)?;
        rest = behind;
        digits
            .iter()
            .try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add(usize::from(*digit)))?
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("<!--") {
        kept.push_str(before);
        rest = behind.split_once("-->").map_or("", |(_, behind)| behind);
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    const DYLD: &str = "com.apple.security.cs.allow-dyld-environment-variables";
    const ANY: &str = "com.apple.security.cs.disable-library-validation";

    #[test]
    fn a_property_list_is_read() {
        let read = |body: &str| Entitlements::from_xml(sample::plist(body).as_bytes());
        let on = format!("<key>{DYLD}</key>\n\t<true/><key>x</key><array/><key>{ANY}</key><true></true>");
        let both = Entitlements { dyld_variables: true, any_library: true, get_task_allow: false };
        assert_eq!(read(&on), both);
        assert_eq!(read(&format!("<key>{DYLD}</key><false/>")), Entitlements::default());
        assert_eq!(read(&format!("<!-- <key>{DYLD}</key><true/> -->")), Entitlements::default());
        assert_eq!(read(&format!("<string>{DYLD}</string><true/>")), Entitlements::default());
        assert!(read("<key>com.apple.security.get-task-allow</key><!-- x --> <true/>").get_task_allow);
        assert_eq!(Entitlements::from_xml(b"\xff<key>"), Entitlements::default());
        assert_eq!(Entitlements::from_xml(b"<!-- <key>"), Entitlements::default());
    }

    #[test]
    fn der_is_read() {
        let both = Entitlements { dyld_variables: true, any_library: true, get_task_allow: false };
        let pairs = [(DYLD, true), ("x", true), (ANY, true), ("com.apple.security.get-task-allow", false)];
        let der = sample::der(&pairs);
        assert_eq!(Entitlements::from_der(&der), both);
        for length in 0..der.len() {
            let _ = Entitlements::from_der(&der[..length]);
        }
        assert_eq!(Entitlements::from_der(b"\x70\x84\xff\xff\xff\xff"), Entitlements::default());
        assert_eq!(Entitlements::from_der(b"\x70\xff"), Entitlements::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Entitlements::from_der(&bytes);
            let _ = Entitlements::from_xml(&bytes);
        }
    }
}

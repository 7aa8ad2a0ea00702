//! A code signature: Apple's "super blob" with the code directory and the entitlements in it. Everything in it
//! is big-endian. Layout: xnu, `osfmk/kern/cs_blobs.h`. Reports what the signature claims; only the kernel
//! checks whether it is valid. Pure.
use crate::entitlements::Entitlements;
use crate::error::Error;
use crate::limits::{ENTITLEMENTS_BYTES, SIGNATURE_BLOBS};
use object::read::ReadRef;

/// Magic numbers of blobs.
pub(crate) const SUPER_BLOB: u32 = 0xfade_0cc0;
pub(crate) const CODE_DIRECTORY: u32 = 0xfade_0c02;
pub(crate) const ENTITLEMENTS_XML: u32 = 0xfade_7171;
pub(crate) const ENTITLEMENTS_DER: u32 = 0xfade_7172;

/// Kinds of blobs in the index of a super blob.
pub(crate) const SLOT_CODE_DIRECTORY: u32 = 0;
pub(crate) const SLOT_ENTITLEMENTS: u32 = 5;
pub(crate) const SLOT_ENTITLEMENTS_DER: u32 = 7;

/// Flags of a code directory.
const CS_ADHOC: u32 = 0x2;
const CS_RESTRICT: u32 = 0x800;
const CS_REQUIRE_LV: u32 = 0x2000;
const CS_RUNTIME: u32 = 0x1_0000;
const CS_LINKER_SIGNED: u32 = 0x2_0000;

/// Offsets of flags and platform in a code directory.
const FLAGS_AT: u64 = 12;
const PLATFORM_AT: u64 = 38;

/// What a signature says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Flags of the code directory (`CS_…`).
    pub flags: u32,
    /// Whether it is marked as a part of macOS.
    pub platform: bool,
    /// What the program is entitled to.
    pub entitlements: Entitlements,
}

// === impl Signature ===

impl Signature {
    /// Signed by nobody: by `codesign -s -` or the linker.
    pub fn is_ad_hoc(&self) -> bool {
        self.flags & (CS_ADHOC | CS_LINKER_SIGNED) != 0
    }

    /// The hardened runtime.
    pub fn is_hardened(&self) -> bool {
        self.flags & CS_RUNTIME != 0
    }

    /// Libraries must be of the same signer.
    pub fn validates_libraries(&self) -> bool {
        self.flags & (CS_REQUIRE_LV | CS_RUNTIME) != 0 && !self.entitlements.any_library
    }

    /// The dynamic loader treats it as set-uid.
    pub fn is_restricted(&self) -> bool {
        self.flags & CS_RESTRICT != 0
    }

    /// Reads the signature at `start` with `size` bytes.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it ends too early or is not a signature.
    pub(crate) fn read<'a, R: ReadRef<'a>>(data: R, start: u64, size: u64) -> Result<Self, Error> {
        let blob = Blob { data, start, size };
        if blob.number(0)? != SUPER_BLOB {
            return Err(Error::Malformed("it has no valid code signature"));
        }
        let count = blob.number(8)?;
        if count > SIGNATURE_BLOBS {
            return Err(Error::Malformed("its code signature has too many parts"));
        }
        let mut directory = None;
        let mut entitlements = Entitlements::default();
        for index in 0..u64::from(count) {
            let kind = blob.number(12 + index * 8)?;
            let part = blob.part(blob.number(16 + index * 8)?)?;
            match (kind, part.number(0)?) {
                (SLOT_CODE_DIRECTORY, CODE_DIRECTORY) => {
                    directory = Some((part.number(FLAGS_AT)?, part.byte(PLATFORM_AT)? != 0));
                }
                (SLOT_ENTITLEMENTS, ENTITLEMENTS_XML) => {
                    entitlements = entitlements.or(Entitlements::from_xml(part.payload()?));
                }
                (SLOT_ENTITLEMENTS_DER, ENTITLEMENTS_DER) => {
                    entitlements = entitlements.or(Entitlements::from_der(part.payload()?));
                }
                _ => {}
            }
        }
        let (flags, platform) = directory.ok_or(Error::Malformed("its code signature has no directory"))?;
        Ok(Self { flags, platform, entitlements })
    }
}

/// A part of a file; reads through it stay inside.
#[derive(Clone, Copy, Debug)]
struct Blob<R> {
    data: R,
    start: u64,
    size: u64,
}

// === impl Blob ===

impl<'a, R: ReadRef<'a>> Blob<R> {
    const SHORT: Error = Error::Malformed("its code signature ends too early");

    fn bytes(&self, at: u64, length: u64) -> Result<&'a [u8], Error> {
        at.checked_add(length).filter(|end| *end <= self.size).ok_or(Self::SHORT)?;
        let start = self.start.checked_add(at).ok_or(Self::SHORT)?;
        self.data.read_bytes_at(start, length).map_err(|()| Self::SHORT)
    }

    fn number(&self, at: u64) -> Result<u32, Error> {
        self.bytes(at, 4)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Self::SHORT)
    }

    fn byte(&self, at: u64) -> Result<u8, Error> {
        self.bytes(at, 1)?.first().copied().ok_or(Self::SHORT)
    }

    /// The blob at an offset; the blob contains its own length.
    fn part(&self, at: u32) -> Result<Self, Error> {
        let at = u64::from(at);
        let size = u64::from(self.number(at.checked_add(4).ok_or(Self::SHORT)?)?);
        at.checked_add(size).filter(|end| *end <= self.size).ok_or(Self::SHORT)?;
        Ok(Self { data: self.data, start: self.start.checked_add(at).ok_or(Self::SHORT)?, size })
    }

    /// The content after magic number and length.
    fn payload(&self) -> Result<&'a [u8], Error> {
        let length = self.size.checked_sub(8).ok_or(Self::SHORT)?;
        if length > u64::from(ENTITLEMENTS_BYTES) {
            return Err(Error::Malformed("its entitlements are too long"));
        }
        self.bytes(8, length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Signature, Error> {
        Signature::read(bytes, 0, bytes.len() as u64)
    }

    #[test]
    fn flags_platform_and_entitlements_are_read() {
        let key = "com.apple.security.cs.allow-dyld-environment-variables";
        let xml = sample::plist(&format!("<key>{key}</key><true/>"));
        let der = sample::der(&[("com.apple.security.cs.disable-library-validation", true)]);
        let found = read(&sample::signature(CS_RUNTIME, 0, Some(xml.as_bytes()), Some(&der))).unwrap();
        assert!(found.is_hardened() && !found.is_ad_hoc() && !found.platform && !found.is_restricted());
        assert!(found.entitlements.dyld_variables && found.entitlements.any_library);
        assert!(!found.validates_libraries());
        let found = read(&sample::signature(CS_ADHOC | CS_RESTRICT | CS_REQUIRE_LV, 14, None, None)).unwrap();
        assert!(found.platform && found.is_ad_hoc() && found.is_restricted() && found.validates_libraries());
        assert!(!found.is_hardened());
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let good = sample::signature(0, 0, Some(b"<plist/>"), None);
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "{length}");
        }
        let mut many = good.clone();
        many[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(read(&many).is_err());
        let mut far = good;
        far[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(read(&far).is_err());
        assert!(read(&[0xfa, 0xde, 0x0c, 0xc0, 0, 0, 0, 12, 0, 0, 0, 0]).is_err(), "no directory");
    }

    proptest! {
        #[test]
        fn a_changed_signature_is_read(at in 0_usize..200, byte: u8, length in 0_usize..400) {
            let mut bytes = sample::signature(0x10000, 0, Some(b"<key>x</key><true/>"), Some(&sample::der(&[("y", true)])));
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(length);
            let _ = read(&bytes);
        }
    }
}

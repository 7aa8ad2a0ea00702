//! The processors that a Mach-O file is for, from its first bytes. Pure, without allocation. The interposer
//! checks it before it passes itself on to a child, because the loader of macOS ends a program that is told
//! to load a library without a slice for it. Layout: mach-o/loader.h, mach-o/fat.h. The whole file is read by
//! `agentfs-macos`.

/// Bytes of a file that hold the headers of any real universal program (two or three slices).
pub const HEAD_BYTES: usize = 512;

/// Slices of a universal file. A Java class file begins with the same four bytes and has its version there, 45
/// or more.
const MOST: u32 = 32;

const CPU_X86_64: u32 = 0x0100_0007;
const CPU_ARM64: u32 = 0x0100_000c;
/// Subtype of arm64, without the capabilities in the top byte.
const SUBTYPE_ARM64E: u32 = 2;

/// The slices of a file that matter here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slices {
    /// Apple silicon.
    pub arm64: bool,
    /// Apple silicon with pointer authentication; only Apple makes libraries for it.
    pub arm64e: bool,
    /// Intel, 64 bit.
    pub x86_64: bool,
}

// === impl Slices ===

impl Slices {
    /// Reads the first bytes of a file; `None` if it is not a Mach-O file.
    pub fn read(head: &[u8]) -> Option<Self> {
        let mut slices = Self::default();
        match number(head, 0, u32::from_be_bytes)? {
            0xcffa_edfe | 0xcefa_edfe => {
                slices.add(number(head, 4, u32::from_le_bytes)?, number(head, 8, u32::from_le_bytes)?);
            }
            magic @ (0xcafe_babe | 0xcafe_babf) => {
                let count = number(head, 4, u32::from_be_bytes).filter(|count| (1..=MOST).contains(count))?;
                let size = if magic == 0xcafe_babe { 20 } else { 32 };
                for index in 0..usize::try_from(count).ok()? {
                    let at = 8 + index * size;
                    let cpu = number(head, at, u32::from_be_bytes)?;
                    slices.add(cpu, number(head, at + 4, u32::from_be_bytes)?);
                }
            }
            _ => return None,
        }
        Some(slices)
    }

    fn add(&mut self, cpu: u32, subtype: u32) {
        match (cpu, subtype & 0x00ff_ffff) {
            (CPU_ARM64, SUBTYPE_ARM64E) => self.arm64e = true,
            (CPU_ARM64, _) => self.arm64 = true,
            (CPU_X86_64, _) => self.x86_64 = true,
            _ => {}
        }
    }

    /// Whether a program with these slices, started by one for Apple silicon or not, can load `library`.
    pub fn load(self, on_arm64: bool, library: Self) -> bool {
        // The slice that the kernel prefers. A program for Intel may run on either kind of Mac.
        match (on_arm64, self) {
            (true, Self { arm64: true, .. }) | (false, Self { arm64: true, x86_64: false, .. }) => {
                library.arm64
            }
            (true, Self { arm64e: true, .. }) => false,
            (_, Self { x86_64: true, .. }) => library.x86_64,
            _ => false,
        }
    }
}

fn number(head: &[u8], at: usize, order: fn([u8; 4]) -> u32) -> Option<u32> {
    head.get(at..)?.first_chunk().map(|bytes| order(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ARM64: Slices = Slices { arm64: true, arm64e: false, x86_64: false };
    const ARM64E: Slices = Slices { arm64: false, arm64e: true, x86_64: false };
    const X86_64: Slices = Slices { arm64: false, arm64e: false, x86_64: true };
    const BOTH: Slices = Slices { arm64: true, arm64e: false, x86_64: true };
    /// The slices of Apple's own programs.
    const SYSTEM: Slices = Slices { arm64: false, arm64e: true, x86_64: true };

    fn thin(cpu: u32, subtype: u32) -> Vec<u8> {
        [0xfeed_facf_u32, cpu, subtype, 2].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn universal(magic: u32, cpus: &[(u32, u32)]) -> Vec<u8> {
        let size = if magic == 0xcafe_babe { 20 } else { 32 };
        let mut head: Vec<u8> =
            [magic, u32::try_from(cpus.len()).unwrap()].iter().flat_map(|word| word.to_be_bytes()).collect();
        for (cpu, subtype) in cpus {
            let mut entry = [cpu.to_be_bytes(), subtype.to_be_bytes()].concat();
            entry.resize(size, 0);
            head.extend(entry);
        }
        head
    }

    #[test]
    fn slices_are_read_from_the_beginning() {
        assert_eq!(Slices::read(&thin(CPU_ARM64, 0)), Some(ARM64));
        assert_eq!(Slices::read(&thin(CPU_ARM64, 0x8000_0002)), Some(ARM64E));
        assert_eq!(Slices::read(&thin(CPU_X86_64, 3)), Some(X86_64));
        assert_eq!(Slices::read(&thin(7, 3)), Some(Slices::default()));
        for magic in [0xcafe_babe, 0xcafe_babf] {
            let head = universal(magic, &[(CPU_X86_64, 3), (CPU_ARM64, 0)]);
            assert_eq!(Slices::read(&head), Some(BOTH));
            assert_eq!(Slices::read(&head[..head.len() - 30]), None, "cut short");
            let head = universal(magic, &[(CPU_X86_64, 3), (CPU_ARM64, 0x8000_0002)]);
            assert_eq!(Slices::read(&head), Some(SYSTEM));
        }
        let java = [0xcafe_babe_u32, 52, 1, 1].iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        for head in [b"".as_slice(), b"#!/bin/sh\n", b"\x7fELF", &java] {
            assert_eq!(Slices::read(head), None);
        }
    }

    #[test]
    fn a_library_has_to_have_the_slice_that_is_run() {
        for (on_arm64, program, library, loads) in [
            (true, ARM64, ARM64, true),
            (true, BOTH, ARM64, true),
            (true, X86_64, ARM64, false),
            (true, X86_64, BOTH, true),
            (true, ARM64E, BOTH, false),
            (true, SYSTEM, BOTH, false),
            (false, X86_64, X86_64, true),
            (false, BOTH, X86_64, true),
            (false, ARM64, X86_64, false),
            (false, ARM64, BOTH, true),
            (true, Slices::default(), BOTH, false),
        ] {
            assert_eq!(program.load(on_arm64, library), loads, "{on_arm64} {program:?} {library:?}");
        }
    }

    proptest! {
        #[test]
        fn any_beginning_is_read(head in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Slices::read(&head);
            let _ = Slices::read(&[b"\xca\xfe\xba\xbe\0\0\0".as_slice(), &head].concat());
        }
    }
}

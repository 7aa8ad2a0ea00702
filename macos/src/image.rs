//! What a Mach-O file says about itself: its slices, their processors, and their code signatures. Reads
//! universal files with 32 and 64 bit headers, and programs of either word size. Pure; reads from anything
//! with offsets: bytes, or a file, of which only headers are read.
pub use crate::error::Error;
use crate::limits::{LOAD_COMMANDS_BYTES, SLICES};
use crate::signature::Signature;
use object::endian::Endianness;
use object::macho;
use object::read::ReadRef;
use object::read::macho::{FatArch, MachHeader, MachOFatFile32, MachOFatFile64};
use std::fmt;
use std::fs::File;

/// A processor that a slice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// Apple silicon.
    Arm64,
    /// Apple silicon with pointer authentication: the system's own programs.
    Arm64e,
    /// Intel, 64 bit.
    X86_64,
    /// Intel, 32 bit: not since macOS 10.15.
    I386,
    /// Another, by its number in mach/machine.h.
    Other(u32),
}

/// A file, one slice or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// At least one.
    pub slices: Vec<Slice>,
}

/// The part of a file for one processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The processor.
    pub cpu: Cpu,
    /// Its offset in the file, in bytes.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// Whether it has a segment `__RESTRICT`, which makes the loader ignore `DYLD_…`.
    pub restrict: bool,
    /// Its code signature.
    pub signature: Option<Signature>,
}

// === impl Cpu ===

impl Cpu {
    fn new(kind: macho::CpuType, subtype: macho::CpuSubtype) -> Self {
        match kind {
            macho::CPU_TYPE_ARM64 if subtype.id().0 == macho::CPU_SUBTYPE_ARM64E.0 => Self::Arm64e,
            macho::CPU_TYPE_ARM64 => Self::Arm64,
            macho::CPU_TYPE_X86_64 => Self::X86_64,
            macho::CPU_TYPE_X86 => Self::I386,
            other => Self::Other(other.0),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arm64 => to.write_str("arm64"),
            Self::Arm64e => to.write_str("arm64e"),
            Self::X86_64 => to.write_str("x86_64"),
            Self::I386 => to.write_str("i386"),
            Self::Other(number) => write!(to, "processor {number}"),
        }
    }
}

// === impl Image ===

impl Image {
    /// Reads a whole file in memory.
    ///
    /// # Errors
    /// [`Error`], for anything but a well-formed Mach-O file. Never panics, whatever the bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes)
    }

    /// Reads headers and signatures of a file, a few kilobytes of it.
    ///
    /// # Errors
    /// As [`Image::from_bytes`]; a file that cannot be read is malformed.
    pub fn from_file(file: File) -> Result<Self, Error> {
        let cache = object::read::ReadCache::new(file);
        Self::read(&cache)
    }

    /// Reads anything that can be read at an offset.
    ///
    /// # Errors
    /// As [`Image::from_bytes`].
    pub fn read<'a, R: ReadRef<'a>>(data: R) -> Result<Self, Error> {
        let start = data.read_bytes_at(0, 8).map_err(|()| Error::NotMachO)?;
        let number = |at: usize| start.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let slices = match number(0) {
            Some(macho::FAT_MAGIC) => {
                Self::few(number(4))?;
                let fat = MachOFatFile32::parse(data).map_err(|_| Self::SHORT)?;
                slices(data, fat.arches())?
            }
            Some(macho::FAT_MAGIC_64) => {
                Self::few(number(4))?;
                let fat = MachOFatFile64::parse(data).map_err(|_| Self::SHORT)?;
                slices(data, fat.arches())?
            }
            _ => vec![Slice::read(data, 0, data.len().map_err(|()| Self::SHORT)?)?],
        };
        Ok(Self { slices })
    }

    const SHORT: Error = Error::Malformed("its header ends too early");

    fn few(count: Option<u32>) -> Result<(), Error> {
        match count {
            Some(1..=SLICES) => Ok(()),
            _ => Err(Error::NotMachO),
        }
    }

    /// The slice for a processor.
    pub fn slice(&self, cpu: Cpu) -> Option<&Slice> {
        self.slices.iter().find(|slice| slice.cpu == cpu)
    }

    /// The processors that it has slices for.
    pub fn cpus(&self) -> Vec<Cpu> {
        self.slices.iter().map(|slice| slice.cpu).collect()
    }
}

fn slices<'a, R: ReadRef<'a>, F: FatArch>(data: R, arches: &[F]) -> Result<Vec<Slice>, Error> {
    let one = |arch: &F| {
        let (offset, size) = arch.file_range();
        let slice = Slice::read(data, offset, size)?;
        // The kernel uses the universal header, and refuses a slice whose own header differs.
        if slice.cpu == Cpu::new(arch.cputype(), arch.cpusubtype()) {
            Ok(slice)
        } else {
            Err(Error::Malformed("a slice is for another processor than its header says"))
        }
    };
    arches.iter().map(one).collect()
}

// === impl Slice ===

impl Slice {
    fn read<'a, R: ReadRef<'a>>(data: R, offset: u64, size: u64) -> Result<Self, Error> {
        let end = offset.checked_add(size).ok_or(Image::SHORT)?;
        if data.len().map_err(|()| Image::SHORT)? < end {
            return Err(Error::Malformed("a slice ends beyond the end of the file"));
        }
        // Both magic numbers of either word size, as the file's own byte order writes them.
        let magic = data.read_bytes_at(offset, 4).map_err(|()| Error::NotMachO)?;
        match magic {
            [0xcf, 0xfa, 0xed, 0xfe] | [0xfe, 0xed, 0xfa, 0xcf] => {
                Self::header::<R, macho::MachHeader64<Endianness>>(data, offset, size)
            }
            [0xce, 0xfa, 0xed, 0xfe] | [0xfe, 0xed, 0xfa, 0xce] => {
                Self::header::<R, macho::MachHeader32<Endianness>>(data, offset, size)
            }
            _ => Err(Error::NotMachO),
        }
    }

    fn header<'a, R: ReadRef<'a>, H: MachHeader<Endian = Endianness>>(
        data: R,
        offset: u64,
        size: u64,
    ) -> Result<Self, Error> {
        const COMMANDS: Error = Error::Malformed("its load commands end too early");
        let header = H::parse(data, offset).map_err(|_| Image::SHORT)?;
        let endian = header.endian().map_err(|_| Image::SHORT)?;
        let mut slice = Self {
            cpu: Cpu::new(header.cputype(endian), header.cpusubtype(endian)),
            offset,
            size,
            restrict: false,
            signature: None,
        };
        if header.sizeofcmds(endian) > LOAD_COMMANDS_BYTES {
            return Err(Error::Malformed("its load commands are too long"));
        }
        let mut commands = header.load_commands(endian, data, offset).map_err(|_| COMMANDS)?;
        while let Some(command) = commands.next().map_err(|_| COMMANDS)? {
            match command.cmd() {
                macho::LC_SEGMENT | macho::LC_SEGMENT_64 => {
                    // In both formats the name comes after the command and its size.
                    let name = command.raw_data().get(8..24).ok_or(COMMANDS)?;
                    slice.restrict |= name.starts_with(b"__RESTRICT\0");
                }
                macho::LC_CODE_SIGNATURE => {
                    let place: &macho::LinkeditDataCommand<Endianness> =
                        command.data().map_err(|_| COMMANDS)?;
                    let at = u64::from(place.dataoff.get(endian));
                    let length = u64::from(place.datasize.get(endian));
                    if at.checked_add(length).is_none_or(|end| end > size) {
                        return Err(Error::Malformed("its code signature ends beyond its end"));
                    }
                    let start = offset.checked_add(at).ok_or(COMMANDS)?;
                    slice.signature = Some(Signature::read(data, start, length)?);
                }
                _ => {}
            }
        }
        Ok(slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, Sample};
    use proptest::prelude::*;

    #[test]
    fn thin_and_universal_files_of_both_sizes_are_read() {
        let thin = Sample::new(Cpu::Arm64).signed(0x2, 0, None).build();
        let image = Image::from_bytes(&thin).unwrap();
        assert_eq!(image.cpus(), [Cpu::Arm64]);
        assert!(image.slices[0].signature.unwrap().is_ad_hoc());
        let old = Sample::new(Cpu::I386).build();
        assert_eq!(Image::from_bytes(&old).unwrap().cpus(), [Cpu::I386]);
        for wide in [false, true] {
            let parts = [Cpu::X86_64, Cpu::Arm64e, Cpu::I386].map(|cpu| Sample::new(cpu).build());
            let image = Image::from_bytes(&sample::universal(wide, &parts)).unwrap();
            assert_eq!(image.cpus(), [Cpu::X86_64, Cpu::Arm64e, Cpu::I386]);
            let second = image.slice(Cpu::Arm64e).unwrap();
            assert_eq!(second.size, parts[1].len() as u64);
        }
        let restricted = Sample::new(Cpu::X86_64).segment("__RESTRICT").build();
        assert!(Image::from_bytes(&restricted).unwrap().slices[0].restrict);
        let other = Sample::new(Cpu::X86_64).segment("__RESTRICTED").build();
        assert!(!Image::from_bytes(&other).unwrap().slices[0].restrict);
    }

    #[test]
    fn a_file_is_read_like_its_bytes() {
        let bytes = sample::universal(false, &[Sample::new(Cpu::Arm64).signed(0x10002, 0, None).build()]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(Image::from_file(File::open(file.path()).unwrap()), Image::from_bytes(&bytes));
    }

    #[test]
    fn anything_else_is_no_mach_o() {
        for bytes in [b"".as_slice(), b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01\0\0", b"\xcf\xfa\xed"] {
            assert_eq!(Image::from_bytes(bytes), Err(Error::NotMachO), "{bytes:?}");
        }
        // A Java class file of version 52.
        assert_eq!(Image::from_bytes(b"\xca\xfe\xba\xbe\0\0\0\x34abcdefgh"), Err(Error::NotMachO));
        assert_eq!(Image::from_bytes(b"\xca\xfe\xba\xbe\0\0\0\0abcdefgh"), Err(Error::NotMachO));
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let whole =
            sample::universal(true, &[Sample::new(Cpu::Arm64).signed(0x10000, 0, Some("<dict/>")).build()]);
        for length in 0..whole.len() {
            assert!(Image::from_bytes(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_slice_that_contradicts_its_header_is_refused() {
        let mut bytes = sample::universal(false, &[Sample::new(Cpu::Arm64).build()]);
        bytes[8..12].copy_from_slice(&macho::CPU_TYPE_X86_64.0.to_be_bytes());
        assert!(matches!(Image::from_bytes(&bytes), Err(Error::Malformed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Image::from_bytes(&bytes);
            for magic in [[0xcf, 0xfa, 0xed, 0xfe], [0xce, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbf]] {
                let mut begun = magic.to_vec();
                begun.extend_from_slice(&bytes);
                let _ = Image::from_bytes(&begun);
            }
        }

        #[test]
        fn a_changed_file_is_read(changes in proptest::collection::vec((0_usize..900, any::<u8>()), 1..8)) {
            let mut bytes = sample::universal(true, &[
                Sample::new(Cpu::Arm64).signed(0x10000, 0, Some("<dict/>")).build(),
                Sample::new(Cpu::I386).segment("__RESTRICT").build(),
            ]);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            let _ = Image::from_bytes(&bytes);
        }
    }
}

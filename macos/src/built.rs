//! Tests the rules on files that a linker made: the interposer for both kinds of Mac. `ci/darwin.sh inspect`
//! builds it and runs these tests.
use crate::image::{Cpu, Error, Image};
use crate::judge::{self, Effect, Facts, Mac, Reason};
use crate::{sample, tools};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const WHY: &str = "AGENTFS_DYLIB names no library; `ci/darwin.sh inspect` sets it";

fn library() -> PathBuf {
    PathBuf::from(std::env::var_os("AGENTFS_DYLIB").expect(WHY))
}

fn mac(cpu: Cpu) -> Mac {
    Mac { cpu, library: Image::from_file(File::open(library()).unwrap()).unwrap().cpus() }
}

fn reasons(cpu: Cpu, bytes: &[u8]) -> Vec<Reason> {
    let facts = Facts { path: b"/opt/x", set_id: false, restricted: false };
    judge::judge(&mac(cpu), &facts, &Image::from_bytes(bytes))
}

/// The slices as files of their own.
fn thin() -> Vec<Vec<u8>> {
    let bytes = fs::read(library()).unwrap();
    let image = Image::from_bytes(&bytes).unwrap();
    let place = |number: u64| usize::try_from(number).unwrap();
    image
        .slices
        .iter()
        .map(|slice| bytes[place(slice.offset)..place(slice.offset + slice.size)].to_vec())
        .collect()
}

/// Sets a flag in the code directory of a signed slice.
fn flagged(slice: &[u8], flag: u32) -> Vec<u8> {
    let magic = 0xfade_0c02_u32.to_be_bytes();
    let at = slice.windows(4).rposition(|window| window == magic).unwrap() + 12;
    let mut changed = slice.to_vec();
    let flags = u32::from_be_bytes(changed[at..at + 4].try_into().unwrap()) | flag;
    changed[at..at + 4].copy_from_slice(&flags.to_be_bytes());
    changed
}

#[test]
fn the_library_has_both_slices_and_a_signature_where_one_is_needed() {
    let bytes = fs::read(library()).unwrap();
    let image = Image::from_bytes(&bytes).unwrap();
    assert_eq!(Image::from_file(File::open(library()).unwrap()), Ok(image.clone()));
    let mut cpus = image.cpus();
    cpus.sort_by_key(Cpu::to_string);
    assert_eq!(cpus, [Cpu::Arm64, Cpu::X86_64]);
    let signature = image.slice(Cpu::Arm64).unwrap().signature.unwrap();
    assert!(signature.is_ad_hoc() && !signature.is_hardened() && !signature.platform);
    assert_eq!(reasons(Cpu::Arm64, &bytes), []);
    assert_eq!(reasons(Cpu::X86_64, &bytes), []);
    // The same under a header with 64 bit offsets, and without a header.
    let parts = thin();
    let wide = Image::from_bytes(&sample::universal(true, &parts)).unwrap();
    assert_eq!(wide.cpus(), image.cpus());
    for (part, slice) in parts.iter().zip(&image.slices) {
        let alone = Image::from_bytes(part).unwrap();
        assert_eq!((alone.slices[0].cpu, alone.slices[0].signature), (slice.cpu, slice.signature));
    }
}

#[test]
fn a_flag_in_a_real_signature_is_seen() {
    let slices = thin();
    let arm =
        slices.iter().find(|slice| Image::from_bytes(slice).unwrap().slice(Cpu::Arm64).is_some()).unwrap();
    let hardened = [Reason::Hardened, Reason::ValidatesLibraries];
    assert_eq!(reasons(Cpu::Arm64, &flagged(arm, 0x1_0000)), hardened);
    assert_eq!(reasons(Cpu::Arm64, &flagged(arm, 0x800)), [Reason::Restricted]);
    assert_eq!(judge::effect(&reasons(Cpu::Arm64, &flagged(arm, 0x2000))), Effect::Killed);
    // The kind of processor comes after the magic number and the type.
    let mut other = arm.clone();
    other[8..12].copy_from_slice(&0x8000_0002_u32.to_le_bytes());
    assert_eq!(reasons(Cpu::Arm64, &other), [Reason::Arm64eOnly]);
}

#[test]
fn a_cut_file_is_refused_or_read_but_never_more() {
    for slice in thin() {
        for length in (0..slice.len()).step_by(997) {
            let cut = Image::from_bytes(&slice[..length]);
            assert!(!matches!(cut, Err(Error::NotMachO)) || length < 8, "{length}");
        }
    }
}

#[test]
fn a_copy_is_the_slice_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    // The linker has signed the slice already.
    let signed = Path::new("/bin/true");
    let made = tools::add(&folder.path().join("cache"), &library(), signed, &mac(Cpu::Arm64)).unwrap();
    let copy = fs::read(made.copy).unwrap();
    assert!(thin().contains(&copy));
    assert_eq!(Image::from_bytes(&copy).unwrap().cpus(), [Cpu::Arm64]);
}

//! Whether a library can be loaded into an ELF file (elf(5)). Pure: the caller reads the file.
//!
//! Called by `wrap` before it starts a program, and by the library at every exec.

/// Program headers that are read; programs have about twelve.
const HEADERS: u16 = 64;
/// Bytes of notes that are read in each segment of notes. Go's note comes first if there is one.
const NOTE_BYTES: usize = 512;
/// Section headers that are read; programs have about thirty, followed by more for debuggers.
const SECTIONS: usize = 40;
/// Bytes of the section names that are read.
const NAME_BYTES: usize = 1024;
/// Bytes of the dynamic section that are read.
const DYNAMIC_BYTES: usize = 1024;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const SECTION_HEADER_BYTES: usize = 64;

/// Needed libraries that are checked. AddressSanitizer's is the first if gcc linked it, or the first after
/// the compiler's own.
const NEEDED: usize = 8;
/// Bytes of a library's name that are read.
const LIBRARY_BYTES: usize = 32;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

/// Whether a library can be loaded into a program, and whether that has any effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It seems to be loaded. Any loader works: our library needs so little of libc that musl's loads it too.
    Loads,
    /// It is loaded, but the program then ends at once, unless an option allows it: AddressSanitizer's
    /// library must otherwise be the first ([`crate::env::ASAN_ANY_ORDER`]).
    Sanitized,
    /// The program is linked statically: no loader runs. Its children may load the library.
    Static,
    /// A Go program: even if it is linked with libc, it makes its own system calls.
    Go,
    /// The program is for another kind of machine (32 bit, for example): its loader only complains.
    OtherMachine,
}

/// How much to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Only what the child's environment depends on: Go programs are [`Reach::Loads`] or [`Reach::Static`],
    /// depending on how they are linked.
    Quick,
    /// Everything that a person wants to know.
    Close,
}

/// Checks a file. `read` fills a buffer from an offset and returns how many bytes it has read. `None` if it
/// is not an ELF file.
pub fn reach(look: Look, mut read: impl FnMut(u64, &mut [u8]) -> usize) -> Option<Reach> {
    let mut head = [0_u8; HEADER_BYTES];
    let length = read(0, &mut head);
    let head = head.get(..length)?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    if head.get(4) != Some(&2) || head.get(5) != Some(&order) || number16(head, 18) != Some(MACHINE) {
        return Some(Reach::OtherMachine);
    }
    let (Some(start), Some(size), Some(count)) = (number64(head, 32), number16(head, 54), number16(head, 56))
    else {
        return Some(Reach::Loads);
    };
    let mut dynamic = None;
    let mut text = None;
    let mut loader = false;
    let mut go = false;
    for index in 0..count.min(HEADERS) {
        let mut header = [0_u8; PROGRAM_HEADER_BYTES];
        let at = start.wrapping_add(u64::from(index).wrapping_mul(u64::from(size)));
        if read(at, &mut header) < PROGRAM_HEADER_BYTES {
            return Some(Reach::Loads);
        }
        let place = (number64(&header, 8).unwrap_or(0), number64(&header, 32).unwrap_or(0));
        match number32(&header, 0) {
            Some(PT_INTERP) => loader = true,
            Some(PT_DYNAMIC) => dynamic = Some(place),
            // All linkers put the names of libraries into the first one.
            Some(PT_LOAD) if text.is_none() => {
                text = number64(&header, 16).map(|address| address.wrapping_sub(place.0));
            }
            Some(PT_NOTE) if look == Look::Close => go |= has_go_note(place, &mut read),
            _ => {}
        }
    }
    if look == Look::Close && (go || has_go_section(head, &mut read)) {
        return Some(Reach::Go);
    }
    if let (true, Some(place), Some(moved)) = (loader, dynamic, text)
        && needs_sanitizer(place, moved, &mut read)
    {
        return Some(Reach::Sanitized);
    }
    // A loader that is itself started, with a program as its argument, has no interpreter, but has a name as
    // a library.
    let named = !loader && dynamic.is_some_and(|place| is_library(place, &mut read));
    Some(if loader || named { Reach::Loads } else { Reach::Static })
}

/// `e_machine` of programs that can load our library.
pub const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else if cfg!(target_arch = "riscv64") {
    243
} else {
    0
};

/// Whether a segment of notes has Go's build id: name `Go`, type 4 (cmd/internal/buildid).
fn has_go_note((start, size): (u64, u64), read: &mut impl FnMut(u64, &mut [u8]) -> usize) -> bool {
    let mut notes = [0_u8; NOTE_BYTES];
    let length = usize::try_from(size).unwrap_or(NOTE_BYTES).min(NOTE_BYTES);
    let Some(room) = notes.get_mut(..length) else { return false };
    let filled = read(start, room);
    let mut notes = room.get(..filled).unwrap_or(&[]);
    // Length of the name, length of the content, type; both are padded to four bytes.
    while let (Some(name), Some(content), Some(kind)) =
        (number32(notes, 0), number32(notes, 4), number32(notes, 8))
    {
        if name == 4 && kind == 4 && notes.get(12..16) == Some(b"Go\0\0") {
            return true;
        }
        let padded = |length: u32| usize::try_from(length).unwrap_or(0).saturating_add(3) & !3;
        let next = padded(name).saturating_add(padded(content)).saturating_add(12);
        notes = notes.get(next..).unwrap_or(&[]);
    }
    false
}

/// Whether a file has the section that Go's linker always makes, even without a build id (debug/buildinfo).
fn has_go_section(head: &[u8], read: &mut impl FnMut(u64, &mut [u8]) -> usize) -> bool {
    let (Some(start), Some(size), Some(names)) = (number64(head, 40), number16(head, 58), number16(head, 62))
    else {
        return false;
    };
    if start == 0 || usize::from(size) != SECTION_HEADER_BYTES {
        return false;
    }
    let mut text = [0_u8; NAME_BYTES];
    let mut header = [0_u8; SECTION_HEADER_BYTES];
    read(start.wrapping_add(u64::from(names).wrapping_mul(u64::from(size))), &mut header);
    let filled = read(number64(&header, 24).unwrap_or(0), &mut text);
    let text = text.get(..filled).unwrap_or(&[]);
    let mut sections = [0_u8; SECTIONS * SECTION_HEADER_BYTES];
    let filled = read(start, &mut sections);
    let sections = sections.get(..filled).unwrap_or(&[]);
    sections.chunks(SECTION_HEADER_BYTES).any(|section| {
        let name = number32(section, 0).and_then(|at| text.get(usize::try_from(at).ok()?..));
        name.is_some_and(|name| name.starts_with(b".go.buildinfo\0"))
    })
}

/// Whether a file has a name as a library.
fn is_library(place: (u64, u64), read: &mut impl FnMut(u64, &mut [u8]) -> usize) -> bool {
    let mut entries = [0_u8; DYNAMIC_BYTES];
    read_dynamic(place, &mut entries, read);
    pairs(&entries).any(|(kind, _)| kind == DT_SONAME)
}

/// Whether a program needs the shared library of AddressSanitizer, gcc's or clang's. In its first segment,
/// address = offset in the file + `moved`.
fn needs_sanitizer(place: (u64, u64), moved: u64, read: &mut impl FnMut(u64, &mut [u8]) -> usize) -> bool {
    let mut entries = [0_u8; DYNAMIC_BYTES];
    read_dynamic(place, &mut entries, read);
    let mut names = [0_u64; NEEDED];
    let mut count = 0;
    let mut text = None;
    for (kind, value) in pairs(&entries) {
        match kind {
            DT_STRTAB => text = Some(value.wrapping_sub(moved)),
            DT_NEEDED => {
                if let Some(slot) = names.get_mut(count) {
                    *slot = value;
                    count += 1;
                }
            }
            _ => {}
        }
    }
    let Some(text) = text else { return false };
    names.iter().take(count).any(|name| {
        let mut library = [0_u8; LIBRARY_BYTES];
        let filled = read(text.wrapping_add(*name), &mut library);
        let library = library.get(..filled).unwrap_or(&[]);
        library.starts_with(b"libasan.so") || library.starts_with(b"libclang_rt.asan")
    })
}

/// Reads the dynamic section, as far as there is room for it.
fn read_dynamic(
    (start, size): (u64, u64),
    entries: &mut [u8; DYNAMIC_BYTES],
    read: &mut impl FnMut(u64, &mut [u8]) -> usize,
) {
    let length = usize::try_from(size).unwrap_or(DYNAMIC_BYTES).min(DYNAMIC_BYTES);
    if let Some(room) = entries.get_mut(..length) {
        read(start, room);
    }
}

/// Its kinds and values; entries that were not read have kind 0.
fn pairs(entries: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    entries.chunks(16).filter_map(|entry| Some((number64(entry, 0)?, number64(entry, 8)?)))
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn number64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// The interpreter of a script: the first word after `#!` (execve(2)).
pub fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | b'\r' | 0)).next()?;
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A program header: type, offset, size.
    fn segment(kind: u32, place: u64, size: u64) -> Vec<u8> {
        let mut header = vec![0; PROGRAM_HEADER_BYTES];
        header[..4].copy_from_slice(&kind.to_ne_bytes());
        header[8..16].copy_from_slice(&place.to_ne_bytes());
        header[32..40].copy_from_slice(&size.to_ne_bytes());
        header
    }

    /// A 64-bit program of this machine with these program headers, and `data` at byte 512.
    fn elf(segments: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&MACHINE.to_ne_bytes());
        file[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        file[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        file[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_ne_bytes());
        file.extend(segments.concat());
        file.resize(512, 0);
        file.extend_from_slice(data);
        file
    }

    fn look(look: Look, file: &[u8]) -> Option<Reach> {
        reach(look, |offset, buffer| {
            let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..)).unwrap_or(&[]);
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        })
    }

    fn both(file: &[u8]) -> [Option<Reach>; 2] {
        [look(Look::Quick, file), look(Look::Close, file)]
    }

    fn note(name: &[u8], kind: u32, content: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for number in [u32::try_from(name.len()).unwrap(), u32::try_from(content.len()).unwrap(), kind] {
            note.extend(number.to_ne_bytes());
        }
        for part in [name, content] {
            note.extend_from_slice(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn a_header_tells_who_can_load_us() {
        assert_eq!(both(&elf(&[segment(PT_INTERP, 512, 28)], b"")), [Some(Reach::Loads); 2]);
        assert_eq!(both(&elf(&[segment(1, 0, 0)], b"")), [Some(Reach::Static); 2]);
        let mut narrow = elf(&[segment(PT_INTERP, 512, 28)], b"");
        narrow[4] = 1;
        assert_eq!(both(&narrow), [Some(Reach::OtherMachine); 2]);
        let mut foreign = elf(&[segment(PT_INTERP, 512, 28)], b"");
        foreign[18] ^= 1;
        assert_eq!(both(&foreign), [Some(Reach::OtherMachine); 2]);
        // A table of segments that is cut off: the loader decides.
        let cut = &elf(&[segment(PT_LOAD, 0, 0)], b"")[..64 + PROGRAM_HEADER_BYTES - 1];
        assert_eq!(both(cut), [Some(Reach::Loads); 2]);
        assert_eq!(both(b"MZ"), [None; 2]);
        assert_eq!(both(b""), [None; 2]);
    }

    #[test]
    fn a_program_of_the_sanitizer_is_seen() {
        // The segment begins at offset 512 of the file and at address 0x1200 of memory.
        let mut load = segment(PT_LOAD, 512, 512);
        load[16..24].copy_from_slice(&0x1200_u64.to_ne_bytes());
        // A second one elsewhere, as every program has.
        let mut other = segment(PT_LOAD, 1024, 512);
        other[16..24].copy_from_slice(&0x5400_u64.to_ne_bytes());
        let program = |names: &[u8], needed: &[u64]| {
            let mut list: Vec<u64> = needed.iter().flat_map(|name| [DT_NEEDED, *name]).collect();
            list.extend([DT_STRTAB, 0x1200 + 256, 0, 0]);
            let mut data: Vec<u8> = list.iter().flat_map(|number| number.to_ne_bytes()).collect();
            let dynamic = segment(PT_DYNAMIC, 512, u64::try_from(data.len()).unwrap());
            data.resize(256, 0);
            data.extend_from_slice(names);
            elf(&[segment(PT_INTERP, 512, 28), load.clone(), other.clone(), dynamic], &data)
        };
        let plain = program(b"\0libc.so.6\0libasan_not.so\0", &[1, 11]);
        assert_eq!(both(&plain), [Some(Reach::Loads); 2]);
        for names in [&b"\0libc.so.6\0libasan.so.8\0"[..], b"\0libc.so.6\0libclang_rt.asan-x86_64.so\0"] {
            assert_eq!(both(&program(names, &[1, 11])), [Some(Reach::Sanitized); 2]);
            assert_eq!(both(&program(names, &[1])), [Some(Reach::Loads); 2]);
            // Cut off.
            assert_eq!(both(&program(&names[..13], &[1, 11])), [Some(Reach::Loads); 2]);
        }
    }

    #[test]
    fn a_loader_that_is_started_itself_loads_us() {
        let name = [DT_SONAME.to_ne_bytes(), [0; 8]].concat();
        let dynamic = [segment(PT_DYNAMIC, 512, 16)];
        assert_eq!(both(&elf(&dynamic, &name)), [Some(Reach::Loads); 2]);
        // A static program that may lie anywhere has the same segment without a name.
        assert_eq!(both(&elf(&dynamic, &[0; 16])), [Some(Reach::Static); 2]);
    }

    #[test]
    fn go_is_known_by_its_note() {
        let mut notes = note(b"GNU\0", 3, &[7; 20]);
        notes.extend(note(b"Go\0\0", 4, b"an/id/of/go"));
        let size = notes.len() as u64;
        let segments = [segment(PT_INTERP, 512, 1), segment(PT_NOTE, 512, size)];
        assert_eq!(both(&elf(&segments, &notes)), [Some(Reach::Loads), Some(Reach::Go)]);
        assert_eq!(both(&elf(&segments[1..], &notes)), [Some(Reach::Static), Some(Reach::Go)]);
        let other = note(b"GNU\0", 4, b"Go\0\0");
        let segments = [segment(PT_INTERP, 512, 1), segment(PT_NOTE, 512, other.len() as u64)];
        assert_eq!(both(&elf(&segments, &other)), [Some(Reach::Loads); 2]);
    }

    #[test]
    fn go_is_known_by_its_section() {
        // Names at 512; section headers at 640: the names', others, and Go's as the last that is looked at.
        let mut data = b"\0.shstrtab\0.go.buildinfo\0".to_vec();
        data.resize(128, 0);
        let mut section = |name: u32, place: u64| {
            let mut header = [0; SECTION_HEADER_BYTES];
            header[..4].copy_from_slice(&name.to_ne_bytes());
            header[24..32].copy_from_slice(&place.to_ne_bytes());
            data.extend(header);
        };
        section(1, 512);
        for _ in 2..SECTIONS {
            section(0, 0);
        }
        section(11, 0);
        let mut file = elf(&[segment(PT_INTERP, 0, 1)], &data);
        file[40..48].copy_from_slice(&640_u64.to_ne_bytes());
        file[58..60].copy_from_slice(&64_u16.to_ne_bytes());
        file[60..62].copy_from_slice(&u16::try_from(SECTIONS).unwrap().to_ne_bytes());
        assert_eq!(both(&file), [Some(Reach::Loads), Some(Reach::Go)]);
        for (at, byte) in [(523, b'x'), (58, 65)] {
            let mut other = file.clone();
            other[at] = byte;
            assert_eq!(both(&other), [Some(Reach::Loads); 2], "{at}");
        }
    }

    #[test]
    fn the_interpreter_of_a_script_is_its_first_word() {
        let word = |head: &'static str| interpreter(head.as_bytes());
        assert_eq!(word("#!/bin/sh\necho"), Some(&b"/bin/sh"[..]));
        assert_eq!(word("#! /usr/bin/env python3\n"), Some(&b"/usr/bin/env"[..]));
        assert_eq!(word("#!\n"), None);
        assert_eq!(word("echo #!/bin/sh"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(mut file in proptest::collection::vec(any::<u8>(), 0..700), valid: bool) {
            if valid {
                let head = elf(&[], b"");
                for (to, from) in file.iter_mut().zip(&head[..24]) {
                    *to = *from;
                }
            }
            let _ = (both(&file), interpreter(&file));
        }
    }
}

//! Mach-O files, signatures and entitlements for tests, byte by byte as Apple's headers lay them out.
use crate::image::Cpu;
use crate::signature::{
    CODE_DIRECTORY, ENTITLEMENTS_DER, ENTITLEMENTS_XML, SLOT_CODE_DIRECTORY, SLOT_ENTITLEMENTS,
    SLOT_ENTITLEMENTS_DER, SUPER_BLOB,
};

/// A property list with `body` in its dictionary.
pub(crate) fn plist(body: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<plist version=\"1.0\">\n<dict>{body}</dict></plist>\n")
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut all = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => all.push(short),
        _ => {
            all.push(0x82);
            all.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
        }
    }
    all.extend_from_slice(content);
    all
}

/// Entitlements in DER.
pub(crate) fn der(pairs: &[(&str, bool)]) -> Vec<u8> {
    let pair = |(key, on): &(&str, bool)| {
        let value = element(0x01, &[if *on { 0xff } else { 0 }]);
        element(0x30, &[element(0x0c, key.as_bytes()), value].concat())
    };
    let dictionary = element(0xb0, &pairs.iter().map(pair).collect::<Vec<_>>().concat());
    element(0x70, &[element(0x02, &[1]), dictionary].concat())
}

fn blob(magic: u32, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 8).unwrap();
    [&magic.to_be_bytes(), &length.to_be_bytes(), content].concat()
}

/// A signature with these flags.
pub(crate) fn signature(flags: u32, platform: u8, xml: Option<&[u8]>, der: Option<&[u8]>) -> Vec<u8> {
    let mut directory = vec![0; 80];
    directory[..4].copy_from_slice(&0x20400_u32.to_be_bytes());
    directory[4..8].copy_from_slice(&flags.to_be_bytes());
    directory[30] = platform;
    let mut parts = vec![(SLOT_CODE_DIRECTORY, blob(CODE_DIRECTORY, &directory))];
    parts.extend(xml.map(|text| (SLOT_ENTITLEMENTS, blob(ENTITLEMENTS_XML, text))));
    parts.extend(der.map(|bytes| (SLOT_ENTITLEMENTS_DER, blob(ENTITLEMENTS_DER, bytes))));
    let mut index = u32::try_from(parts.len()).unwrap().to_be_bytes().to_vec();
    let mut at = 12 + 8 * parts.len();
    for (slot, part) in &parts {
        index.extend_from_slice(&slot.to_be_bytes());
        index.extend_from_slice(&u32::try_from(at).unwrap().to_be_bytes());
        at += part.len();
    }
    index.extend(parts.into_iter().flat_map(|(_, part)| part));
    blob(SUPER_BLOB, &index)
}

/// A program with one slice.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    cpu: Cpu,
    segments: Vec<&'static str>,
    signature: Option<Vec<u8>>,
}

// === impl Sample ===

impl Sample {
    pub(crate) fn new(cpu: Cpu) -> Self {
        Self { cpu, segments: vec!["__TEXT"], signature: None }
    }

    pub(crate) fn segment(mut self, name: &'static str) -> Self {
        self.segments.push(name);
        self
    }

    /// Signed with these flags, platform and entitlements.
    pub(crate) fn signed(mut self, flags: u32, platform: u8, body: Option<&str>) -> Self {
        let xml = body.map(plist);
        self.signature = Some(signature(flags, platform, xml.as_deref().map(str::as_bytes), None));
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        let (kind, subtype) = numbers(self.cpu);
        let wide = self.cpu != Cpu::I386;
        let mut commands: Vec<Vec<u8>> = self
            .segments
            .iter()
            .map(|name| {
                let mut command = vec![0; if wide { 72 } else { 56 }];
                command[0] = if wide { 0x19 } else { 0x1 };
                command[4] = if wide { 72 } else { 56 };
                command[8..8 + name.len()].copy_from_slice(name.as_bytes());
                command
            })
            .collect();
        let header = if wide { 32 } else { 28 };
        let before: usize = header + commands.iter().map(Vec::len).sum::<usize>() + 16;
        if let Some(signature) = &self.signature {
            let place = [0x1d, 16, u32::try_from(before).unwrap(), u32::try_from(signature.len()).unwrap()];
            commands.push(place.iter().flat_map(|word| word.to_le_bytes()).collect());
        }
        let size = commands.iter().map(Vec::len).sum::<usize>();
        let magic = if wide { 0xfeed_facf_u32 } else { 0xfeed_face };
        let count = u32::try_from(commands.len()).unwrap();
        let mut words = vec![magic, kind, subtype, 2, count, u32::try_from(size).unwrap(), 0];
        words.extend(wide.then_some(0));
        let mut file: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        file.extend(commands.concat());
        if let Some(signature) = self.signature {
            file.extend(signature);
        }
        file
    }
}

fn numbers(cpu: Cpu) -> (u32, u32) {
    match cpu {
        Cpu::Arm64 => (0x0100_000c, 0),
        // With the version of its ABI in the top byte, as Apple's programs have it.
        Cpu::Arm64e => (0x0100_000c, 0x8000_0002),
        Cpu::X86_64 => (0x0100_0007, 3),
        Cpu::I386 => (7, 3),
        Cpu::Other(number) => (number, 0),
    }
}

/// A universal file of whole programs, with a 64 bit header where `wide`.
pub(crate) fn universal(wide: bool, parts: &[Vec<u8>]) -> Vec<u8> {
    let magic = if wide { 0xcafe_babf_u32 } else { 0xcafe_babe };
    let mut file = [magic.to_be_bytes(), u32::try_from(parts.len()).unwrap().to_be_bytes()].concat();
    let mut at = u32::try_from(8 + parts.len() * if wide { 32 } else { 20 }).unwrap();
    for part in parts {
        let little = |place: usize| u32::from_le_bytes(part[place..place + 4].try_into().unwrap());
        let size = u32::try_from(part.len()).unwrap();
        let words = if wide {
            vec![little(4), little(8), 0, at, 0, size, 0, 0]
        } else {
            vec![little(4), little(8), at, size, 0]
        };
        file.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        at += size;
    }
    file.extend(parts.concat());
    file
}

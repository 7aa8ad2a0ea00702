//! Copies of protected tools that can load libraries: one slice of the original, signed ad hoc by
//! codesign(1), in a folder named after a hash of the original. Beside them, a tree of links (`at`) mirrors
//! the originals' paths, so that an exec hook finds a copy with one access(2):
//!
//! ```text
//! mac-tools/0f3a…/env                 the copy
//! mac-tools/at/usr/bin/env            -> ../../../0f3a…/env
//! ```
//!
//! Called by `agentfs mac-tools` and `agentfs wrap`, never by a hook.
use crate::image::{Cpu, Error as ImageError, Image, Slice};
use crate::judge::{self, Facts, Mac, Reason};
use crate::limits::TOOL_BYTES;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

/// Folder of the links.
const LINKS: &str = "at";
/// Hexadecimal digits of the hash that name a folder.
const HASH_DIGITS: usize = 16;

/// Why a copy cannot be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation on a file or folder failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried: `read`, `write` …
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than `limits::TOOL_BYTES`.
    #[error("cannot copy {}: it is larger than {TOOL_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// It is not a program.
    #[error("cannot copy {}: {source}", path.display())]
    Image {
        /// The original.
        path: PathBuf,
        /// Why not.
        source: ImageError,
    },
    /// None of its slices can be used.
    #[error("cannot copy {}: it is built only for {cpus}, and the interposer is not", path.display())]
    NoSlice {
        /// The original.
        path: PathBuf,
        /// What it has.
        cpus: String,
    },
    /// codesign(1) is not there or failed.
    #[error("cannot sign {}: {}: {said}", path.display(), codesign.display())]
    Sign {
        /// The copy.
        path: PathBuf,
        /// What was run.
        codesign: PathBuf,
        /// What it said.
        said: String,
    },
    /// The signed copy would still be protected.
    #[error("the signed copy of {} is protected as well: {reason}", path.display())]
    StillProtected {
        /// The original.
        path: PathBuf,
        /// Why.
        reason: Reason,
    },
}

/// A copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// The protected tool.
    pub original: PathBuf,
    /// The copy that is started instead.
    pub copy: PathBuf,
    /// Whether the original is unchanged since it was copied. A system update changes it.
    pub current: bool,
}

/// Where the link for the tool at `original` (absolute) is, in the cache at `cache`.
pub fn link_of(cache: &Path, original: &Path) -> PathBuf {
    let inside = original.components().filter(|part| matches!(part, Component::Normal(_)));
    cache.join(LINKS).join(inside.collect::<PathBuf>())
}

/// The tool that a link in the cache at `cache` stands for.
pub fn original_of(cache: &Path, link: &Path) -> Option<PathBuf> {
    let inside = link.strip_prefix(cache.join(LINKS)).ok()?;
    Some(Path::new("/").join(inside))
}

/// Copies the tool at `original` (absolute, without links) into `cache`, signed by `codesign`, for `mac`. An
/// existing copy that is current is kept.
///
/// # Errors
/// [`Error`]. Existing copies are unchanged.
pub fn add(cache: &Path, original: &Path, codesign: &Path, mac: &Mac) -> Result<Tool, Error> {
    let (bytes, hash) = content(original)?;
    let name = original.file_name().unwrap_or_default();
    let folder = cache.join(&hash);
    let copy = folder.join(name);
    if !copy.is_file() {
        let image =
            Image::from_bytes(&bytes).map_err(|source| Error::Image { path: original.to_owned(), source })?;
        let slice = usable(mac, &image).ok_or_else(|| {
            let cpus: Vec<String> = image.cpus().iter().map(Cpu::to_string).collect();
            Error::NoSlice { path: original.to_owned(), cpus: cpus.join(", ") }
        })?;
        let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        // `Image` has checked that the slice is inside the file.
        let part = bytes.get(place(slice.offset)..place(slice.offset.saturating_add(slice.size)));
        let made = Making::begin(cache, &hash)?;
        let unsigned = made.folder.join(name);
        write(&unsigned, part.unwrap_or_default())?;
        sign(&unsigned, codesign, &hash)?;
        check(original, &copy, &unsigned, mac)?;
        made.finish(&folder)?;
    }
    link(cache, original, &copy)?;
    Ok(Tool { original: original.to_owned(), copy, current: true })
}

/// Every copy, by its original's path.
///
/// # Errors
/// The cache cannot be read. A missing cache is empty.
pub fn list(cache: &Path) -> Result<Vec<Tool>, Error> {
    let root = cache.join(LINKS);
    let mut tools = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(|source| file("read", &folder, source))?,
        };
        for entry in entries {
            let entry = entry.map_err(|source| file("read", &folder, source))?;
            let path = entry.path();
            let kind = entry.file_type().map_err(|source| file("read", &path, source))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                let inside = path.strip_prefix(&root).unwrap_or(&path);
                tools.extend(lookup(cache, &Path::new("/").join(inside)));
            }
        }
    }
    tools.sort_by(|left, right| left.original.cmp(&right.original));
    Ok(tools)
}

/// The copy of the tool at `original`, if there is one.
pub fn lookup(cache: &Path, original: &Path) -> Option<Tool> {
    let link = link_of(cache, original);
    let target = fs::read_link(&link).ok()?;
    let hash = target.parent()?.file_name()?.to_owned();
    let copy = cache.join(&hash).join(target.file_name()?);
    let current = copy.is_file() && content(original).is_ok_and(|(_, found)| OsString::from(found) == hash);
    Some(Tool { original: original.to_owned(), copy, current })
}

/// Removes the copy of the tool at `original`; `false` if there is none.
///
/// # Errors
/// It cannot be removed.
pub fn remove(cache: &Path, original: &Path) -> Result<bool, Error> {
    let Some(tool) = lookup(cache, original) else { return Ok(false) };
    let link = link_of(cache, original);
    fs::remove_file(&link).map_err(|source| file("remove", &link, source))?;
    // Another link may point to the same copy.
    let shared = list(cache)?.iter().any(|other| other.copy == tool.copy);
    if let Some(folder) = tool.copy.parent()
        && !shared
        && folder.exists()
    {
        fs::remove_dir_all(folder).map_err(|source| file("remove", folder, source))?;
    }
    Ok(true)
}

/// The slice to copy: never arm64e, which only Apple can sign.
fn usable<'a>(mac: &Mac, image: &'a Image) -> Option<&'a Slice> {
    let order: &[Cpu] = if mac.cpu == Cpu::Arm64 { &[Cpu::Arm64, Cpu::X86_64] } else { &[Cpu::X86_64] };
    order.iter().filter(|cpu| mac.library.contains(cpu)).find_map(|cpu| image.slice(*cpu))
}

/// A file and the hash of its content.
fn content(path: &Path) -> Result<(Vec<u8>, String), Error> {
    let open = fs::File::open(path).map_err(|source| file("read", path, source))?;
    let mut bytes = Vec::new();
    open.take(TOOL_BYTES.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|source| file("read", path, source))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > TOOL_BYTES) {
        return Err(Error::TooLarge(path.to_owned()));
    }
    let mut hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    hash.truncate(HASH_DIGITS);
    Ok((bytes, hash))
}

/// A temporary folder: it becomes the copy's folder when the copy is complete, and is removed otherwise.
#[derive(Debug)]
struct Making {
    folder: PathBuf,
}

// === impl Making ===

impl Making {
    fn begin(cache: &Path, hash: &str) -> Result<Self, Error> {
        let folder = cache.join(format!(".{hash}.{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|source| file("create", &folder, source))?;
        Ok(Self { folder })
    }

    fn finish(self, folder: &Path) -> Result<(), Error> {
        match fs::rename(&self.folder, folder) {
            // Another process made the same copy meanwhile.
            Err(_) if folder.is_dir() => Ok(()),
            other => other.map_err(|source| file("create", folder, source)),
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    // Never set-uid, whatever the original is.
    let open = OpenOptions::new().write(true).create_new(true).mode(0o755).open(path);
    open.and_then(|mut to| to.write_all(bytes)).map_err(|source| file("write", path, source))
}

/// Signs without a signer, and without flags and entitlements, which it keeps only when asked (codesign(1)).
fn sign(path: &Path, codesign: &Path, hash: &str) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut command = Command::new(codesign);
    command.args(["--force", "--sign", "-", "--identifier"]).arg(format!("agentfs.{name}.{hash}")).arg(path);
    let said = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Error::Sign { path: path.to_owned(), codesign: codesign.to_owned(), said })
}

/// Checks whether the signed copy can be used at its final path.
fn check(original: &Path, copy: &Path, signed: &Path, mac: &Mac) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt;
    let image =
        fs::File::open(signed).map_err(|source| file("read", signed, source)).map(Image::from_file)?;
    let facts = Facts { path: copy.as_os_str().as_bytes(), set_id: false, restricted: false };
    match judge::judge(mac, &facts, &image).into_iter().next() {
        None => Ok(()),
        Some(reason) => Err(Error::StillProtected { path: original.to_owned(), reason }),
    }
}

fn link(cache: &Path, original: &Path, copy: &Path) -> Result<(), Error> {
    let link = link_of(cache, original);
    let folder = link.parent().unwrap_or(cache);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| file("create", folder, source))?;
    let temporary = folder.join(format!(".link.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    symlink(copy, &temporary)
        .and_then(|()| fs::rename(&temporary, &link))
        .map_err(|source| file("write", &link, source))
}

fn file(doing: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, Sample};
    use std::os::unix::fs::PermissionsExt;

    struct Bench {
        folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let bench = Self { folder: tempfile::tempdir().unwrap() };
            // Like a real codesign: the signature differs, the code is the same.
            for cpu in [Cpu::Arm64, Cpu::X86_64] {
                let signed = Sample::new(cpu).signed(0x2, 0, None).build();
                fs::write(bench.path(&format!("{cpu}.signed")), signed).unwrap();
            }
            bench
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn cache(&self) -> PathBuf {
            self.path("cache")
        }

        /// A tool of the system: two slices that nobody can load into.
        fn tool(&self, name: &str, cpus: &[Cpu]) -> PathBuf {
            let slices: Vec<Vec<u8>> =
                cpus.iter().map(|cpu| Sample::new(*cpu).signed(0x1_0000, 14, None).build()).collect();
            let path = self.path(name);
            fs::write(&path, sample::universal(false, &slices)).unwrap();
            path
        }

        /// A codesign that runs `body` with the file in `$file` and what it was told in `$*`.
        fn codesign(&self, body: &str) -> PathBuf {
            let path = self.path("codesign");
            let signed = self.folder.path().display();
            let text = format!("#!/bin/sh\ncd {signed}\nfor file; do :; done\necho \"$*\" >>calls\n{body}\n");
            // Another test may fork at this moment; a file that is open for writing there cannot be executed.
            let mut writer = Command::new("sh")
                .args(["-c", "cat >codesign && chmod 755 codesign"])
                .current_dir(self.folder.path())
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            assert!(writer.wait().unwrap().success());
            path
        }

        fn calls(&self) -> Vec<String> {
            let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }

        fn leftovers(&self) -> usize {
            let hidden = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
            fs::read_dir(self.cache()).map_or(0, |all| all.flatten().filter(hidden).count())
        }
    }

    fn mac(library: &[Cpu]) -> Mac {
        Mac { cpu: Cpu::Arm64, library: library.to_vec() }
    }

    const BOTH: [Cpu; 2] = [Cpu::Arm64, Cpu::X86_64];
    const INTEL: &str = "cp x86_64.signed \"$file\"";

    #[test]
    fn a_copy_has_the_slice_that_can_be_used_and_is_signed_anew() {
        let bench = Bench::new();
        let tool = bench.tool("env", &[Cpu::X86_64, Cpu::Arm64e]);
        let codesign = bench.codesign(&format!("cp \"$file\" given; {INTEL}"));
        let made = add(&bench.cache(), &tool, &codesign, &mac(&BOTH)).unwrap();
        // It was given one slice, the original's own.
        let given = Image::from_bytes(&fs::read(bench.path("given")).unwrap()).unwrap();
        assert_eq!(given.cpus(), [Cpu::X86_64]);
        assert!(given.slices[0].signature.unwrap().platform);
        let copied = Image::from_bytes(&fs::read(&made.copy).unwrap()).unwrap();
        assert!(copied.slices[0].signature.unwrap().is_ad_hoc());
        let calls = bench.calls();
        assert_eq!(calls.len(), 1);
        assert!(calls[0].starts_with("--force --sign - --identifier agentfs.env."), "{calls:?}");
        assert_eq!(bench.leftovers(), 0);
        assert_eq!(fs::metadata(&made.copy).unwrap().permissions().mode() & 0o7777, 0o755);
        // The second time nothing is signed.
        assert_eq!(add(&bench.cache(), &tool, &codesign, &mac(&BOTH)).unwrap(), made);
        assert_eq!(bench.calls().len(), 1);
        let link = link_of(&bench.cache(), &tool);
        assert_eq!(original_of(&bench.cache(), &link), Some(tool));
        assert_eq!(original_of(&bench.cache(), Path::new("/bin/sh")), None);
        assert_eq!(fs::canonicalize(link).unwrap(), made.copy.canonicalize().unwrap());
        assert_eq!(list(&bench.cache()).unwrap(), [made]);
    }

    #[test]
    fn arm64_goes_before_intel() {
        let bench = Bench::new();
        let tool = bench.tool("x", &[Cpu::X86_64, Cpu::Arm64e, Cpu::Arm64]);
        let codesign = bench.codesign("cp arm64.signed \"$file\"");
        let made = add(&bench.cache(), &tool, &codesign, &mac(&BOTH)).unwrap();
        assert_eq!(Image::from_bytes(&fs::read(made.copy).unwrap()).unwrap().cpus(), [Cpu::Arm64]);
    }

    #[test]
    fn what_cannot_be_copied_is_refused_and_leaves_nothing() {
        let bench = Bench::new();
        let codesign = bench.codesign(INTEL);
        let refuse = |tool: &Path, codesign: &Path, mac: &Mac| {
            let error = add(&bench.cache(), tool, codesign, mac).unwrap_err();
            assert_eq!(bench.leftovers(), 0, "{error}");
            assert_eq!(list(&bench.cache()).unwrap(), []);
            error.to_string()
        };
        let arm64e = bench.tool("a", &[Cpu::Arm64e]);
        assert!(refuse(&arm64e, &codesign, &mac(&BOTH)).contains("only for arm64e"));
        let system = bench.tool("b", &[Cpu::X86_64, Cpu::Arm64e]);
        let words = refuse(&system, &codesign, &mac(&[Cpu::Arm64]));
        assert!(words.contains("the interposer is not"), "{words}");
        fs::write(bench.path("c"), "#!/bin/sh\n").unwrap();
        assert!(refuse(&bench.path("c"), &codesign, &mac(&BOTH)).contains("not a Mach-O"));
        assert!(refuse(&bench.path("none"), &codesign, &mac(&BOTH)).contains("cannot read"));
        assert!(refuse(&system, &bench.path("no-codesign"), &mac(&BOTH)).contains("cannot sign"));
        assert!(refuse(&system, &bench.codesign(":"), &mac(&BOTH)).contains("protected as well"));
        let failing = bench.codesign("echo 'no room' >&2; exit 1");
        assert!(refuse(&system, &failing, &mac(&BOTH)).contains("no room"));
    }

    #[test]
    fn an_update_of_the_original_makes_a_copy_old_and_removing_takes_it_away() {
        let bench = Bench::new();
        let codesign = bench.codesign(INTEL);
        let (one, two) = (bench.tool("one", &[Cpu::X86_64]), bench.tool("two", &[Cpu::X86_64]));
        let first = add(&bench.cache(), &one, &codesign, &mac(&BOTH)).unwrap();
        add(&bench.cache(), &two, &codesign, &mac(&BOTH)).unwrap();
        assert!(lookup(&bench.cache(), &one).unwrap().current);
        bench.tool("one", &[Cpu::X86_64, Cpu::Arm64e]);
        assert!(!lookup(&bench.cache(), &one).unwrap().current);
        let again = add(&bench.cache(), &one, &codesign, &mac(&BOTH)).unwrap();
        assert!(again.copy != first.copy && lookup(&bench.cache(), &one).unwrap().current);
        assert!(remove(&bench.cache(), &one).unwrap());
        assert!(!again.copy.exists() && lookup(&bench.cache(), &one).is_none());
        assert!(!remove(&bench.cache(), &one).unwrap());
        assert_eq!(list(&bench.cache()).unwrap().len(), 1);
        assert!(remove(&bench.cache(), &two).unwrap());
        assert_eq!(list(&bench.cache()).unwrap(), []);
    }
}

//! Who this process is: the environment, read once.
//!
//! Everything is copied into static memory when the library is loaded. Programs overwrite their environment
//! (process titles) or clear it, and must still pass ours on when they exec.
#![expect(unsafe_code, reason = "reads the C environment and publishes one static")]

use crate::environment;
use agentfs_wire::env;
use agentfs_wire::name::{self, AppName, InstanceName};
use agentfs_wire::peer;
use agentfs_wire::secret::Secret;
use agentfs_wire::text::{Text, parse_number};
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};
use libc::c_char;
use once_cell::race::OnceBool;

/// Bytes of all `AGENTFS_…=…` strings together that are passed on over exec. With more than this the
/// library switches itself off: a truncated environment would be worse.
const KEPT_BYTES: usize = 4096;
/// Strings that are passed on.
const KEPT_STRINGS: usize = 32;
/// Ports in one of the lists `--only`, `--except`, `--expose`.
const LIST_PORTS: usize = 32;

/// A list of ports.
#[derive(Debug)]
pub(crate) struct Ports {
    ports: [u16; LIST_PORTS],
    count: usize,
}

/// The configuration of this process.
#[derive(Debug)]
pub(crate) struct Config {
    run: Text<{ agentfs_wire::limits::RUN_DIR_BYTES }>,
    /// The app.
    pub(crate) app: AppName,
    /// The instance.
    pub(crate) instance: InstanceName,
    /// The secret that proves to root's broker that this process belongs to the instance, if it has one.
    pub(crate) secret: Option<Secret>,
    /// The process that `wrap` or `exec` became and that started this one, as a number; empty if unknown.
    pub(crate) command: Text<10>,
    /// Name space of the instance's client sockets.
    pub(crate) space: u64,
    /// Whether ports without a listener of the instance are refused.
    isolate: bool,
    /// The ports that are refused if not all are.
    isolated: Ports,
    /// Ports of the host that are reached even where another fork may be behind them.
    allowed: Ports,
    only: Option<Ports>,
    except: Ports,
    kept: [u8; KEPT_BYTES],
    kept_length: usize,
    kept_starts: [usize; KEPT_STRINGS],
    kept_count: usize,
    /// Where `LD_PRELOAD=…` (ours alone) starts in `kept`.
    preload_start: usize,
}

struct Slot(UnsafeCell<Config>);

// SAFETY: written only by `load`, once, before `LOADED` is set; read only after `LOADED` says so.
unsafe impl Sync for Slot {}

static CONFIG: Slot = Slot(UnsafeCell::new(Config::EMPTY));
/// Whether `CONFIG` is filled in, once that is decided.
static LOADED: OnceBool = OnceBool::new();

/// Whether a thread has begun to fill it in.
static BEGUN: AtomicBool = AtomicBool::new(false);

/// Reads the environment. The constructor calls it, or a hook that runs before: constructors of the program's own
/// libraries run before ours.
pub(crate) fn load() {
    if environment::own().is_null() || BEGUN.swap(true, Ordering::AcqRel) {
        return;
    }
    // SAFETY: nobody reads the slot before `LOADED` is set, and `BEGUN` lets one caller pass.
    let config = unsafe { &mut *CONFIG.0.get() };
    let usable = config.fill().is_some();
    let _ = LOADED.set(usable);
}

/// The configuration, or `None` where this process belongs to no instance.
pub(crate) fn get() -> Option<&'static Config> {
    let mut usable = LOADED.get();
    // Not on macOS: dyld runs the constructors of inserted libraries first.
    if usable.is_none() && cfg!(target_os = "linux") {
        load();
        usable = LOADED.get();
    }
    if usable != Some(true) {
        return None;
    }
    // SAFETY: `LOADED` is set after the last write.
    Some(unsafe { &*CONFIG.0.get() })
}

fn variable(name: &str) -> Option<&'static CStr> {
    let mut key = Text::<64>::new();
    if !key.push(name) || !key.push("\0") {
        return None;
    }
    // SAFETY: `key` ends in NUL.
    let value = unsafe { libc::getenv(key.as_bytes().as_ptr().cast::<c_char>()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv(3) gives a NUL-terminated string; it is copied before anything can change it.
    Some(unsafe { CStr::from_ptr(value) })
}

fn text(name: &str) -> Option<&'static str> {
    variable(name)?.to_str().ok()
}

// === impl Ports ===

impl Ports {
    const NONE: Self = Self { ports: [0; LIST_PORTS], count: 0 };

    fn parse(list: &str) -> Self {
        let mut ports = Self::NONE;
        for part in agentfs_wire::text::parts(list, b',') {
            let Some(port) =
                parse_number(part.trim(), u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
            else {
                continue;
            };
            if let Some(slot) = ports.ports.get_mut(ports.count) {
                *slot = port;
                ports.count += 1;
            }
        }
        ports
    }

    fn has(&self, port: u16) -> bool {
        self.ports.iter().take(self.count).any(|own| *own == port)
    }
}

// === impl Config ===

impl Config {
    const EMPTY: Self = Self {
        run: Text::new(),
        app: Text::new(),
        instance: Text::new(),
        secret: None,
        command: Text::new(),
        space: 0,
        isolate: false,
        isolated: Ports::NONE,
        allowed: Ports::NONE,
        only: None,
        except: Ports::NONE,
        kept: [0; KEPT_BYTES],
        kept_length: 0,
        kept_starts: [0; KEPT_STRINGS],
        kept_count: 0,
        preload_start: 0,
    };

    /// That of shop/one with this run dir, for tests.
    #[cfg(test)]
    pub(crate) fn of_shop(run: &str) -> Self {
        Self {
            run: Text::of(run).unwrap(),
            app: name::app_name("shop").unwrap(),
            instance: name::instance_name("one").unwrap(),
            ..Self::EMPTY
        }
    }

    fn fill(&mut self) -> Option<()> {
        self.run = Text::of(text(env::RUN)?)?;
        self.app = name::app_name(text(env::APP)?)?;
        self.instance = name::instance_name(text(env::INSTANCE)?)?;
        if !self.run.as_str().starts_with('/') {
            return None;
        }
        self.space = peer::space(self.run.as_bytes(), self.app.as_str(), self.instance.as_str());
        self.secret = text(env::SECRET).and_then(Secret::parse);
        self.command = text(env::COMMAND).and_then(Text::of).unwrap_or_default();
        self.isolate = text(env::ISOLATE) == Some("1");
        // `1` is no port that a program could want isolated alone.
        self.isolated = text(env::ISOLATE).filter(|_| !self.isolate).map_or(Ports::NONE, Ports::parse);
        self.allowed = text(env::ALLOW_HOST).map_or(Ports::NONE, Ports::parse);
        self.only = text(env::ONLY).map(Ports::parse);
        self.except = text(env::EXCEPT).map_or(Ports::NONE, Ports::parse);
        let library = text(env::INTERPOSE)?;
        self.preload_start = self.kept_length;
        self.keep(&[environment::PRELOAD.as_bytes(), b"=", library.as_bytes()])?;
        self.keep_variables()
    }

    /// Copies every `AGENTFS_…` variable.
    fn keep_variables(&mut self) -> Option<()> {
        // SAFETY: `environ` is NULL or an array of C strings that ends in NULL (environ(7)), and nothing changes it
        // here.
        for entry in unsafe { environment::entries(environment::own()) } {
            let bytes = entry.to_bytes();
            if bytes.starts_with(b"AGENTFS_") {
                let start = self.kept_length;
                self.keep(&[bytes])?;
                *self.kept_starts.get_mut(self.kept_count)? = start;
                self.kept_count += 1;
            }
        }
        Some(())
    }

    fn keep(&mut self, parts: &[&[u8]]) -> Option<()> {
        for part in parts {
            let end = self.kept_length.checked_add(part.len())?;
            let room = self.kept.get_mut(self.kept_length..end)?;
            for (to, from) in room.iter_mut().zip(*part) {
                *to = *from;
            }
            self.kept_length = end;
        }
        *self.kept.get_mut(self.kept_length)? = 0;
        self.kept_length += 1;
        Some(())
    }

    fn kept_at(&self, start: usize) -> &CStr {
        let bytes = self.kept.get(start..self.kept_length).unwrap_or(&[]);
        CStr::from_bytes_until_nul(bytes).unwrap_or(c"")
    }

    /// The run dir, absolute, without a slash at the end.
    pub(crate) fn run(&self) -> &[u8] {
        self.run.as_bytes()
    }

    /// The folder of the run dir: where the notice socket and the trace page are.
    pub(crate) fn base(&self) -> &[u8] {
        let run = self.run.as_bytes();
        match run.iter().rposition(|byte| *byte == b'/') {
            Some(end) => run.get(..end).unwrap_or(&[]),
            None => &[],
        }
    }

    /// The `LD_PRELOAD=…` string that loads this library alone.
    pub(crate) fn preload(&self) -> &CStr {
        self.kept_at(self.preload_start)
    }

    /// The path of this library.
    pub(crate) fn library(&self) -> &CStr {
        self.kept_at(self.preload_start + environment::PRELOAD.len() + 1)
    }

    /// The `AGENTFS_…=…` strings that this process was started with.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &CStr> + Clone {
        self.kept_starts.iter().take(self.kept_count).map(|start| self.kept_at(*start))
    }

    /// The program that starts others with the engine, if there is one.
    #[cfg(target_os = "linux")]
    pub(crate) fn launcher(&self) -> Option<&CStr> {
        let string =
            self.kept().find(|string| environment::value_of(string.to_bytes(), env::ENGINE).is_some())?;
        let path = string.to_bytes_with_nul().get(env::ENGINE.len() + 1..)?;
        CStr::from_bytes_with_nul(path).ok().filter(|path| path.to_bytes().starts_with(b"/"))
    }

    /// The `AGENTFS_SECRET=…` string among them.
    pub(crate) fn kept_secret(&self) -> Option<&CStr> {
        self.kept().find(|string| environment::value_of(string.to_bytes(), env::SECRET).is_some())
    }

    /// Whether the host is not asked where the instance has no listener on a port.
    pub(crate) fn isolates(&self, port: u16) -> bool {
        (self.isolate || self.isolated.has(port)) && !self.allowed.has(port)
    }

    /// Whether the user allows this port of the host, whoever holds it.
    pub(crate) fn allows(&self, port: u16) -> bool {
        self.allowed.has(port)
    }

    /// Whether a port is rewritten at all.
    pub(crate) fn covers(&self, port: u16) -> bool {
        !self.except.has(port) && self.only.as_ref().is_none_or(|only| port == 0 || only.has(port))
    }
}

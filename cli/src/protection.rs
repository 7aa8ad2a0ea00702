//! What `wrap` and `exec` start. On Linux that is the program that was found. On macOS it may be another: for
//! a script its interpreter, for a shell of the system another shell, so that the interposer is not lost on
//! the way. If a program cannot load the interposer, a warning says so before it starts. Only reads files;
//! `agentfs_macos` decides.
use crate::carrying;
use crate::environment::Engine;
use crate::printer::Printer;
use crate::settings::Settings;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The file that is executed.
    pub(crate) path: PathBuf,
    /// Its arguments, its own name first.
    pub(crate) arguments: Vec<OsString>,
    /// Whether it survives being told to load the interposer: the loader ends some programs for that.
    survives: bool,
    /// Programs of the command that the interposer does not get into, and why.
    pub(crate) lost: Vec<Lost>,
}

/// A program that the interposer does not get into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The program.
    pub(crate) path: PathBuf,
    /// What keeps the interposer out.
    pub(crate) why: String,
    /// What to do about it.
    pub(crate) advice: &'static str,
}

// === impl Start ===

impl Start {
    /// The program as it was found.
    pub(crate) fn plain(path: PathBuf, arguments: &[OsString]) -> Self {
        Self { path, arguments: arguments.to_vec(), survives: true, lost: Vec::new() }
    }

    /// The same, with the variables brought past programs that would lose them.
    pub(crate) fn carry(&self, variables: &[(OsString, OsString)]) -> Self {
        match carrying::look(&self.path, &self.arguments, variables).instead {
            Some((path, arguments)) => Self { path, arguments, ..self.clone() },
            None => self.clone(),
        }
    }

    /// Says which programs of the command use the host's ports.
    pub(crate) fn warn(&self, printer: &Printer) {
        for lost in &self.lost {
            printer.warn(&format!(
                "{} uses the host's ports because its calls cannot be intercepted: {}; {}",
                lost.path.display(),
                lost.why,
                lost.advice
            ));
        }
    }

    /// How the program is reached: without the library if the loader would end the program.
    pub(crate) fn adjust(&self, engine: Engine) -> Engine {
        match engine {
            Engine::Preload { home, library, loaded, isolate } => {
                Engine::Preload { home, library, loaded: loaded && self.survives, isolate }
            }
            other @ (Engine::Filter { .. } | Engine::Cooperative { .. }) => other,
        }
    }
}

/// What to start for the program at `path`; warns if it may not start.
#[cfg(not(target_os = "macos"))]
pub(crate) fn prepare(
    settings: &Settings,
    _printer: &Printer,
    path: PathBuf,
    arguments: &[OsString],
) -> Start {
    let lost = carrying::look(&path, arguments, &settings.environment).lost;
    let lost = lost.into_iter().map(|path| {
        let (why, advice) = ("it stands for a program that macOS protects", "use another program");
        Lost { path, why: why.to_owned(), advice }
    });
    Start { lost: lost.collect(), ..Start::plain(path, arguments) }
}

#[cfg(target_os = "macos")]
pub(crate) use mac::{check, prepare, this_mac, tools_folder};

#[cfg(target_os = "macos")]
mod mac {
    use super::{Lost, OsString, PathBuf, Printer, Settings, Start, carrying};
    use crate::{interposer, program};
    use agentfs_macos::image::{Cpu, Image};
    use agentfs_macos::judge::{self, Effect, Facts, Mac, Reason};
    use agentfs_macos::resolve::{self, Files, Preferences, Program};
    use agentfs_macos::tools;
    use agentfs_wire::{env, script};
    use nix::unistd::{AccessFlags, access};
    use std::ffi::OsStr;
    use std::fs::File;
    use std::io::Read;
    use std::os::macos::fs::MetadataExt as _;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    /// Flag of a file that SIP protects (sys/stat.h).
    const SF_RESTRICTED: u32 = 0x0008_0000;

    /// Programs that often start servers and of which macOS has a protected version.
    const USUAL: [&str; 6] = ["make", "node", "perl", "php", "python3", "ruby"];

    /// The folder of the copies of `agentfs mac-tools`.
    pub(crate) fn tools_folder(settings: &Settings) -> PathBuf {
        settings.paths.home.join("mac-tools")
    }

    /// This machine, and the processors that our library is made for.
    pub(crate) fn this_mac() -> Mac {
        let cpu = if cfg!(target_arch = "aarch64") { Cpu::Arm64 } else { Cpu::X86_64 };
        let library = Image::from_bytes(interposer::BYTES).map_or_else(|_| vec![cpu], |image| image.cpus());
        Mac { cpu, library }
    }

    /// See [`super`]'s definition for other systems.
    pub(crate) fn prepare(
        settings: &Settings,
        printer: &Printer,
        path: PathBuf,
        arguments: &[OsString],
    ) -> Start {
        let cache = tools_folder(settings);
        let program = Program { path: path.clone(), arguments: arguments.to_vec() };
        let found = resolve(settings, &cache, program);
        if found.path != path {
            printer.detail(&format!("starting {} instead of {}", found.path.display(), path.display()));
        }
        if let Some(original) = tools::original_of(&cache, &found.path)
            && tools::lookup(&cache, &original).is_some_and(|tool| !tool.current)
        {
            let original = original.display();
            printer.warn(&format!(
                "the copy of {original} is outdated; renew it with `agentfs mac-tools {original}`"
            ));
        }
        let carried = carrying::look(&found.path, &found.arguments, &settings.environment);
        let (judged, reasons) = reasons(&found.path);
        let effect = judge::effect(&reasons);
        let because = |path, reason: &Reason| Lost { path, why: reason.to_string(), advice: reason.advice() };
        let mut lost: Vec<Lost> =
            carried.lost.into_iter().map(|path| because(path, &Reason::System)).collect();
        if let Some(reason) = reasons.into_iter().find(|reason| reason.effect() == effect) {
            match effect {
                Effect::Loads => {}
                // What it starts is reached behind it.
                Effect::Dropped | Effect::Killed if carried.changes => {}
                Effect::Dropped | Effect::Killed => {
                    if lost.iter().all(|lost| lost.path != judged) {
                        lost.insert(0, because(judged, &reason));
                    }
                }
                Effect::NotStarted => {
                    let (path, advice) = (judged.display(), reason.advice());
                    printer.warn(&format!("{path} may not start: {reason}; {advice}"));
                }
            }
        }
        let survives = effect != Effect::Killed;
        Start { path: found.path, arguments: found.arguments, survives, lost }
    }

    fn resolve(settings: &Settings, cache: &Path, program: Program) -> Program {
        let variable = |name: &str| {
            settings.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
        };
        let preferences = Preferences {
            search_path: settings.search_path.as_deref(),
            shells: [variable(env::SHELL), variable(env::NPM_SHELL)],
            tools: Some(cache),
        };
        resolve::resolve(&Disk, &preferences, program)
    }

    /// The program that the kernel loads for `path` (for a script, its interpreter), and what keeps the
    /// interposer out of it.
    fn reasons(path: &Path) -> (PathBuf, Vec<Reason>) {
        let real = Disk.canonical(path);
        let found = std::fs::metadata(&real);
        let facts = Facts {
            path: real.as_os_str().as_bytes(),
            set_id: found.as_ref().is_ok_and(|found| found.mode() & 0o6000 != 0),
            restricted: found.as_ref().is_ok_and(|found| found.st_flags() & SF_RESTRICTED != 0),
        };
        if let Some(line) = script::Line::parse(&Disk.head(&real)) {
            // It was not resolved, so the kernel starts the interpreter.
            let interpreter = PathBuf::from(OsStr::from_bytes(line.interpreter));
            let is_script = script::Line::parse(&Disk.head(&interpreter)).is_some();
            // The kernel refuses a script as the interpreter of a script, and reports it itself.
            return if is_script { (real, Vec::new()) } else { reasons(&interpreter) };
        }
        let image = match File::open(&real) {
            Ok(file) => Image::from_file(file),
            // Executable but not readable: nothing is known about it.
            Err(_) => return (real, Vec::new()),
        };
        let reasons = judge::judge(&this_mac(), &facts, &image);
        (real, reasons)
    }

    /// Which of the usual programs are protected: what was found, and what to do.
    pub(crate) fn check(settings: &Settings) -> (String, Option<String>) {
        let cache = tools_folder(settings);
        let mut free = Vec::new();
        let mut protected = Vec::new();
        for name in USUAL {
            let Ok(path) = program::find(OsStr::new(name), settings.search_path.as_deref()) else { continue };
            let program = Program { path, arguments: vec![name.into()] };
            let found = resolve(settings, &cache, program).path;
            let loads = judge::effect(&reasons(&found).1) == Effect::Loads;
            if loads { free.push(name) } else { protected.push(format!("{name} ({})", found.display())) }
        }
        if protected.is_empty() {
            return (format!("these load the interposer: {}", free.join(", ")), None);
        }
        let found = format!("these do not load the interposer: {}", protected.join(", "));
        let hint = "install them with Homebrew, or copy them with `agentfs mac-tools PROGRAM`";
        (found, Some(hint.to_owned()))
    }

    /// Files as they are.
    struct Disk;

    impl Files for Disk {
        fn head(&self, path: &Path) -> Vec<u8> {
            let mut head = Vec::new();
            // Opening a FIFO would wait for a writer.
            if !path.is_file() {
                return head;
            }
            let limit = u64::try_from(script::HEAD_BYTES).unwrap_or(0);
            match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut head)) {
                Ok(_) => head,
                Err(_) => Vec::new(),
            }
        }

        fn is_program(&self, path: &Path) -> bool {
            path.is_file() && access(path, AccessFlags::X_OK).is_ok()
        }

        fn canonical(&self, path: &Path) -> PathBuf {
            path.canonicalize().unwrap_or_else(|_| path.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_would_end_the_program_is_not_named_to_the_loader() {
        let engine = Engine::Preload { home: "/h".into(), library: "/l".into(), loaded: true, isolate: true };
        let start = Start::plain("/x".into(), &["x".into()]);
        assert_eq!(start.adjust(engine.clone()), engine);
        let start = Start { survives: false, ..start };
        let expected =
            Engine::Preload { home: "/h".into(), library: "/l".into(), loaded: false, isolate: true };
        assert_eq!(start.adjust(engine), expected);
        let cooperative = Engine::Cooperative { nested: false };
        assert_eq!(start.adjust(cooperative.clone()), cooperative);
    }
}

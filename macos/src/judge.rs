//! Whether macOS lets the interposer into a program, and if not, why and what to do. Pure.
//!
//! The rules are those of the kernel (xnu, bsd/kern), the loader (dyld, `ProcessConfig`) and AMFI, as far as
//! they are published or documented (Apple, "Hardened Runtime"). They come from reading, not from
//! observation.
use crate::image::{Cpu, Error, Image, Slice};
use agentfs_wire::script;
use std::fmt;

/// The machine and what is to be loaded on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mac {
    /// Its processor: [`Cpu::Arm64`] or [`Cpu::X86_64`].
    pub cpu: Cpu,
    /// The slices that the interposer has.
    pub library: Vec<Cpu>,
}

/// What the file system says about a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Its path, absolute and without links.
    pub path: &'a [u8],
    /// Whether it changes the user or group (`S_ISUID`, `S_ISGID`).
    pub set_id: bool,
    /// Whether the file has the flag `SF_RESTRICTED` (chflags(2)): SIP protects it.
    pub restricted: bool,
}

/// What keeps the interposer out of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is one of the system's own.
    System,
    /// It changes its user or group when it starts.
    SetId,
    /// It was linked or signed to be restricted.
    Restricted,
    /// It has the hardened runtime and is not entitled to `DYLD_…` variables.
    Hardened,
    /// It loads only libraries of its own signer.
    ValidatesLibraries,
    /// It has only an arm64e slice, for which only Apple can make libraries.
    Arm64eOnly,
    /// The interposer has no slice for it.
    NoLibraryFor(Cpu),
    /// It is not signed, and Apple silicon starts only signed programs.
    Unsigned,
    /// This Mac does not run any of its slices.
    NotForThisMac(Vec<Cpu>),
    /// It is not a program, or is damaged.
    Unreadable(Error),
}

/// What happens if the program is started with the interposer anyway. Ordered: of several reasons the worst
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// The interposer is loaded.
    Loads,
    /// The loader ends the program, because it cannot load what it was told to.
    Killed,
    /// macOS removes the variable, and the program runs without the interposer.
    Dropped,
    /// The program does not start, with or without the interposer.
    NotStarted,
}

/// All reasons that keep the interposer out of a program; empty if none does.
pub fn judge(mac: &Mac, facts: &Facts<'_>, image: &Result<Image, Error>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let mut when = |holds: bool, reason: Reason| {
        if holds {
            reasons.push(reason);
        }
    };
    let system = script::is_system(facts.path) || facts.restricted;
    let image = match image {
        Ok(image) => image,
        Err(error) => {
            when(system, Reason::System);
            when(true, Reason::Unreadable(error.clone()));
            return reasons;
        }
    };
    let Some(slice) = chosen(mac.cpu, image) else { return vec![Reason::NotForThisMac(image.cpus())] };
    let signature = slice.signature;
    let is = |check: fn(&crate::signature::Signature) -> bool| signature.as_ref().is_some_and(check);
    when(system || is(|signature| signature.platform), Reason::System);
    when(facts.set_id, Reason::SetId);
    when(slice.restrict || is(crate::signature::Signature::is_restricted), Reason::Restricted);
    let entitled = is(|signature| signature.entitlements.dyld_variables);
    when(is(crate::signature::Signature::is_hardened) && !entitled, Reason::Hardened);
    when(is(crate::signature::Signature::validates_libraries), Reason::ValidatesLibraries);
    when(slice.cpu == Cpu::Arm64e, Reason::Arm64eOnly);
    let served = slice.cpu == Cpu::Arm64e || mac.library.contains(&slice.cpu);
    when(!served, Reason::NoLibraryFor(slice.cpu));
    let needs = matches!(slice.cpu, Cpu::Arm64 | Cpu::Arm64e);
    when(needs && signature.is_none(), Reason::Unsigned);
    reasons
}

/// The effect of all reasons together.
pub fn effect(reasons: &[Reason]) -> Effect {
    reasons.iter().map(Reason::effect).max().unwrap_or(Effect::Loads)
}

/// The slice that a Mac runs. Programs of third parties may have an arm64e slice as well, for Apple's
/// preview; the kernel uses it only if the preview is turned on.
fn chosen(mac: Cpu, image: &Image) -> Option<&Slice> {
    let order: &[Cpu] = match mac {
        Cpu::Arm64 => &[Cpu::Arm64, Cpu::Arm64e, Cpu::X86_64],
        _ => &[Cpu::X86_64],
    };
    order.iter().find_map(|cpu| image.slice(*cpu))
}

// === impl Reason ===

impl Reason {
    /// Its effect.
    pub fn effect(&self) -> Effect {
        match self {
            Self::System | Self::SetId | Self::Restricted | Self::Hardened => Effect::Dropped,
            Self::ValidatesLibraries | Self::Arm64eOnly | Self::NoLibraryFor(_) => Effect::Killed,
            Self::Unsigned | Self::NotForThisMac(_) | Self::Unreadable(_) => Effect::NotStarted,
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::System => {
                "use the same program from Homebrew, MacPorts, nvm, pyenv or rustup, or make a copy that is \
                 not protected with `agentfs mac-tools PROGRAM`"
            }
            Self::SetId => "use a program of your own as the listener instead",
            Self::Restricted | Self::Hardened | Self::ValidatesLibraries => {
                "`agentfs mac-tools PROGRAM` makes a copy without this; the developer can sign the program with \
                 com.apple.security.cs.allow-dyld-environment-variables and \
                 com.apple.security.cs.disable-library-validation"
            }
            Self::Arm64eOnly => "build it for arm64",
            Self::NoLibraryFor(_) => {
                "install the program for this Mac's own processor, or an agentfs with a universal library \
                 (docs/macos.md)"
            }
            Self::Unsigned => "`codesign --sign - PROGRAM` signs it for this Mac",
            Self::NotForThisMac(_) => "install it for this Mac's processor",
            Self::Unreadable(_) => "check that it is the right file",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => to.write_str("System Integrity Protection protects it as part of macOS"),
            Self::SetId => to.write_str("it changes its user or group when it starts"),
            Self::Restricted => to.write_str("it is restricted by its developer"),
            Self::Hardened => to.write_str("it has the hardened runtime"),
            Self::ValidatesLibraries => to.write_str("it loads only libraries of its own developer"),
            Self::Arm64eOnly => to.write_str("it is built only for arm64e"),
            Self::NoLibraryFor(cpu) => {
                write!(to, "it is built for {cpu}, and this agentfs has no library for that")
            }
            Self::Unsigned => to.write_str("it is not signed, so Apple silicon does not start it"),
            Self::NotForThisMac(cpus) => {
                let names: Vec<String> = cpus.iter().map(Cpu::to_string).collect();
                write!(to, "it is built for {}, which this Mac cannot run", names.join(", "))
            }
            Self::Unreadable(error) => error.fmt(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{self, Sample};

    const HARDENED: u32 = 0x10000;
    const DYLD: &str = "<key>com.apple.security.cs.allow-dyld-environment-variables</key><true/>";
    const ANY: &str = "<key>com.apple.security.cs.disable-library-validation</key><true/>";

    fn mac(cpu: Cpu, library: &[Cpu]) -> Mac {
        Mac { cpu, library: library.to_vec() }
    }

    fn silicon() -> Mac {
        mac(Cpu::Arm64, &[Cpu::Arm64, Cpu::X86_64])
    }

    fn at(path: &str) -> Facts<'_> {
        Facts { path: path.as_bytes(), set_id: false, restricted: false }
    }

    fn reasons(mac: &Mac, facts: &Facts<'_>, bytes: &[u8]) -> Vec<Reason> {
        judge(mac, facts, &Image::from_bytes(bytes))
    }

    fn arm(flags: u32, entitlements: &str) -> Vec<u8> {
        Sample::new(Cpu::Arm64).signed(flags, 0, Some(entitlements)).build()
    }

    #[test]
    fn each_protection_has_its_reason() {
        let own = at("/opt/homebrew/bin/x");
        let both = format!("{DYLD}{ANY}");
        let cases: Vec<(&str, Vec<u8>, Facts<'_>, Vec<Reason>)> = vec![
            ("ad hoc", arm(0x2, ""), own, vec![]),
            ("signed by its maker", arm(0, ""), own, vec![]),
            ("hardened", arm(HARDENED, ""), own, vec![Reason::Hardened, Reason::ValidatesLibraries]),
            ("entitled to all, as Node is", arm(HARDENED, &both), own, vec![]),
            ("its own libraries only", arm(HARDENED, DYLD), own, vec![Reason::ValidatesLibraries]),
            ("no variables", arm(HARDENED, ANY), own, vec![Reason::Hardened]),
            ("restricted flag", arm(0x800, ""), own, vec![Reason::Restricted]),
            ("required validation", arm(0x2000, ""), own, vec![Reason::ValidatesLibraries]),
            ("system", arm(0x2, ""), at("/usr/bin/x"), vec![Reason::System]),
            ("system file flag", arm(0x2, ""), Facts { restricted: true, ..own }, vec![Reason::System]),
            ("set-uid", arm(0x2, ""), Facts { set_id: true, ..own }, vec![Reason::SetId]),
            ("part of macOS", Sample::new(Cpu::Arm64).signed(0, 14, None).build(), own, vec![Reason::System]),
            ("unsigned", Sample::new(Cpu::Arm64).build(), own, vec![Reason::Unsigned]),
            ("unsigned for Intel", Sample::new(Cpu::X86_64).build(), own, vec![]),
            ("i386", Sample::new(Cpu::I386).build(), own, vec![Reason::NotForThisMac(vec![Cpu::I386])]),
            (
                "arm64e alone",
                Sample::new(Cpu::Arm64e).signed(0, 0, None).build(),
                own,
                vec![Reason::Arm64eOnly],
            ),
            (
                "segment",
                Sample::new(Cpu::X86_64).segment("__RESTRICT").build(),
                own,
                vec![Reason::Restricted],
            ),
            ("text", b"hello, world".to_vec(), own, vec![Reason::Unreadable(Error::NotMachO)]),
        ];
        for (name, bytes, facts, expected) in cases {
            assert_eq!(reasons(&silicon(), &facts, &bytes), expected, "{name}");
            for reason in expected {
                assert!(!reason.to_string().is_empty() && !reason.advice().is_empty());
            }
        }
    }

    #[test]
    fn the_slice_that_this_mac_runs_is_judged() {
        let fat = sample::universal(
            false,
            &[
                Sample::new(Cpu::X86_64).segment("__RESTRICT").build(),
                Sample::new(Cpu::Arm64).signed(0x2, 0, None).build(),
            ],
        );
        let own = at("/opt/x");
        assert_eq!(reasons(&silicon(), &own, &fat), []);
        assert_eq!(reasons(&mac(Cpu::X86_64, &[Cpu::X86_64]), &own, &fat), [Reason::Restricted]);
        let intel = Sample::new(Cpu::X86_64).build();
        assert_eq!(
            reasons(&mac(Cpu::Arm64, &[Cpu::Arm64]), &own, &intel),
            [Reason::NoLibraryFor(Cpu::X86_64)],
            "a library of the wrong kind ends the program"
        );
        let arm = Sample::new(Cpu::Arm64).signed(0x2, 0, None).build();
        let on_intel = reasons(&mac(Cpu::X86_64, &[Cpu::X86_64]), &own, &arm);
        assert_eq!(on_intel, [Reason::NotForThisMac(vec![Cpu::Arm64])]);
    }

    #[test]
    fn a_variable_that_is_removed_kills_nobody() {
        assert_eq!(effect(&[]), Effect::Loads);
        assert_eq!(effect(&[Reason::ValidatesLibraries]), Effect::Killed);
        assert_eq!(effect(&[Reason::ValidatesLibraries, Reason::Hardened]), Effect::Dropped);
        assert_eq!(effect(&[Reason::System, Reason::Arm64eOnly]), Effect::Dropped);
        assert_eq!(effect(&[Reason::Unsigned, Reason::System]), Effect::NotStarted);
    }
}

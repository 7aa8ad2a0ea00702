//! When a process was born, from `/proc/PID/stat` (proc(5), field 22) and the boot clock.
use crate::clock::now_ms;
use crate::limits::BIRTH_SLACK_MS;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// Whether a process was certainly born after `limit_ms` (Unix milliseconds). `false` if that cannot be read:
/// it would be worse to take a living process for dead.
pub(crate) fn is_younger(pid: u32, limit_ms: u64) -> bool {
    born_ms(pid).is_some_and(|born| born > limit_ms.saturating_add(BIRTH_SLACK_MS))
}

/// Unix milliseconds when a process was born.
pub(super) fn born_ms(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = start_ticks(&stat)?;
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    let up_ms = u64::try_from(boot.tv_sec()).ok()? * 1000 + u64::try_from(boot.tv_nsec()).ok()? / 1_000_000;
    let age_ms = up_ms.checked_sub(ticks.checked_mul(1000)? / per_second)?;
    now_ms().checked_sub(age_ms)
}

/// Field 22. The second field is a name in parentheses that may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_birth_is_in_the_past() {
        let born = born_ms(std::process::id()).unwrap();
        assert!(born <= now_ms() && born > 1_000_000_000_000, "{born}");
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat =
            format!("7 (a) b) S {} 4242 0", (4..22).map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
        assert_eq!(start_ticks(&stat), Some(4242));
    }
}

//! Reads the environment of a process as the system shows it (`/proc/PID/environ`, proc(5)): to which instance it
//! belongs. Pure. A program may write a title over its environment, or have variables without `=`: what is left of
//! it still counts.
use crate::env;
use std::path::Path;

/// What an environment says of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership<'a> {
    /// The app.
    pub app: &'a str,
    /// The instance.
    pub instance: &'a str,
    /// The proof that processes of another user need, if any.
    pub secret: Option<&'a str>,
}

/// The instance of the run dir `run` that a process with this environment belongs to. Of a variable that is there
/// twice the first counts, as for getenv(3).
pub fn membership<'a>(environment: &'a [u8], run: &Path) -> Option<Membership<'a>> {
    let (mut app, mut instance, mut folder, mut secret) = (None, None, None, None);
    for variable in environment.split(|byte| *byte == 0) {
        let Some(equals) = variable.iter().position(|byte| *byte == b'=') else { continue };
        let (Some(name), Some(value)) = (variable.get(..equals), variable.get(equals + 1..)) else {
            continue;
        };
        let place = match std::str::from_utf8(name) {
            Ok(env::APP) => &mut app,
            Ok(env::INSTANCE) => &mut instance,
            Ok(env::RUN) => &mut folder,
            Ok(env::SECRET) => &mut secret,
            _ => continue,
        };
        place.get_or_insert(value);
    }
    if folder? != run.as_os_str().as_encoded_bytes() {
        return None;
    }
    let text = |bytes| std::str::from_utf8(bytes).ok();
    Some(Membership { app: text(app?)?, instance: text(instance?)?, secret: secret.and_then(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_known_by_their_environment() {
        let run = Path::new("/home/ada/.agentfs/run");
        let of = |text: &'static [u8]| {
            membership(text, run).map(|member| format!("{}/{}", member.app, member.instance))
        };
        let whole =
            b"PATH=/bin\0AGENTFS_RUN=/home/ada/.agentfs/run\0AGENTFS_APP=shop\0AGENTFS_INSTANCE=k3f9\0";
        assert_eq!(of(whole).as_deref(), Some("shop/k3f9"));
        assert_eq!(of(b"AGENTFS_RUN=/other\0AGENTFS_APP=shop\0AGENTFS_INSTANCE=k3f9\0"), None);
        assert_eq!(of(b"AGENTFS_APP=shop\0"), None);
        assert_eq!(of(b"\0nginx: master process\0"), None);
    }

    /// A program that writes a title over the beginning, or was given a variable without `=`, is still a member.
    #[test]
    fn a_title_over_the_first_variables_hides_nothing_else() {
        let text = b"worker process 3\0\0\0odd\0AGENTFS_SECRET=5\0AGENTFS_RUN=/r\0AGENTFS_APP=a\0AGENTFS_INSTANCE=b\0AGENTFS_APP=c\0";
        let member = Membership { app: "a", instance: "b", secret: Some("5") };
        assert_eq!(membership(text, Path::new("/r")), Some(member));
    }
}

//! Whether a caller belongs to an instance: it must know the instance's secret, which the companion contains.
//! Other statements of a process, such as its environment, prove nothing: everybody can set them.
use crate::secret;
use agentfs_wire::broker::Request;
use std::path::Path;

/// Whether `request` has the secret of the instance that it names. An instance has no members if it has no
/// companion (an instance made by hand) or if its companion has no secret.
pub(super) fn proves(request: &Request<'_>, run: &Path) -> bool {
    secret::of(request.app, request.instance, run).is_some_and(|secret| secret.is(request.secret))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::broker::Ask;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    const SECRET: &str = "000102030405060708090a0b0c0d0e0f";

    fn companion(run: &Path, instance: &str, secret: &str) {
        let text = format!(
            r#"{{"app":"shop","instance":"{instance}","directory":"/","checkout":null,"fork":false,"branch":null,
            "command":[],"wrap_pid":7,"child_pid":8,"started_ms":9,"version":"0.1.0"{secret}}}"#
        );
        let path = run.join(format!("shop-{instance}.json"));
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    fn proves(instance: &str, secret: &str, run: &Path) -> bool {
        let ask = Ask::Probe { file: "" };
        super::proves(&Request { app: "shop", instance, secret, ask }, run)
    }

    #[test]
    fn who_knows_the_secret_is_a_member() {
        let run = tempfile::tempdir().unwrap();
        companion(run.path(), "one", &format!(r#","secret":"{SECRET}""#));
        companion(run.path(), "two", r#","secret":"ffffffffffffffffffffffffffffffff""#);
        assert!(proves("one", SECRET, run.path()));
        for wrong in
            ["", "0", "ffffffffffffffffffffffffffffffff", &SECRET.to_uppercase(), &format!("{SECRET}0")]
        {
            assert!(!proves("one", wrong, run.path()), "{wrong}");
        }
        assert!(!proves("two", SECRET, run.path()), "it is another's");
        for name in ["three", "Not A Label", "../one", ""] {
            assert!(!proves(name, SECRET, run.path()), "{name}");
        }
    }

    #[test]
    fn an_instance_without_a_secret_has_no_members() {
        let run = tempfile::tempdir().unwrap();
        companion(run.path(), "old", "");
        assert!(!proves("old", "", run.path()));
        fs::write(run.path().join("shop-torn.json"), "{").unwrap();
        assert!(!proves("torn", "", run.path()));
        // Made without `wrap`: there is a socket and no companion.
        assert!(!proves("hand", "", run.path()));
    }

    #[test]
    fn a_companion_that_others_may_have_read_proves_nothing() {
        let run = tempfile::tempdir().unwrap();
        companion(run.path(), "one", &format!(r#","secret":"{SECRET}""#));
        symlink(run.path().join("shop-one.json"), run.path().join("shop-link.json")).unwrap();
        assert!(!proves("link", SECRET, run.path()));
        for mode in [0o644, 0o660, 0o602] {
            fs::set_permissions(run.path().join("shop-one.json"), Permissions::from_mode(mode)).unwrap();
            assert!(!proves("one", SECRET, run.path()), "{mode:o}");
        }
    }
}

//! The file of routes added by hand. If it is damaged, its routes are lost, but the collector starts.
use crate::stored;
use agentfs_wire::control::{RouteInfo, RouteParams};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::io;
use std::path::Path;

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    routes: Vec<RouteInfo>,
}

/// Reads the routes, each as `parse` does. Entries that cannot be used are skipped and named in the
/// second list.
pub fn load<T, E: Display>(
    path: &Path,
    parse: impl Fn(&RouteParams) -> Result<T, E>,
) -> (Vec<T>, Vec<String>) {
    let (stored, trouble) = stored::load::<Stored>(path);
    let mut troubles: Vec<String> = trouble.into_iter().collect();
    let mut routes = Vec::new();
    for RouteInfo { host, target, wildcard, policy, handoff, rewrite_host, .. } in stored.routes {
        let replace = false;
        match parse(&RouteParams { host, target, wildcard, replace, policy, handoff, rewrite_host }) {
            Ok(route) => routes.push(route),
            Err(error) => troubles.push(format!("a route in {} is ignored: {error}", path.display())),
        }
    }
    (routes, troubles)
}

/// Writes the routes.
///
/// # Errors
/// What the system says; the old file is unchanged then.
pub fn save(path: &Path, routes: Vec<RouteInfo>) -> io::Result<()> {
    let routes = routes.into_iter().map(|route| RouteInfo { url: None, ..route }).collect();
    stored::save(path, &Stored { routes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::control::Policy;
    use std::fs;

    fn read_all(path: &Path) -> (Vec<RouteParams>, Vec<String>) {
        load(path, |route| if route.host.contains(' ') { Err("bad host") } else { Ok(route.clone()) })
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_the_routes_as_they_were() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("routes.json");
        let info = |host: &str| RouteInfo {
            host: host.into(),
            target: "/x.sock".into(),
            wildcard: false,
            url: None,
            policy: Policy::default(),
            handoff: false,
            rewrite_host: false,
        };
        save(&path, vec![info("a.localhost")]).unwrap();
        let before = fs::read(&path).unwrap();
        let fresh = path.with_extension("json.new");
        std::os::unix::fs::symlink("/dev/full", &fresh).unwrap();
        let error = save(&path, vec![info("a.localhost"), info("b.localhost")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), before);
        assert!(fs::symlink_metadata(&fresh).is_err());
        save(&path, vec![info("b.localhost")]).unwrap();
        assert_eq!(read_all(&path).0.len(), 1);
    }

    #[test]
    fn routes_survive_and_a_torn_file_does_not_hurt() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("routes.json");
        assert_eq!(read_all(&path), (Vec::new(), Vec::new()));
        let info = |host: &str, target: &str| RouteInfo {
            host: host.into(),
            target: target.into(),
            wildcard: true,
            url: Some("http://x".into()),
            policy: Policy::default(),
            handoff: target == "/x.sock",
            rewrite_host: target == "/z.sock",
        };
        let infos = [("a.localhost", "/x.sock"), ("not a host", "/y.sock"), ("z.localhost", "/z.sock")];
        save(&path, infos.map(|(host, target)| info(host, target)).to_vec()).unwrap();
        let (routes, troubles) = read_all(&path);
        assert_eq!((routes.len(), troubles.len()), (2, 1));
        assert!(!routes[0].rewrite_host && routes[1].rewrite_host);
        assert!(routes[0].wildcard && routes[0].handoff && routes[0].target == "/x.sock");
        // As written by a version without hand-off and without host rewriting.
        fs::write(&path, r#"{"routes":[{"host":"a.localhost","target":"shop"}]}"#).unwrap();
        assert!(read_all(&path).0.first().is_some_and(|route| !route.handoff && !route.rewrite_host));
        fs::write(&path, r#"{"routes":[{"host":"a.loc"#).unwrap();
        let (routes, troubles) = read_all(&path);
        assert!(routes.is_empty() && troubles[0].contains("moved to"), "{troubles:?}");
        assert!(path.with_extension("json.torn").exists() && !path.exists());
    }
}

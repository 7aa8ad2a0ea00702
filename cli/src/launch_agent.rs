//! The LaunchAgent with which launchd(8) starts the collector at login: the content of its property list
//! (launchd.plist(5)) and its path. Pure, except that it looks up this program's path. `launchctl` loads it.
use crate::hint::Failure;
use crate::program::own_binary;
use crate::settings::Settings;
use agentfs_wire::env;
use agentfs_wire::label::hash5;
use std::ffi::CStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Name of the sockets for the router, as launchd and the collector know them.
pub(crate) const SOCKETS: &CStr = c"http";

/// Name of the job; for a home other than the default, its hash is added.
const LABEL: &str = "agentfs.collector";

/// Where launchd looks for a user's jobs, below the user's folder.
const FOLDER: &str = "Library/LaunchAgents";

/// Seconds for the collector to end at logout: more than it takes to let requests end.
const EXIT_SECONDS: u32 = 10;

/// A job of launchd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LaunchAgent {
    label: String,
    file: PathBuf,
    binary: PathBuf,
    home: PathBuf,
    log: PathBuf,
    /// Variables by which the user configured the collector, with their values.
    variables: Vec<(&'static str, String)>,
    /// Whether launchd opens port 80: not if the user chose another port.
    port_80: bool,
}

// === impl LaunchAgent ===

impl LaunchAgent {
    /// The agent for the home of these settings.
    ///
    /// # Errors
    /// The user has no home folder, this program has no path, or a path is not UTF-8 text (as a property list
    /// is).
    pub(crate) fn of(settings: &Settings) -> Result<Self, Failure> {
        let Some(user_home) = &settings.user_home else {
            return Err(Failure::of("cannot find a folder for the LaunchAgent: HOME is not set"));
        };
        let binary = own_binary()
            .and_then(|path| path.canonicalize())
            .map_err(|error| Failure::of(format_args!("cannot find this program: {error}")))?;
        let variables = [env::LOG, env::ROUTER, env::ROUTER_TLS, env::ROUTER_THREADS, env::DNS]
            .into_iter()
            .filter_map(|name| Some((name, settings.variable(name)?.into_string().ok()?)))
            .collect();
        let home = settings.paths.home.clone();
        let default = user_home.canonicalize().is_ok_and(|folder| home == folder.join(".agentfs"));
        let label =
            if default { LABEL.to_owned() } else { format!("{LABEL}.{}", hash5(&home.to_string_lossy())) };
        let file = user_home.join(FOLDER).join(format!("{label}.plist"));
        if let Some(path) = [&binary, &settings.paths.log].into_iter().find(|path| path.to_str().is_none()) {
            return Err(Failure::of(format_args!(
                "cannot write {} into XML: it is not UTF-8 text",
                path.display()
            )));
        }
        let log = settings.paths.log.clone();
        Ok(Self { label, file, binary, home, log, variables, port_80: settings.router.is_none() })
    }

    /// What launchd calls it.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Where the property list belongs.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Where the collector's output goes.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The property list.
    pub(crate) fn plist(&self) -> String {
        let mut list = Plist::begin();
        list.string("Label", &self.label);
        list.open("ProgramArguments", "array");
        for word in [&*self.binary.to_string_lossy(), "daemon", "run", "--by-launchd"] {
            list.item(word);
        }
        list.close("array");
        list.open("EnvironmentVariables", "dict");
        list.string(env::HOME, &self.home.to_string_lossy());
        for (name, value) in &self.variables {
            list.string(name, value);
        }
        list.close("dict");
        list.flag("RunAtLoad", true);
        // Restart it after it failed or was killed, but not after it was told to stop.
        list.open("KeepAlive", "dict");
        list.flag("SuccessfulExit", false);
        list.close("dict");
        list.string("ProcessType", "Interactive");
        list.number("ExitTimeOut", EXIT_SECONDS);
        for stream in ["StandardOutPath", "StandardErrorPath"] {
            list.string(stream, &self.log.to_string_lossy());
        }
        if self.port_80 {
            list.open("Sockets", "dict");
            list.open(&SOCKETS.to_string_lossy(), "array");
            for (node, family) in [("127.0.0.1", "IPv4"), ("::1", "IPv6")] {
                list.open_item("dict");
                list.string("SockNodeName", node);
                list.string("SockServiceName", "80");
                list.string("SockFamily", family);
                list.string("SockType", "stream");
                list.close("dict");
            }
            list.close("array");
            list.close("dict");
        }
        list.end()
    }
}

/// A property list that is being written (plist(5)), indented by tabs as plutil(1) does.
struct Plist {
    text: String,
    depth: usize,
}

// === impl Plist ===

impl Plist {
    fn begin() -> Self {
        let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                    <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
                    \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
                    <plist version=\"1.0\">\n<dict>\n";
        Self { text: text.to_owned(), depth: 1 }
    }

    fn end(mut self) -> String {
        self.text.push_str("</dict>\n</plist>\n");
        self.text
    }

    fn line(&mut self, text: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{}{text}", "\t".repeat(self.depth));
    }

    fn key(&mut self, name: &str) {
        self.line(&format!("<key>{}</key>", escaped(name)));
    }

    fn item(&mut self, value: &str) {
        self.line(&format!("<string>{}</string>", escaped(value)));
    }

    fn string(&mut self, name: &str, value: &str) {
        self.key(name);
        self.item(value);
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.key(name);
        self.line(if value { "<true/>" } else { "<false/>" });
    }

    fn number(&mut self, name: &str, value: u32) {
        self.key(name);
        self.line(&format!("<integer>{value}</integer>"));
    }

    fn open(&mut self, name: &str, kind: &str) {
        self.key(name);
        self.open_item(kind);
    }

    fn open_item(&mut self, kind: &str) {
        self.line(&format!("<{kind}>"));
        self.depth += 1;
    }

    fn close(&mut self, kind: &str) {
        self.depth -= 1;
        self.line(&format!("</{kind}>"));
    }
}

/// Text escaped for XML 1.0. XML has no control characters, so they become U+FFFD: a path with one is then
/// not found, and the log names it.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(character),
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An agent whose paths have every character that XML must escape.
    pub(crate) fn agent(folder: &Path) -> LaunchAgent {
        LaunchAgent {
            label: LABEL.to_owned(),
            file: folder.join(FOLDER).join(format!("{LABEL}.plist")),
            binary: "/Users/ada/R&D/<agentfs>".into(),
            home: "/Users/ada/R&D/home".into(),
            log: "/Users/ada/R&D/home/collector.log".into(),
            variables: vec![(env::LOG, "debug".to_owned())],
            port_80: true,
        }
    }

    #[test]
    fn the_property_list_is_the_golden_one() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/launch_agent/agent.plist");
        let text = agent(Path::new("/Users/ada")).plist();
        assert_eq!(text, std::fs::read_to_string(golden).unwrap());
    }

    #[test]
    fn no_path_breaks_the_xml() {
        assert_eq!(escaped("a&b<c>\"d'\u{7}\r\u{e9}"), "a&amp;b&lt;c&gt;\"d'\u{fffd}&#13;\u{e9}");
        let text = agent(Path::new("/")).plist();
        assert!(!text.contains("R&D") && !text.contains("<agentfs>"), "{text}");
    }

    #[test]
    fn port_80_stays_closed_where_the_user_chose_another() {
        let other = LaunchAgent { port_80: false, ..agent(Path::new("/")) };
        assert!(!other.plist().contains("Sockets") && agent(Path::new("/")).plist().contains("Sockets"));
    }
}

//! The command line: clap types only, no behaviour.
mod names;
mod running;

pub(crate) use names::{ForwardAction, ForwardArguments, PolicyArgument, RouteAction, RouteArguments};
pub(crate) use running::{RestartArguments, StopArguments, UrlArguments, WaitArguments, WhoArguments};

use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Every fork gets its own localhost.
#[derive(Debug, Parser)]
#[command(
    name = "agentfs",
    version,
    max_term_width = 110,
    after_long_help = "\
Examples:
  agentfs wrap -- python3 -m http.server 8080    a server with a localhost of its own
  agentfs exec shop/main -- curl localhost:8080  a client in that localhost
  agentfs ps                                     what is running, and its URLs

Name an instance as APP/INSTANCE, as INSTANCE.APP (as in its host name) or by a URL. APP alone is its
instance main, as APP.localhost is, or, with a warning, the only fork that is running. Without a name,
exec, stop, restart, url, wait and forward mean the instance that they run in, or else that of the
folder.

Exit status:
  0    success
  1    failure; the message says why
  2    wrong command line
  3    app, instance, route or collector not found
  124  wait: what was waited for did not come in time
  125  agentfs failed before it started the program
  126  the program cannot be executed
  127  program not found
  any other status is the wrapped program's own"
)]
pub(crate) struct Arguments {
    /// Say more on standard error, even when it is not a terminal
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Say nothing on standard error except why it failed
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program with a localhost of its own
    Wrap(WrapArguments),
    /// Show what this folder's app and instance are called, and why
    Name(NameArguments),
    /// Run a program in the localhost of a running instance
    Exec(ExecArguments),
    /// List running instances: app, instance, address, URL, process, age, requests and their rate
    Ps(PsArguments),
    /// Show live what wrapped programs bind, accept and connect, or the requests they get
    Trace(TraceArguments),
    /// Add a host name for a socket, a port or an instance
    Route(RouteArguments),
    /// Open a port of an instance to raw TCP, or all its ports on an address of its own
    Forward(ForwardArguments),
    /// Stop instances: terminate, wait, kill
    Stop(StopArguments),
    /// Stop an instance and start it again with the same commands, folders and rules
    Restart(RestartArguments),
    /// Print the URL of an instance
    Url(UrlArguments),
    /// Wait until an instance can be reached
    Wait(WaitArguments),
    /// Tell which process of which instance answers on a port or at a URL
    Who(WhoArguments),
    /// Remove files that dead instances left behind
    Prune(PruneArguments),
    /// Start, stop or inspect the collector
    Daemon(DaemonArguments),
    /// Install the local CA and turn on https
    Trust(TrustArguments),
    /// Let the system resolve `*.localhost`, where it does not
    Names(NamesArguments),
    /// macOS: copy a protected tool so that it can be wrapped
    MacTools(MacToolsArguments),
    /// Check what agentfs needs
    Doctor(DoctorArguments),
    /// Run one of the small programs of `doctor --self-test`
    #[command(hide = true)]
    Probe(ProbeArguments),
    /// Report where a wrapped program listens; for `wrap`
    #[command(hide = true)]
    Tell(TellArguments),
    /// The supervisor of the seccomp engine; for `wrap`
    #[command(hide = true)]
    EngineServe(EngineServeArguments),
    /// Start a program with the seccomp engine; for the library
    #[command(hide = true)]
    EngineRun(EngineRunArguments),
}

/// `agentfs wrap`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs wrap -- python3 -m http.server 8080
  agentfs wrap --app shop --instance blue -- npm run dev

The program keeps its own exit status, signals, terminal and standard streams.
The app is the first of: --app; the name in agentfs.toml in this folder or above; the name in
package.json, Cargo.toml or pyproject.toml in the root of the git checkout; that root's folder.
The instance is `main` in the main checkout and outside git, and the branch in a linked worktree.
A command joins the running instance of its checkout, so two terminals share one localhost. The same
command line once more, while it is running, becomes another copy: main-2. `agentfs name` explains it.
The environment has AGENTFS_SOCKET, AGENTFS_URL, AGENTFS_HOSTNAME, AGENTFS_APP, AGENTFS_INSTANCE.
With --no-interpose or AGENTFS_NO_INTERPOSE=1 it gets those and PORT, and nothing else is changed.")]
pub(crate) struct WrapArguments {
    /// Name of the app: a DNS label of at most 24 bytes
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Exactly this instance: join it, or start it. A DNS label of at most 20 bytes
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Start a new instance even if one of this folder is running
    #[arg(long, conflicts_with_all = ["join", "replace"])]
    pub(crate) new: bool,
    /// Join the running instance of this folder, even if the same command is running in it
    #[arg(long)]
    pub(crate) join: bool,
    /// Stop the running instance first
    #[arg(long, conflicts_with = "join")]
    pub(crate) replace: bool,
    /// Refuse connections to loopback ports where the instance has no listener, instead of using the host's.
    /// Default: `isolate = true` or `isolate = [PORT, ...]` in agentfs.toml
    #[arg(long)]
    pub(crate) isolate: bool,
    /// Reach this port of the host even if another fork may be behind it; can be repeated
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = crate::number::port)]
    pub(crate) allow_host: Vec<u16>,
    /// Also open this port on the host, on 127.0.0.1 and ::1; can be repeated
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = crate::number::port, conflicts_with = "no_interpose")]
    pub(crate) expose: Vec<u16>,
    /// Move only these ports into the instance; other ports stay on the host
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = crate::number::port, conflicts_with = "except")]
    pub(crate) only: Vec<u16>,
    /// Keep these ports on the host
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = crate::number::port)]
    pub(crate) except: Vec<u16>,
    /// The port that the instance's host name means; the other ports are at PORT.HOST.
    /// Default: `main = PORT` in agentfs.toml, else the port that serves pages
    #[arg(long, value_name = "PORT", value_parser = crate::number::port)]
    pub(crate) main: Option<u16>,
    /// How the program's calls are reached: `auto` takes the library, and the seccomp engine for programs that load no
    /// library (static programs, Go)
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t, conflicts_with = "no_interpose")]
    pub(crate) engine: crate::engine::Choice,
    /// Leave the program's system calls alone; it must bind `$AGENTFS_SOCKET` or `$PORT` itself
    #[arg(long)]
    pub(crate) no_interpose: bool,
    /// Set `$PORT`, for programs that read it
    #[arg(long, value_name = "PORT", value_parser = crate::number::port)]
    pub(crate) port: Option<u16>,
    /// For `restart`: the name that the checkout gives to its instances, if it named this one
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) stem: Option<String>,
    /// For `restart`: only `--instance` and commands inside the instance join it
    #[arg(long, hide = true)]
    pub(crate) closed: bool,
    /// Forwards to open again, for `restart`.
    #[arg(skip)]
    pub(crate) forwards: Vec<agentfs_wire::control::ForwardParams>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `agentfs name`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs name
  agentfs name --json | jq -r .instance
  agentfs name -- npm run dev    whether this command would be another copy")]
pub(crate) struct NameArguments {
    /// As for `wrap`
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// As for `wrap`
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `agentfs exec`
#[derive(Debug, Args)]
#[command(
    override_usage = "agentfs exec [OPTIONS] [INSTANCE] -- <COMMAND>...",
    after_long_help = "\
Examples:
  agentfs exec -- curl http://localhost:8080             the instance of this folder
  agentfs exec shop/main -- curl http://localhost:8080
  agentfs exec feature-cart.shop -- npx playwright test

The program gets the instance's rules: the --isolate, --only and --except that `wrap` was given.
If agentfs fails before it starts the program, the status is 125 (126: it cannot be executed;
127: it is not found)."
)]
pub(crate) struct ExecArguments {
    /// Refuse connections to loopback ports where the instance has no listener
    #[arg(long)]
    pub(crate) isolate: bool,
    /// How the program's calls are reached, as for `wrap`
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t)]
    pub(crate) engine: crate::engine::Choice,
    /// The instance (APP/INSTANCE, INSTANCE.APP, a URL, or APP for its instance main), `--`, the program and its
    /// arguments; without an instance, that of this folder
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub(crate) words: Vec<OsString>,
}

/// `agentfs ps`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs ps
  agentfs ps --json | jq -r '.[].url'
  agentfs ps --watch")]
pub(crate) struct PsArguments {
    /// Print a JSON array of instances (with --watch, one array per line)
    #[arg(long)]
    pub(crate) json: bool,
    /// Print again whenever something changes
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `agentfs trace`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs trace                          everything from now on
  agentfs trace --app shop --since 5m    also what is kept of the last five minutes
  agentfs trace --requests               the router's requests instead of calls (none are kept)
  agentfs trace -- npm test              one command; its calls go to standard error")]
pub(crate) struct TraceArguments {
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
    /// Show only this app; with a command, the name of the app
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Start this long ago: 10s, 5m, 2h, 1d, 500ms
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) since: Option<Duration>,
    /// Show the router's requests instead of intercepted calls
    #[arg(long)]
    pub(crate) requests: bool,
    /// Wrap this program and show only its calls
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `agentfs prune`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs prune")]
pub(crate) struct PruneArguments {
    /// Print JSON: the files removed, and the files left with the reason
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agentfs trust`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs trust
  agentfs trust --json | jq '.[] | select(.state == \"cannot_be_written\")'
  agentfs trust --undo

Creates a local certificate authority (CA) for this home, once. Installs its certificate in the
stores that it finds: the system's, Chromium's, Firefox's and Java's. The CA can sign only for
names of this machine. From then on URLs begin with https. Run this as yourself: if a step needs
root, it prints the command to run.")]
pub(crate) struct TrustArguments {
    /// Remove the certificate from each store and turn TLS off
    #[arg(long)]
    pub(crate) undo: bool,
    /// Print a JSON array of stores
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agentfs daemon`
#[derive(Debug, Args)]
pub(crate) struct DaemonArguments {
    /// What to do with it.
    #[command(subcommand)]
    pub(crate) action: DaemonAction,
}

/// What `agentfs daemon` does.
#[derive(Debug, Subcommand)]
pub(crate) enum DaemonAction {
    /// Start the collector in the background and wait until it answers
    #[command(after_long_help = "\
Examples:
  agentfs daemon start
  agentfs daemon start --tls
  agentfs daemon start --cert shop.pem --key shop-key.pem

TLS stays on once it is turned on; a running collector turns it on at once. To turn it off, run
`agentfs trust --undo`.")]
    Start(StartArguments),
    /// Stop the collector; wrapped programs keep running
    #[command(after_long_help = "Examples:\n  agentfs daemon stop")]
    Stop,
    /// Show whether the collector is running: exit status 0 if it is, 3 if not
    #[command(after_long_help = "Examples:\n  agentfs daemon status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// macOS: let launchd start the collector at login and open port 80 for it
    #[command(after_long_help = "\
Examples:
  agentfs daemon install
  agentfs daemon install --print

Writes a LaunchAgent to ~/Library/LaunchAgents and loads it with launchctl. agentfs also works
without it: the first command that needs the collector starts it.")]
    Install {
        /// Print the LaunchAgent instead of installing it
        #[arg(long)]
        print: bool,
    },
    /// Undo `daemon install`
    #[command(after_long_help = "Examples:\n  agentfs daemon uninstall")]
    Uninstall,
    /// Run the collector in the foreground
    #[command(after_long_help = "Examples:\n  AGENTFS_LOG=debug agentfs daemon run")]
    Run {
        /// Leave the session of the process that started us, and start a killed collector again
        #[arg(long, hide = true)]
        detached: bool,
        /// Run under the process that started us, which starts us again if we are killed
        #[arg(long, hide = true, conflicts_with = "detached")]
        guarded: bool,
        /// Exit with success if a collector is already running: launchd restarts a job that fails
        #[arg(long, hide = true)]
        by_launchd: bool,
    },
}

/// `agentfs daemon start`
#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// Turn on TLS, with certificates of the local CA
    #[arg(long)]
    pub(crate) tls: bool,
    /// Use this certificate for the names in it (PEM, followed by its chain)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's private key (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// `agentfs names`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs names                say whether the system resolves *.localhost
  agentfs names install        macOS: write /etc/resolver/localhost; asks for your password once
  agentfs names uninstall      remove it

Browsers of the Chromium family, Firefox, curl and wrapped programs resolve *.localhost themselves.
Others ask the system: Safari, psql, Java, Node. macOS does not know these names, and Linux knows them
with systemd-resolved or nss-myhostname. The collector answers for them on 127.0.0.1, UDP port 4253
(AGENTFS_DNS). While no collector is running, such a name is not found.")]
pub(crate) struct NamesArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: Option<NamesAction>,
}

/// What `agentfs names` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum NamesAction {
    /// Tell the system to ask the collector
    Install,
    /// Undo that
    Uninstall,
}

/// `agentfs mac-tools`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs mac-tools sh perl          copy them, sign the copies for this Mac
  agentfs mac-tools                  list the copies
  agentfs mac-tools --remove perl

macOS does not let its own programs load other libraries. A copy is not protected: `agentfs wrap`
and wrapped programs start the copy instead of the original. After an update of macOS, copy the
tool again.")]
pub(crate) struct MacToolsArguments {
    /// Tools: names in the system's own folders, or paths; without any, list the copies
    #[arg(value_name = "TOOL", required_if_eq("remove", "true"))]
    pub(crate) tools: Vec<OsString>,
    /// Remove the copies of these tools
    #[arg(long)]
    pub(crate) remove: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agentfs doctor`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs doctor
  agentfs doctor --json | jq '.[] | select(.ok == false)'
  agentfs doctor --self-test

--self-test starts small programs in a private home below /tmp. They bind, accept and connect as
real programs do. It reports for each promise of agentfs whether it holds on this machine. It
leaves nothing behind and does not use your own collector.")]
pub(crate) struct DoctorArguments {
    /// Print a JSON array of checks
    #[arg(long)]
    pub(crate) json: bool,
    /// Test on this machine everything that agentfs promises
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Seconds after which the self-test gives up
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = crate::number::within::<1, 600>, requires = "self_test")]
    pub(crate) timeout: u64,
    /// Check whether the library was loaded into this process
    #[arg(long, hide = true)]
    pub(crate) loaded: Option<std::path::PathBuf>,
}

/// `agentfs probe`
#[derive(Debug, Args)]
pub(crate) struct ProbeArguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) action: ProbeAction,
}

/// What one of the small programs of the self-test does.
#[derive(Debug, Subcommand)]
pub(crate) enum ProbeAction {
    /// Answer requests on an address until standard input ends
    Serve {
        /// Address to bind.
        address: std::net::SocketAddr,
        /// What to answer.
        text: String,
    },
    /// Connect, ask, and print both addresses and the answer
    Get {
        /// HOST:PORT
        target: String,
    },
    /// Bind an address and print the name of the socket
    Bind {
        /// Address to bind.
        address: std::net::SocketAddr,
    },
    /// Start a server, kill it, check that its port is free
    Restart {
        /// Address to bind.
        address: std::net::SocketAddr,
    },
    /// Run this program again as a child with an empty environment
    Spawn {
        /// Its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Replace this process with this program, with an empty environment
    Replace {
        /// Its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// `agentfs engine-serve`
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineServeArguments {
    /// App of the instance
    #[arg(long)]
    pub(crate) app: String,
    /// The instance
    #[arg(long)]
    pub(crate) instance: String,
}

/// `agentfs engine-run`
#[derive(Clone, Debug, Args)]
pub(crate) struct EngineRunArguments {
    /// The file is `/proc/self/fd/N`, and that descriptor is not for the program
    #[arg(long)]
    pub(crate) closing: bool,
    /// What holds without `--closing`
    #[arg(long, conflicts_with = "closing")]
    pub(crate) keeping: bool,
    /// The file that is executed
    pub(crate) path: PathBuf,
    /// Its arguments, its own name first
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// `agentfs tell`
#[derive(Clone, Debug, Args)]
pub(crate) struct TellArguments {
    /// The process whose exit ends it
    #[arg(long)]
    pub(crate) pid: u32,
    /// Only warnings, and only about what the process started: for `exec`
    #[arg(long)]
    pub(crate) warnings: bool,
}

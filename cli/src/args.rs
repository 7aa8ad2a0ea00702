//! The command line: clap types only, no behaviour.
use clap::{Args, Parser, Subcommand, ValueEnum};
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
  agentfs exec shop/k3f9 -- curl localhost:8080  a client in that localhost
  agentfs ps                                     what runs, under which URL

An instance is named APP/INSTANCE; INSTANCE.APP (the host form) and, where only one lives, APP mean it too.

Exit status:
  0 done   1 failed   2 wrong command line   3 no such app, instance, route or collector
  125 agentfs failed before the program was started   126 the program cannot be executed
  127 there is no such program   else the wrapped program's own"
)]
pub(crate) struct Arguments {
    /// Say more on standard error, also when it is no terminal
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Say nothing on standard error but why it failed
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
    /// Run a program in the localhost of a running instance
    Exec(ExecArguments),
    /// List what runs: app, instance, address, URL, process, age, requests and their rate
    Ps(PsArguments),
    /// Show what wrapped programs bind, accept and connect, or what is requested of them, live
    Trace(TraceArguments),
    /// Give a name to a socket, a port or an instance by hand
    Route(RouteArguments),
    /// Open a port of an instance to raw TCP, or all of them on an address of its own
    Forward(ForwardArguments),
    /// End instances: terminate, wait, kill
    Stop(StopArguments),
    /// Remove what dead instances left behind
    Prune(PruneArguments),
    /// Start, stop or ask the collector
    Daemon(DaemonArguments),
    /// Have browsers and other programs trust the https URLs, and switch them on
    Trust(TrustArguments),
    /// macOS: copy a protected tool, so that it can be wrapped
    MacTools(MacToolsArguments),
    /// Check what agentfs needs
    Doctor(DoctorArguments),
    /// Be one of the small programs of `doctor --self-test`
    #[command(hide = true)]
    Probe(ProbeArguments),
    /// Say where a wrapped program listens; for `wrap`
    #[command(hide = true)]
    Tell(TellArguments),
}

/// `agentfs wrap`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs wrap -- python3 -m http.server 8080
  agentfs wrap --app shop --instance blue -- npm run dev

The program's exit status, signals, terminal and standard streams are its own. The app is named by --app,
else by agentfs.toml, package.json, Cargo.toml or pyproject.toml, else by the folder of the git checkout,
else by the program; the instance by --instance, else by the branch of a linked worktree, else at random.
The program finds AGENTFS_SOCKET, AGENTFS_URL, AGENTFS_HOSTNAME, AGENTFS_APP and AGENTFS_INSTANCE in its
environment. With AGENTFS_NO_INTERPOSE=1, or --no-interpose, it gets those and PORT, and nothing else.")]
pub(crate) struct WrapArguments {
    /// Name of the app: a DNS label of at most 24 bytes
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Name of the instance: a DNS label of at most 20 bytes
    #[arg(long, value_name = "NAME")]
    pub(crate) instance: Option<String>,
    /// Refuse connections to loopback ports on which the instance has no listener, instead of reaching the host's
    #[arg(long)]
    pub(crate) isolate: bool,
    /// Keep one port reachable on the host as well, on 127.0.0.1 and ::1; may be given several times
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "no_interpose")]
    pub(crate) expose: Vec<u16>,
    /// Take only these ports into the instance; the others stay the host's
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "except")]
    pub(crate) only: Vec<u16>,
    /// Leave these ports with the host
    #[arg(long, value_name = "PORT", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) except: Vec<u16>,
    /// Leave the program's system calls alone: it has to bind `$AGENTFS_SOCKET` or `$PORT` itself
    #[arg(long)]
    pub(crate) no_interpose: bool,
    /// Set `$PORT`, for programs that want to be told
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `agentfs exec`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs exec shop/k3f9 -- curl http://localhost:8080
  agentfs exec feature-cart.shop -- npx playwright test

The program goes by what the instance was wrapped with: --isolate, --only, --except.")]
pub(crate) struct ExecArguments {
    /// The instance: APP/INSTANCE, INSTANCE.APP, or APP where only one lives
    #[arg(value_name = "INSTANCE")]
    pub(crate) instance: String,
    /// Refuse connections to loopback ports on which the instance has no listener
    #[arg(long)]
    pub(crate) isolate: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `agentfs ps`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs ps
  agentfs ps --json | jq -r '.[].url'
  agentfs ps --watch")]
pub(crate) struct PsArguments {
    /// Print a JSON array of instances (with --watch one array a line)
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
  agentfs trace                          everything, from here on
  agentfs trace --app shop --since 5m    what was kept of the last five minutes too
  agentfs trace --requests               requests of the router instead of calls (none are kept)
  agentfs trace -- npm test              one command: its calls on standard error, its exit status")]
pub(crate) struct TraceArguments {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Only this app; with a command: the app's name
    #[arg(long, value_name = "NAME")]
    pub(crate) app: Option<String>,
    /// Begin this long ago: 10s, 5m, 2h, 1d, 500ms
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    pub(crate) since: Option<Duration>,
    /// Show the router's requests instead of intercepted calls
    #[arg(long)]
    pub(crate) requests: bool,
    /// Wrap this program and show its calls alone
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `agentfs route`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs route myapp.localhost ./app.sock      a socket
  agentfs route db.localhost 127.0.0.1:8081     a port of the host
  agentfs route preview.localhost shop/k3f9     an instance
  agentfs route shop shop --replace --policy least-connections
  agentfs route shop shop --replace --handoff
  agentfs route notes 127.0.0.1:8888 --rewrite-host    Jupyter, which accepts only `localhost`
  agentfs route --list
  agentfs route --remove myapp.localhost

With --handoff the router looks at the first request of each plain HTTP/1 connection, and when that is
for this name, the app's accept returns the client's own connection: nothing is between them from then
on. So a later request on the same connection that names another host is answered by this app, too
(browsers send none; HTTP clients and proxies that reuse a connection for several hosts do), and the
app sees the router's port as its own. None of it is in the access log or the counters, no limit of
the router holds, and X-Forwarded-For is not set. TLS, HTTP/2, and apps that do not take the connection
go through the router as without the option.

With --rewrite-host the app is asked for `localhost:PORT` instead of NAME. Origin and Referer headers that
name the route name localhost too. Location, Content-Location, Refresh, the domain of cookies and
Access-Control-Allow-Origin are rewritten back. Bodies are not. Use it for apps that refuse other hosts:
Jupyter, node --inspect, Vite's allowedHosts.")]
pub(crate) struct RouteArguments {
    /// Host name; `.localhost` is added to a name without a dot
    #[arg(required_unless_present_any = ["list", "remove"])]
    pub(crate) name: Option<String>,
    /// Path of a socket, HOST:PORT on loopback, or APP/INSTANCE
    #[arg(required_unless_present_any = ["list", "remove"])]
    pub(crate) target: Option<String>,
    /// Let sub-domains without a route of their own lead there too
    #[arg(long)]
    pub(crate) wildcard: bool,
    /// Replace a route of that name
    #[arg(long)]
    pub(crate) replace: bool,
    /// How to choose between replicas and workers: in turn, the least busy, or the first that answers
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = PolicyArgument::RoundRobin)]
    pub(crate) policy: PolicyArgument,
    /// Hand client connections into the app by their first request; later ones with another host go there too
    #[arg(long)]
    pub(crate) handoff: bool,
    /// Ask the app for `localhost:PORT` instead of NAME, for apps that accept only that
    #[arg(long, conflicts_with = "handoff")]
    pub(crate) rewrite_host: bool,
    /// List the routes that were added by hand
    #[arg(long, conflicts_with_all = ["name", "remove"])]
    pub(crate) list: bool,
    /// Remove a route
    #[arg(long, value_name = "NAME", conflicts_with = "name")]
    pub(crate) remove: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a route chooses between several listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PolicyArgument {
    /// In turn
    RoundRobin,
    /// The one with the fewest requests and connections in progress
    LeastConnections,
    /// The oldest that answers
    First,
}

/// `agentfs forward`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs forward shop/k3f9:5432           a free port of 127.0.0.1, which is printed
  agentfs forward shop/k3f9:5432 15432     this port
  agentfs forward shop/k3f9                every port, on an address in 127/8 that is the instance's own
  agentfs forward --list
  agentfs forward --remove 127.0.0.1:15432

A forward ends with its instance. The app sees the client's own address.")]
pub(crate) struct ForwardArguments {
    /// The instance and its port, APP/INSTANCE:PORT; without a port, all of them
    #[arg(value_name = "INSTANCE[:PORT]", required_unless_present_any = ["list", "remove"])]
    pub(crate) target: Option<String>,
    /// Port of 127.0.0.1, or ADDRESS:PORT, to listen on
    #[arg(value_name = "LISTEN")]
    pub(crate) listen: Option<String>,
    /// Hand connections into the program also where LISTEN has another port, which the program then sees
    #[arg(long, conflicts_with = "proxy")]
    pub(crate) handoff: bool,
    /// Hand no connection over; pass the bytes
    #[arg(long)]
    pub(crate) proxy: bool,
    /// List the forwards
    #[arg(long, conflicts_with_all = ["target", "remove"])]
    pub(crate) list: bool,
    /// Remove the forward that listens there
    #[arg(long, value_name = "LISTEN", conflicts_with = "target")]
    pub(crate) remove: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `agentfs stop`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs stop shop/k3f9     one instance
  agentfs stop shop          every instance of an app
  agentfs stop --all --timeout 2

The URLs lead there no more, requests in progress may end for half of the time, then processes get
SIGTERM, and SIGKILL when the time is over.")]
pub(crate) struct StopArguments {
    /// APP/INSTANCE, INSTANCE.APP, or APP for all of its instances
    #[arg(value_name = "INSTANCE", required_unless_present = "all")]
    pub(crate) instances: Vec<String>,
    /// Seconds to wait before killing
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) timeout: u64,
    /// Stop every instance
    #[arg(long, conflicts_with = "instances")]
    pub(crate) all: bool,
}

/// `agentfs prune`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs prune")]
pub(crate) struct PruneArguments {
    /// Print JSON: files removed, files left with the reason
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

Makes a certificate authority of this home's own, once, and puts its certificate into the stores that it
finds: the system's, those of Chromium and Firefox, Java's. It may sign for names of this machine only. Run it
as yourself: where root is needed, it says which command to run. From then on URLs begin with https.")]
pub(crate) struct TrustArguments {
    /// Take the certificate out of each store again, and switch TLS off
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

TLS stays on once it was switched on; a collector that runs already takes it up. `agentfs trust --undo` switches
it off.")]
    Start(StartArguments),
    /// Stop the collector; wrapped programs run on
    #[command(after_long_help = "Examples:\n  agentfs daemon stop")]
    Stop,
    /// Tell whether the collector runs: exit status 0 if it does, 3 if not
    #[command(after_long_help = "Examples:\n  agentfs daemon status --json")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the system start the collector at login, and open port 80 for it (macOS)
    #[command(after_long_help = "\
Examples:
  agentfs daemon install
  agentfs daemon install --print

Writes a LaunchAgent to ~/Library/LaunchAgents and loads it with launchctl. Nothing has to be installed for agentfs
to work: the collector starts by itself with the first command that needs it.")]
    Install {
        /// Write the LaunchAgent to standard output instead
        #[arg(long)]
        print: bool,
    },
    /// Undo `daemon install`
    #[command(after_long_help = "Examples:\n  agentfs daemon uninstall")]
    Uninstall,
    /// Be the collector, in the foreground
    #[command(after_long_help = "Examples:\n  AGENTFS_LOG=debug agentfs daemon run")]
    Run {
        /// Leave the session of whoever started us
        #[arg(long, hide = true)]
        detached: bool,
        /// End quietly where there is a collector already: launchd starts what failed again and again
        #[arg(long, hide = true)]
        by_launchd: bool,
    },
}

/// `agentfs daemon start`
#[derive(Debug, Args)]
pub(crate) struct StartArguments {
    /// Speak TLS from here on, with certificates of the local authority
    #[arg(long)]
    pub(crate) tls: bool,
    /// Speak TLS with this certificate for the names in it (PEM, its chain behind it)
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's private key (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

/// `agentfs mac-tools`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs mac-tools sh perl          copy them, sign the copies for this Mac
  agentfs mac-tools                  list the copies
  agentfs mac-tools --remove perl

macOS lets no library into its own programs. A copy is not protected; `agentfs wrap` starts it in the place of
the original, and so do wrapped programs. An update of macOS makes a copy old; then copy it again.")]
pub(crate) struct MacToolsArguments {
    /// Tools: names in the system's own folders, or paths; without any, the copies are listed
    #[arg(value_name = "TOOL", required_if_eq("remove", "true"))]
    pub(crate) tools: Vec<OsString>,
    /// Remove their copies
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

--self-test starts small programs in a private home below /tmp, has them bind, accept and connect as real ones do,
and says of each promise whether it holds here. It leaves nothing behind and asks nothing of your own collector.")]
pub(crate) struct DoctorArguments {
    /// Print a JSON array of checks
    #[arg(long)]
    pub(crate) json: bool,
    /// Try everything that agentfs promises, here and now
    #[arg(long)]
    pub(crate) self_test: bool,
    /// Seconds after which the self-test gives up
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600), requires = "self_test")]
    pub(crate) timeout: u64,
    /// Tell whether the library was loaded into this process
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
    /// Bind an address and print what it is called then
    Bind {
        /// Address to bind.
        address: std::net::SocketAddr,
    },
    /// Start a server, kill it, find its port free
    Restart {
        /// Address to bind.
        address: std::net::SocketAddr,
    },
    /// Run this program anew with an empty environment, as a child
    Spawn {
        /// Its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Become this program anew, with an empty environment
    Replace {
        /// Its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// `agentfs tell`
#[derive(Debug, Args)]
pub(crate) struct TellArguments {
    /// App of the instance
    #[arg(long)]
    pub(crate) app: String,
    /// The instance
    #[arg(long)]
    pub(crate) instance: String,
    /// Process with which it ends
    #[arg(long)]
    pub(crate) pid: u32,
    /// Unix time in milliseconds when the instance was started
    #[arg(long)]
    pub(crate) started_ms: u64,
    /// The router's port
    #[arg(long)]
    pub(crate) http_port: u16,
    /// The router's port for TLS, where that is on
    #[arg(long)]
    pub(crate) https_port: Option<u16>,
    /// Whether the instance is a fork
    #[arg(long)]
    pub(crate) fork: bool,
    /// Be the process that tells, not the one that starts it
    #[arg(long)]
    pub(crate) detached: bool,
}

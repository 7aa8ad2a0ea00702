//! The command lines of `route` and `forward`: names and ports by hand.
use clap::{Args, Subcommand, ValueEnum};

/// `agentfs route`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs route myapp.localhost ./app.sock      a socket
  agentfs route db.localhost 127.0.0.1:8081     a port of the host
  agentfs route preview.localhost shop/main     an instance
  agentfs route shop shop --replace --policy least-connections
  agentfs route shop shop --replace --handoff
  agentfs route notes 127.0.0.1:8888 --rewrite-host    Jupyter, which accepts only `localhost`
  agentfs route list
  agentfs route remove myapp.localhost

With --handoff the router looks at the first request of each plain HTTP/1 connection. If it is for
this name, the app's accept returns the client's own connection. From then on:
- the router does not see the connection: no access log, counters, limits or X-Forwarded-For
- this app also answers later requests on the connection that name another host (browsers send
  none; HTTP clients and proxies that reuse a connection for several hosts do)
- the app sees the router's port as its own
TLS, HTTP/2, and apps that do not take the connection go through the router, as without --handoff.

With --rewrite-host the router asks the app for `localhost:PORT` instead of NAME:
- Origin and Referer headers that name the route name localhost too
- in answers, Location, Content-Location, Refresh, the domain of cookies and
  Access-Control-Allow-Origin name the route again; bodies do not change
Use it for apps that refuse other hosts: Jupyter, node --inspect, Vite's allowedHosts.")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RouteArguments {
    /// List or remove routes.
    #[command(subcommand)]
    pub(crate) action: Option<RouteAction>,
    /// Host name; `.localhost` is added to a name without a dot
    #[arg(required_unless_present_any = ["list", "remove"])]
    pub(crate) name: Option<String>,
    /// Path of a socket, HOST:PORT on loopback, APP/INSTANCE, or a URL of an instance
    #[arg(required_unless_present_any = ["list", "remove"])]
    pub(crate) target: Option<String>,
    /// Also route subdomains that have no route of their own
    #[arg(long)]
    pub(crate) wildcard: bool,
    /// Replace an existing route of this name
    #[arg(long)]
    pub(crate) replace: bool,
    /// How to choose between replicas and workers
    #[arg(long, value_name = "POLICY", value_enum, default_value_t = PolicyArgument::RoundRobin)]
    pub(crate) policy: PolicyArgument,
    /// Hand each client connection to the app that its first request names; later requests go there too
    #[arg(long)]
    pub(crate) handoff: bool,
    /// Ask the app for `localhost:PORT` instead of NAME, for apps that accept only localhost
    #[arg(long, conflicts_with = "handoff")]
    pub(crate) rewrite_host: bool,
    /// As `route list`
    #[arg(long, hide = true, conflicts_with_all = ["name", "remove"])]
    pub(crate) list: bool,
    /// As `route remove NAME`
    #[arg(long, hide = true, value_name = "NAME", conflicts_with = "name")]
    pub(crate) remove: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What else `agentfs route` does.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteAction {
    /// List the routes that were added with this command
    #[command(after_long_help = "Examples:\n  agentfs route list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a route
    #[command(after_long_help = "Examples:\n  agentfs route remove myapp.localhost")]
    Remove {
        /// Its host name
        #[arg(value_name = "NAME")]
        name: String,
    },
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
  agentfs forward :5432 15432              port 5432 of the instance of this folder
  agentfs forward shop/main:5432           a free port of 127.0.0.1; it is printed
  agentfs forward shop/main:5432 15432     this port
  agentfs forward shop/main                every port, on the instance's own address in 127/8
  agentfs forward list
  agentfs forward remove 15432

A forward ends with its instance. It outlives the collector: the next one opens it again. A forward
that is there already is a success. The app sees the client's own address.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ForwardArguments {
    /// List or remove forwards.
    #[command(subcommand)]
    pub(crate) action: Option<ForwardAction>,
    /// The instance and its port: INSTANCE:PORT, or :PORT for the instance of this folder; without a port, all ports
    #[arg(value_name = "INSTANCE[:PORT]")]
    pub(crate) target: Option<String>,
    /// Where to listen: a port of 127.0.0.1, or ADDRESS:PORT
    #[arg(value_name = "LISTEN")]
    pub(crate) listen: Option<String>,
    /// Allow other machines: LISTEN may be an address that they can reach, such as 0.0.0.0
    #[arg(long, requires = "listen")]
    pub(crate) lan: bool,
    /// Hand connections to the program even if LISTEN has another port (the program then sees that port)
    #[arg(long, conflicts_with = "proxy")]
    pub(crate) handoff: bool,
    /// Copy the bytes instead of handing connections over
    #[arg(long)]
    pub(crate) proxy: bool,
    /// As `forward list`
    #[arg(long, hide = true, conflicts_with_all = ["target", "remove"])]
    pub(crate) list: bool,
    /// As `forward remove LISTEN`
    #[arg(long, hide = true, value_name = "LISTEN", conflicts_with = "target")]
    pub(crate) remove: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What else `agentfs forward` does.
#[derive(Debug, Subcommand)]
pub(crate) enum ForwardAction {
    /// List the forwards
    #[command(after_long_help = "Examples:\n  agentfs forward list --json")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove the forward that listens on this port of 127.0.0.1 or this address
    #[command(after_long_help = "Examples:\n  agentfs forward remove 15432")]
    Remove {
        /// As `forward list` shows it, or only its port
        #[arg(value_name = "LISTEN")]
        listen: String,
    },
}

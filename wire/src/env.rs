//! Every environment variable that agentfs reads or sets. Nobody else spells them out.

/// Folder of agentfs: run dir, control socket, unpacked interposer. Default `~/.agentfs`.
pub const HOME: &str = "AGENTFS_HOME";
/// Absolute path of the run dir that a wrapped process uses. Set by `wrap`; its parent folder has the
/// notice socket and the trace page.
pub const RUN: &str = "AGENTFS_RUN";
/// Name of the app that a wrapped process belongs to.
pub const APP: &str = "AGENTFS_APP";
/// Name of the instance that a wrapped process belongs to.
pub const INSTANCE: &str = "AGENTFS_INSTANCE";
/// Proof that a process belongs to its instance: 32 hexadecimal digits, set by `wrap` and `exec` for programs of root,
/// which can change their user. Root's collector requires it before it opens a socket for them. Keep it secret.
pub const SECRET: &str = "AGENTFS_SECRET";
/// Process that `wrap` or `exec` became, which started this one: refused connects are told to whoever runs it.
pub const COMMAND: &str = "AGENTFS_COMMAND";
/// Path that a cooperative program may bind as its main listener.
pub const SOCKET: &str = "AGENTFS_SOCKET";
/// URL under which the instance's main listener is reached.
pub const URL: &str = "AGENTFS_URL";
/// Host name part of [`URL`].
pub const HOSTNAME: &str = "AGENTFS_HOSTNAME";
/// Absolute path of the unpacked interposer, so that exec hooks can put it back.
pub const INTERPOSE: &str = "AGENTFS_INTERPOSE";
/// Linux: how programs that the library does not reach are served. An absolute path: that program starts them with a
/// filter. `active`: they have one already, which every child inherits. Absent: they are not served.
pub const ENGINE: &str = "AGENTFS_ENGINE";
/// Value of [`ENGINE`] where the filter is installed.
pub const ENGINE_ACTIVE: &str = "active";
/// `1`: `wrap` starts the program without any interposition; an exec hook leaves such a child alone.
pub const NO_INTERPOSE: &str = "AGENTFS_NO_INTERPOSE";
/// macOS: path of a shell that is started in the place of the system's shells of its kind, which no library can
/// be loaded into.
pub const SHELL: &str = "AGENTFS_SHELL";
/// Folder whose programs count as those that macOS protects, for tests on Linux. Only debug builds read it.
pub const STAND_INS: &str = "AGENTFS_STAND_INS";
/// The shell that npm runs scripts with (npm-config(7), `script-shell`); the second choice after [`SHELL`].
pub const NPM_SHELL: &str = "npm_config_script_shell";
/// `1`: loopback ports without a listener of the instance are refused instead of reaching the host. Ports (comma
/// separated): only these are refused.
pub const ISOLATE: &str = "AGENTFS_ISOLATE";
/// Ports (comma separated) that alone are rewritten.
pub const ONLY: &str = "AGENTFS_ONLY";
/// Ports (comma separated) that are never rewritten.
pub const EXCEPT: &str = "AGENTFS_EXCEPT";
/// Ports (comma separated) of the host that are reached even where another fork may be behind them.
pub const ALLOW_HOST: &str = "AGENTFS_ALLOW_HOST";
/// Ports (comma separated) whose listeners stay reachable on real TCP as well.
pub const EXPOSE: &str = "AGENTFS_EXPOSE";
/// `1`: commands write nothing to standard error except why they failed, as with `--quiet`. Instances pass it on.
pub const QUIET: &str = "AGENTFS_QUIET";
/// Log filter of the collector: `error`, `warn`, `info` or `debug`.
pub const LOG: &str = "AGENTFS_LOG";
/// Address on which the router listens instead of the default ones, as `127.0.0.1:PORT`.
pub const ROUTER: &str = "AGENTFS_ROUTER";
/// Address on which the router speaks TLS instead of the default ones, as `127.0.0.1:PORT`.
pub const ROUTER_TLS: &str = "AGENTFS_ROUTER_TLS";
/// Threads that the collector's router works in, instead of one or two.
pub const ROUTER_THREADS: &str = "AGENTFS_ROUTER_THREADS";
/// Address on which the collector answers questions about names under `localhost`, as `127.0.0.1:PORT`. Default:
/// 127.0.0.1 and [`crate::dns::PORT`].
pub const DNS: &str = "AGENTFS_DNS";
/// Folder that `agentfs trust` takes for `/` when it looks for the system's trust stores and their tools:
/// for images that are being built.
pub const TRUST_ROOT: &str = "AGENTFS_TRUST_ROOT";
/// Linux's list of libraries to load first (ld.so(8)).
pub const LD_PRELOAD: &str = "LD_PRELOAD";
/// macOS's list of libraries to load first (dyld(1)).
pub const DYLD_INSERT_LIBRARIES: &str = "DYLD_INSERT_LIBRARIES";
/// Options of AddressSanitizer (gcc's and clang's `-fsanitize=address`), divided by colons.
pub const ASAN_OPTIONS: &str = "ASAN_OPTIONS";
/// The option that lets a program of AddressSanitizer run with a library loaded before the sanitizer's own.
pub const ASAN_ANY_ORDER: &str = "verify_asan_link_order=0";
/// Port that a program is asked to use; left alone unless interposition is off or `--port` was given.
pub const PORT: &str = "PORT";

//! The command lines of commands about instances that run: `stop`, `restart`, `url`, `wait` and `who`.
use clap::Args;
use std::time::Duration;

/// `agentfs stop`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs stop               the instance of this folder
  agentfs stop shop/main     one instance
  agentfs stop shop          every instance of an app
  agentfs stop --all --timeout 2

Stopping an instance takes these steps:
1. The router sends it no more requests.
2. Requests in progress get half of the timeout to finish.
3. Its processes get SIGTERM.
4. Processes that are still running at the timeout get SIGKILL; a message names each.
It returns when no process, listener or name of the instance is left. If something cannot be
stopped, the status is 1 and the message names it.")]
pub(crate) struct StopArguments {
    /// APP/INSTANCE, INSTANCE.APP, a URL, or APP for all of its instances; without any, the instance of this folder
    #[arg(value_name = "INSTANCE")]
    pub(crate) instances: Vec<String>,
    /// Seconds to wait before SIGKILL
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = crate::number::within::<0, 86_400>)]
    pub(crate) timeout: u64,
    /// Stop every instance
    #[arg(long, conflicts_with = "instances")]
    pub(crate) all: bool,
}

/// `agentfs restart`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs restart               the instance of this folder
  agentfs restart shop/blue

Stops the instance as `agentfs stop` does. Then starts its commands again that were running: in the
same order, each in its own folder, with the same name, --isolate, --allow-host, --only, --except,
--main, --port and forwards, and with the environment of this command. It prints what it starts. It
becomes the program if there is one. Several share this terminal; it ends with the last of them, and
its status is that of the first that failed. If a program or a folder cannot be found, nothing is
stopped.")]
pub(crate) struct RestartArguments {
    /// APP/INSTANCE, INSTANCE.APP, a URL, or APP for its instance main; without it, the instance of this folder
    #[arg(value_name = "INSTANCE")]
    pub(crate) instance: Option<String>,
    /// Seconds to wait before SIGKILL
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = crate::number::within::<0, 86_400>)]
    pub(crate) timeout: u64,
}

/// `agentfs url`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs url                        the instance of this folder
  agentfs url shop/blue --port 3000
  curl $(agentfs url)/health

If the instance has several listeners, the URL is that of its main one; a message lists the others.
The status is 3 if the instance or the listener is not found, and 1 if no router listens.")]
pub(crate) struct UrlArguments {
    /// APP/INSTANCE, INSTANCE.APP, a URL, or APP for its instance main; without it, the instance of this folder
    #[arg(value_name = "INSTANCE")]
    pub(crate) instance: Option<String>,
    /// The listener on this port
    #[arg(long, value_name = "PORT", value_parser = crate::number::port)]
    pub(crate) port: Option<u16>,
}

/// `agentfs wait`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs wait                                    the instance of this folder has a listener
  agentfs wait shop/blue --port 5432 --timeout 30s
  agentfs wait --http /health && npx playwright test

The instance may start later: wait also waits for that. The status is 0 as soon as it is reachable,
and 124 if that did not happen in time; the message says what was missing. With --http, reachable
means that a GET of PATH is answered with a status from 200 to 399.")]
pub(crate) struct WaitArguments {
    /// APP/INSTANCE, INSTANCE.APP, a URL, or APP for its instance main; without it, the instance of this folder
    #[arg(value_name = "INSTANCE")]
    pub(crate) instance: Option<String>,
    /// Wait for the listener on this port
    #[arg(long, value_name = "PORT", value_parser = crate::number::port)]
    pub(crate) port: Option<u16>,
    /// Wait until a GET of this path is answered with success
    #[arg(long, value_name = "PATH")]
    pub(crate) http: Option<String>,
    /// Give up after this time: 30, 30s, 500ms, 5m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = crate::duration::parse)]
    pub(crate) timeout: Duration,
}

/// `agentfs who`
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentfs who 3000                                 localhost:3000, as seen from here
  agentfs who http://blue.shop.localhost:4280/
  agentfs exec shop/blue -- agentfs who 3000       the same port, as seen in that instance
  agentfs who                                      every listener of the instance of this folder

Says also when the process is not wrapped, with its folder. In an instance it says what a connection
would reach: the instance's own listener, the host's program, or nothing because it is refused, and
why. At a host name it is the router's choice: at APP.localhost that is never a fork. The status is 3
if nobody answers.")]
pub(crate) struct WhoArguments {
    /// A port of localhost, ADDRESS:PORT, or a URL
    #[arg(value_name = "PORT|URL")]
    pub(crate) place: Option<String>,
    /// Print a JSON array of what answers
    #[arg(long)]
    pub(crate) json: bool,
}

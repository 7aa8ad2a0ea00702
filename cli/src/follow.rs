//! Tells on standard error what a wrapped program does, while it runs: its listeners with their URLs, or
//! every intercepted call. One thread on its own subscription; the program never waits for it.
use crate::autostart::PATIENCE;
use crate::client::{Client, Events, Next};
use crate::display;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::supervise;
use agentfs_wire::control::SubscribeParams;
use agentfs_wire::event::{Event, EventKind};
use agentfs_wire::url::UrlStyle;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the last events of an instance may take after its end.
const LAST_EVENTS: Duration = Duration::from_millis(300);

/// How often the thread looks whether the program has ended.
const LOOK: Duration = Duration::from_millis(50);

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Nothing.
    Nothing,
    /// Listeners and their URLs.
    Listeners,
    /// Every call, as text or as JSON.
    Trace {
        /// As JSON.
        json: bool,
        /// Every request of the router instead of the calls.
        requests: bool,
    },
}

/// The thread that tells.
#[derive(Debug)]
pub(crate) struct Follower {
    thread: JoinHandle<()>,
    /// Whether the program has ended.
    ended: Arc<AtomicBool>,
    tell: Tell,
    /// The subscription's connection.
    connection: UnixStream,
}

/// How it is told.
#[derive(Clone, Debug)]
struct View {
    printer: Printer,
    tell: Tell,
    /// How URLs are written.
    urls: UrlStyle,
    /// Folder that is written `~`.
    user_home: Option<PathBuf>,
    /// Whether the instance is a fork, which only its own name means for good: the app's is its only until
    /// the main checkout runs.
    fork: bool,
}

// === impl Follower ===

impl Follower {
    /// Subscribes, so that no event of a program started from here on is missed, and tells on.
    ///
    /// # Errors
    /// Where the collector refuses the subscription.
    pub(crate) fn start(
        settings: &Settings,
        printer: Printer,
        tell: Tell,
        app: &str,
        instance: &str,
        urls: UrlStyle,
        fork: bool,
    ) -> Result<Self, Failure> {
        let params = SubscribeParams {
            app: Some(app.to_owned()),
            instance: Some(instance.to_owned()),
            calls: matches!(tell, Tell::Trace { requests: false, .. }),
            requests: matches!(tell, Tell::Trace { requests: true, .. }),
            ..SubscribeParams::default()
        };
        let events = Client::connect_within(&settings.paths, PATIENCE)
            .map_err(|error| Failure::of(format_args!("cannot follow the program: {error}")))?
            .subscribe(&params)?;
        let connection = events.handle().map_err(|error| Failure::of(&error))?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let view = View { printer, tell, urls, user_home: settings.user_home.clone(), fork };
        let held = supervise::hold().map_err(|error| Failure::of(&error))?;
        let thread = std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(move || follow(events, &view, &seen))
            .map_err(|error| Failure::of(format_args!("cannot start a thread: {error}")))?;
        drop(held);
        Ok(Self { thread, ended, tell, connection })
    }

    /// Says that the program has ended. Called before the collector is told, so that the end of the
    /// instance is the last event that is waited for.
    pub(crate) fn ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Tells the last events of a program that has ended; calls may take a moment to arrive.
    pub(crate) fn finish(self) {
        if !matches!(self.tell, Tell::Trace { .. }) {
            // Fails only where the collector has closed it already.
            let _ = self.connection.shutdown(Shutdown::Both);
        }
        // A panic in there has been printed; the program's status matters more.
        let _ = self.thread.join();
    }
}

fn follow(mut events: Events, view: &View, ended: &AtomicBool) {
    let mut deadline = None;
    loop {
        match events.next(Some(LOOK)) {
            Ok(Next::Event(event)) => {
                view.say(&event);
                if event.kind == EventKind::InstanceEnded && ended.load(Ordering::Acquire) {
                    return;
                }
            }
            Ok(Next::Quiet) => {}
            // Without a collector there is nothing to tell; the program runs on.
            Ok(Next::Closed) | Err(_) => return,
        }
        if ended.load(Ordering::Acquire) {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + LAST_EVENTS);
            if Instant::now() > deadline {
                return;
            }
        }
    }
}

// === impl View ===

impl View {
    fn say(&self, event: &Event) {
        match self.tell {
            Tell::Nothing => {}
            Tell::Listeners => {
                if let Some(line) =
                    display::listener_line(event, self.urls, self.user_home.as_deref(), self.fork)
                {
                    self.printer.say(&line);
                }
            }
            Tell::Trace { requests: true, .. } if event.kind == EventKind::Call => {}
            Tell::Trace { json: false, .. } => self.printer.raw(&format!("{}\n", display::trace_line(event))),
            Tell::Trace { json: true, .. } => {
                if let Ok(line) = serde_json::to_string(event) {
                    self.printer.raw(&format!("{line}\n"));
                }
            }
        }
    }
}

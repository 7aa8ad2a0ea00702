//! Reports on standard error what a wrapped program does, while it runs. For `trace -- COMMAND` a thread of
//! the waiting process prints every intercepted call. For `wrap` a separate process (`commands/tell.rs`)
//! prints the listeners with their URLs, because `wrap` itself becomes the program. The program never waits
//! for either.
use crate::autostart::PATIENCE;
use crate::client::{Client, Events, Next};
use crate::display;
use crate::hint::Failure;
use crate::ours::Ours;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::supervise;
use agentfs_wire::control::SubscribeParams;
use agentfs_wire::event::{Event, EventKind};
use agentfs_wire::url::UrlStyle;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the last events of an instance may take after its program's end: the collector removes files first, which
/// takes as long as the disk does.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// How often the thread checks whether the program has ended.
const LOOK: Duration = Duration::from_millis(50);

/// What is reported.
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

/// The thread that reports.
#[derive(Debug)]
pub(crate) struct Follower {
    thread: JoinHandle<()>,
    /// Whether the program has ended.
    ended: Arc<AtomicBool>,
}

/// What is followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Followed<'a> {
    /// App.
    pub(crate) app: &'a str,
    /// Instance.
    pub(crate) instance: &'a str,
    /// How URLs are written.
    pub(crate) urls: UrlStyle,
}

/// How it is shown.
#[derive(Clone, Debug)]
pub(crate) struct View {
    printer: Printer,
    tell: Tell,
    /// How URLs are written.
    urls: UrlStyle,
    /// Folder that is shown as `~`.
    user_home: Option<PathBuf>,
}

// === impl Follower ===

impl Follower {
    /// Subscribes and starts to report. No event of a program that starts after this call is missed.
    ///
    /// # Errors
    /// The collector refuses the subscription.
    pub(crate) fn start(
        settings: &Settings,
        printer: Printer,
        tell: Tell,
        followed: Followed<'_>,
    ) -> Result<Self, Failure> {
        let events = subscribe(settings, tell, followed, Begin::Now)?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let view = View::new(settings, printer, tell, followed);
        let (app, instance) = (followed.app.to_owned(), followed.instance.to_owned());
        let mut ours = Ours::new(settings.paths.clone(), app, instance, std::process::id());
        let held = supervise::hold().map_err(|error| Failure::of(&error))?;
        let thread = std::thread::Builder::new()
            .name("follow".to_owned())
            .spawn(move || follow(events, &view, &mut ours, &seen))
            .map_err(|error| Failure::of(format_args!("cannot start a thread: {error}")))?;
        drop(held);
        Ok(Self { thread, ended })
    }

    /// Notes that the program has ended. Called before the collector hears of it, so that the end of the
    /// instance is the last event to wait for.
    pub(crate) fn ended(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Reports the last events of a program that has ended; they may take a moment to arrive.
    pub(crate) fn finish(self) {
        // A panic of the thread is already printed; the program's status matters more.
        let _ = self.thread.join();
    }
}

/// Which events a subscription begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The next new one.
    Now,
    /// The first since a time (Unix milliseconds).
    Since(u64),
    /// The one after this number.
    After(u64),
}

/// Subscribes to the events of an instance.
///
/// # Errors
/// The collector does not answer, or refuses.
pub(crate) fn subscribe(
    settings: &Settings,
    tell: Tell,
    followed: Followed<'_>,
    begin: Begin,
) -> Result<Events, Failure> {
    let (since_ms, after) = match begin {
        Begin::Now => (None, None),
        Begin::Since(time) => (Some(time), None),
        Begin::After(sequence) => (None, Some(sequence)),
    };
    let params = SubscribeParams {
        since_ms,
        after,
        app: Some(followed.app.to_owned()),
        instance: Some(followed.instance.to_owned()),
        calls: matches!(tell, Tell::Trace { requests: false, .. }),
        requests: matches!(tell, Tell::Trace { requests: true, .. }),
    };
    Client::connect_within(&settings.paths, PATIENCE)
        .map_err(|error| Failure::of(format_args!("cannot follow the program: {error}")))?
        .subscribe(&params)
}

fn follow(mut events: Events, view: &View, ours: &mut Ours, ended: &AtomicBool) {
    let mut deadline = None;
    loop {
        match events.next(Some(LOOK)) {
            Ok(Next::Event(event)) => {
                if ours.is_told(&event.what) {
                    view.say(&event);
                }
                if event.kind() == EventKind::InstanceEnded && ended.load(Ordering::Acquire) {
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
    /// A view of one instance.
    pub(crate) fn new(settings: &Settings, printer: Printer, tell: Tell, followed: Followed<'_>) -> Self {
        Self { printer, tell, urls: followed.urls, user_home: settings.user_home.clone() }
    }

    /// The line that tells of a listener.
    pub(crate) fn listener(&self, event: &Event) -> Option<String> {
        display::listener_line(event, self.urls, self.user_home.as_deref())
    }

    /// Shows an event, if it is of the kind that is reported.
    pub(crate) fn say(&self, event: &Event) {
        match self.tell {
            Tell::Nothing => {}
            Tell::Listeners => {
                if let Some(line) = self.listener(event) {
                    self.printer.say(&line);
                }
            }
            Tell::Trace { requests: true, .. } if event.kind() == EventKind::Call => {}
            Tell::Trace { json: false, .. } => self.printer.raw(&format!("{}\n", display::trace_line(event))),
            Tell::Trace { json: true, .. } => {
                if let Ok(line) = serde_json::to_string(event) {
                    self.printer.raw(&format!("{line}\n"));
                }
            }
        }
    }
}

//! What the hub answers to control requests. Each is carried out to its end, whether or not its client
//! still waits.
use super::drive::{Hub, Stopping};
use super::routing;
use super::surveys::{Pruning, Survey};
use crate::answer::{Answer, error};
use crate::clock::now_ms;
use crate::control::{Ask, Command};
use crate::limits::{DRAIN_HOLD_MS, HAND_ROUTES};
use crate::registry::{Event, FileState, HandRoute, Key, RouteTarget};
use crate::watch::Looker;
use agentfs_home::{Price, routes};
use agentfs_wire::control::{
    DrainAllParams, DrainParams, Draining, EndedParams, ErrorCode, InstanceName, Pruned, RouteInfo,
    RouteParams,
};
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use serde_json::json;
use std::collections::BTreeSet;
use tokio::sync::oneshot;

// === impl Hub ===

impl Hub {
    pub(super) fn answer(&mut self, command: Command) {
        let answer = match command.ask {
            Ask::List(snapshot_tx) => {
                let usage = |target: &_| self.naming.upstreams.usage(target);
                let snapshot = self.registry.snapshot(self.journal.sequence(), self.naming.urls, &usage);
                // A client that is gone does not change what was done.
                let _ = snapshot_tx.send(snapshot);
                return;
            }
            Ask::RouteList => Ok(json!({"routes": self.registry.route_infos(self.naming.urls)})),
            Ask::RouteAdd(params) => self.add_route(&params),
            Ask::RouteRemove(host) => self.remove_route(&host),
            Ask::LookAtHost(InstanceName { app, instance }) => {
                // Its hint may not have come yet.
                let key = Key { app: app.clone(), instance: instance.clone() };
                if let (Some(app), Some(instance)) = (app_name(&app), instance_name(&instance)) {
                    let companion = SocketName { app, instance, kind: Kind::Companion };
                    self.look_at([companion.format().as_str().to_owned()]);
                }
                self.hosts.see(&key, self.registry.life_of(&key));
                return self.look_at_host(Some(command.answer_tx));
            }
            Ask::Settle(of) => return self.settle(of, command.answer_tx),
            Ask::Prune => return self.begin_pruning(command.answer_tx),
            Ask::InstanceEnded(params) => Ok(self.instance_ended(params)),
            Ask::Drain(params) => self.drain_one(params),
            Ask::DrainAll(params) => self.drain_all(params),
            Ask::Metrics => Ok(json!({"text": self.metrics()})),
            Ask::TlsReload => self.reload_tls(),
            Ask::Stop => {
                self.stopping = Stopping::Asked;
                Ok(json!({"stopping": true}))
            }
        };
        // A client that is gone does not change what was done.
        let _ = command.answer_tx.send(answer);
    }

    fn add_route(&mut self, params: &RouteParams) -> Answer {
        let mut route = HandRoute::parse(params)?;
        if let Some(owner) = self.registry.owner_of(&route.host).filter(|_| !params.replace) {
            let message = format!("`{}` is already routed to {owner}", route.host);
            return Err(error(ErrorCode::Conflict, message, Some("choose another name or use --replace")));
        }
        let missing = match &route.target {
            RouteTarget::Instance(key) => (!self.registry.knows(key)).then(|| key.to_string()),
            RouteTarget::App(app) if self.registry.named(app).is_empty() => {
                match self.registry.only_fork(app) {
                    // As in other commands, the app is enough where only one instance is running. The route stays with it.
                    Some(key) => {
                        route.given = key.to_string();
                        route.target = RouteTarget::Instance(key);
                        None
                    }
                    None => Some(app.clone()),
                }
            }
            // It follows the app's own name, which never means a fork.
            RouteTarget::App(_) => None,
            RouteTarget::Socket(_) | RouteTarget::Tcp(_) => None,
        };
        if let Some(name) = missing {
            let forks = self.registry.forks(&name);
            if !forks.is_empty() {
                let message = format!("`{name}` is its instance main, which is not running");
                let hint = format!("running: {}; name one of them", forks.join(", "));
                return Err(error(ErrorCode::NotFound, message, Some(&hint)));
            }
            let message = format!("no running app or instance is named `{name}`");
            return Err(error(ErrorCode::NotFound, message, Some("run `agentfs ps` to see all")));
        }
        if let (true, RouteTarget::Socket(path)) = (route.handoff, &route.target)
            && let (Ok(socket), Ok(run)) = (path.canonicalize(), self.files.run.path().canonicalize())
            && !routing::is_listener(&socket, &run)
        {
            let message = format!(
                "cannot hand connections to {}: it is not a listener of a wrapped program",
                path.display()
            );
            let hint = Some("leave out `--handoff`, or start the program with `agentfs wrap`");
            return Err(error(ErrorCode::BadParams, message, hint));
        }
        if self.registry.hand_routes() >= HAND_ROUTES {
            let message = format!("there are already {HAND_ROUTES} routes");
            return Err(error(ErrorCode::Conflict, message, Some("use `agentfs route remove`")));
        }
        let info = route.info(self.naming.urls.url(&route.host));
        let mut stored = self.registry.route_infos(self.naming.urls);
        stored.retain(|other| other.host != info.host);
        stored.push(info.clone());
        self.store(stored)?;
        self.tell(vec![Event::RouteAdded { route }]);
        json(&info)
    }

    fn remove_route(&mut self, host: &str) -> Answer {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if !self.registry.has_hand_route(&host) {
            let message = format!("cannot find the route `{host}`");
            return Err(error(ErrorCode::NotFound, message, Some("run `agentfs route list`")));
        }
        let mut stored = self.registry.route_infos(self.naming.urls);
        stored.retain(|other| other.host != host);
        self.store(stored)?;
        self.tell(vec![Event::RouteRemoved { host }]);
        Ok(json!({"removed": true}))
    }

    fn store(&mut self, routes: Vec<RouteInfo>) -> Result<(), agentfs_wire::control::ControlError> {
        routes::save(&self.files.paths.routes, routes).map_err(|cause| {
            let message = format!("cannot write {}: {cause}", self.files.paths.routes.display());
            self.warn(&message);
            error(ErrorCode::Internal, message, Some("the routes are unchanged"))
        })
    }

    fn instance_ended(&mut self, params: EndedParams) -> serde_json::Value {
        let key = Key { app: params.app, instance: params.instance };
        self.tell(vec![Event::Ended { key: key.clone(), wrap_pid: params.wrap_pid }]);
        json!({"removed": !self.registry.knows(&key)})
    }

    fn drain_one(&mut self, params: DrainParams) -> Answer {
        let key = Key { app: params.app, instance: params.instance };
        if !self.registry.knows(&key) {
            let message = format!("no running instance is named `{key}`");
            return Err(error(ErrorCode::NotFound, message, Some("run `agentfs ps` to see all")));
        }
        self.drain(BTreeSet::from([key]), params.hold_ms)
    }

    /// Drains instances. Unknown ones have already ended.
    fn drain_all(&mut self, params: DrainAllParams) -> Answer {
        let names = params.instances.into_iter();
        let keys = names.map(|InstanceName { app, instance }| Key { app, instance });
        self.drain(keys.filter(|key| self.registry.knows(key)).collect(), params.hold_ms)
    }

    /// Takes instances out of the routes, all at once. Returns how many requests they still have to answer.
    fn drain(&mut self, keys: BTreeSet<Key>, hold_ms: u64) -> Answer {
        let until_ms = now_ms().saturating_add(hold_ms.min(DRAIN_HOLD_MS));
        self.tell(vec![Event::Drained { keys: keys.iter().cloned().collect(), until_ms }]);
        json(&Draining { requests: self.naming.upstreams.finite_in_flight(&keys) })
    }

    /// Checks everything at once and removes what is dead, dangling links too: otherwise they stay, because their
    /// target may come back. Requests that come during a prune get its answer.
    fn begin_pruning(&mut self, answer_tx: oneshot::Sender<Answer>) {
        if let Some(pruning) = &mut self.surveys.pruning {
            return pruning.answer_txs.push(answer_tx);
        }
        self.surveys.pruning = Some(Pruning { answer_txs: vec![answer_tx], ..Pruning::default() });
        self.reconcile();
        self.surveys.want_now(std::iter::empty());
        self.surveys.begin(self.files.run.path());
        self.go_on_pruning();
    }

    /// Takes the result of a survey in.
    pub(super) fn take_survey(&mut self, survey: Survey) {
        let Survey { asked, living, held } = survey;
        // The holders first: a dead instance has none.
        let mut events: Vec<_> = held.into_iter().map(|held| Event::Held { held }).collect();
        events.push(Event::Surveyed { asked, living });
        self.tell(events);
        if let Some(surveyed_tx) = self.surveyed_tx.take() {
            // Its receiver is gone only when we end.
            let _ = surveyed_tx.send(self.registry.keys().collect());
        }
        self.go_on_pruning();
    }

    /// Finishes the current prune if its survey has finished.
    pub(super) fn go_on_pruning(&mut self) {
        if !self.surveys.has_pruned() {
            return;
        }
        let mut left = Vec::new();
        for file in self.files.names().unwrap_or_default() {
            if let Err(cause) = SocketName::parse(&file) {
                left.push(format!("{file}: {cause}"));
            }
        }
        let mut price = Price::default();
        for file in self.files.unsound() {
            let looker = &mut Looker::new(self.files.run.path(), &mut price, &|_, _| Some(true));
            match looker.look(&file, false).0 {
                FileState::Foreign(what) => left.push(format!("{file}: {what}")),
                FileState::Link { end, .. } if matches!(*end, FileState::Gone | FileState::Stale) => {
                    let result = self.files.run.remove_link(&file);
                    self.note_removal(file, result);
                }
                FileState::Link { end, .. } => {
                    if let FileState::Foreign(what) = *end {
                        left.push(format!("{file}: {what}"));
                    }
                }
                _ => {}
            }
        }
        let Some(Pruning { mut removed, answer_txs, .. }) = self.surveys.pruning.take() else { return };
        removed.sort_unstable();
        removed.dedup();
        left.sort_unstable();
        let answer = json(&Pruned { removed, left });
        for answer_tx in answer_txs {
            // A client that is gone does not change what was done.
            let _ = answer_tx.send(answer.clone());
        }
    }

    fn metrics(&self) -> String {
        self.router_metrics.render(&self.naming.table.load(), true)
    }
}

fn json(result: &impl serde::Serialize) -> Answer {
    serde_json::to_value(result).map_err(|cause| error(ErrorCode::Internal, cause.to_string(), None))
}

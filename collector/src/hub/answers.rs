//! What the hub answers to control requests. Each is carried out to its end, whether or not its client
//! still waits.
use super::drive::Hub;
use super::routing;
use crate::answer::{Answer, error};
use crate::clock::now_ms;
use crate::control::{Ask, Command};
use crate::limits::{DRAIN_HOLD_MS, HAND_ROUTES};
use crate::processes::survey;
use crate::registry::{Event, HandRoute, Key, RouteTarget, Sight};
use crate::watch::Looker;
use agentfs_home::routes;
use agentfs_wire::control::{DrainParams, Draining, EndedParams, ErrorCode, Pruned, RouteInfo, RouteParams};
use serde_json::json;

// === impl Hub ===

impl Hub {
    pub(super) fn answer(&mut self, command: Command) {
        let answer = match command.ask {
            Ask::List => {
                let usage = |target: &_| self.upstreams.usage(target);
                json(&self.registry.snapshot(self.journal.sequence(), self.urls, &usage))
            }
            Ask::RouteList => Ok(json!({"routes": self.registry.route_infos(self.urls)})),
            Ask::RouteAdd(params) => self.add_route(&params),
            Ask::RouteRemove(host) => self.remove_route(&host),
            Ask::Prune => json(&self.prune()),
            Ask::InstanceEnded(params) => Ok(self.instance_ended(params)),
            Ask::Drain(params) => self.drain(params),
            Ask::Metrics => Ok(json!({"text": self.metrics()})),
            Ask::TlsReload => self.reload_tls(),
            Ask::Stop => {
                self.stopping = true;
                Ok(json!({"stopping": true}))
            }
        };
        // A client that has left does not change what was done.
        let _ = command.answer_tx.send(answer);
    }

    fn add_route(&mut self, params: &RouteParams) -> Answer {
        let route = HandRoute::parse(params)?;
        if let Some(owner) = self.registry.owner_of(&route.host).filter(|_| !params.replace) {
            let message = format!("`{}` is already routed to {owner}", route.host);
            return Err(error(ErrorCode::Conflict, message, Some("choose another name or use --replace")));
        }
        let missing = match &route.target {
            RouteTarget::Instance(key) => (!self.registry.knows(key)).then(|| key.to_string()),
            RouteTarget::App(app) => self.registry.leaders(app).is_empty().then(|| app.clone()),
            RouteTarget::Socket(_) | RouteTarget::Tcp(_) => None,
        };
        if let Some(name) = missing {
            let message = format!("no running app or instance is named `{name}`");
            return Err(error(ErrorCode::NotFound, message, Some("run `agentfs ps` to see all")));
        }
        if let (true, RouteTarget::Socket(path)) = (route.handoff, &route.target)
            && let (Ok(socket), Ok(run)) = (path.canonicalize(), self.run_dir.path().canonicalize())
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
            return Err(error(ErrorCode::Conflict, message, Some("use `agentfs route --remove`")));
        }
        let info = route.info(self.urls.url(&route.host));
        let mut stored = self.registry.route_infos(self.urls);
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
            return Err(error(ErrorCode::NotFound, message, Some("run `agentfs route --list`")));
        }
        let mut stored = self.registry.route_infos(self.urls);
        stored.retain(|other| other.host != host);
        self.store(stored)?;
        self.tell(vec![Event::RouteRemoved { host }]);
        Ok(json!({"removed": true}))
    }

    fn store(&mut self, routes: Vec<RouteInfo>) -> Result<(), agentfs_wire::control::ControlError> {
        routes::save(&self.paths.routes, routes).map_err(|cause| {
            let message = format!("cannot write {}: {cause}", self.paths.routes.display());
            self.warn(&message);
            error(ErrorCode::Internal, message, Some("the routes are unchanged"))
        })
    }

    fn instance_ended(&mut self, params: EndedParams) -> serde_json::Value {
        let key = Key { app: params.app, instance: params.instance };
        self.tell(vec![Event::Ended { key: key.clone() }]);
        json!({"removed": !self.registry.knows(&key)})
    }

    /// Takes an instance out of the routes; what it still has to answer.
    fn drain(&mut self, params: DrainParams) -> Answer {
        let key = Key { app: params.app, instance: params.instance };
        if !self.registry.knows(&key) {
            let message = format!("no running instance is named `{key}`");
            return Err(error(ErrorCode::NotFound, message, Some("run `agentfs ps` to see all")));
        }
        let until_ms = now_ms().saturating_add(params.hold_ms.min(DRAIN_HOLD_MS));
        self.tell(vec![Event::Drained { key: key.clone(), until_ms }]);
        json(&Draining { requests: self.upstreams.finite_in_flight(&key.app, &key.instance) })
    }

    /// Looks at everything at once and removes what is dead, dangling links included, which are left
    /// alone otherwise since what they lead to may come back.
    fn prune(&mut self) -> Pruned {
        self.removed = Some(Vec::new());
        self.reconcile();
        let asked = std::mem::take(&mut self.survey_wanted);
        let living = survey(self.run_dir.path(), &asked);
        self.tell(vec![Event::Surveyed { asked, living }]);
        let mut left = Vec::new();
        let files = std::fs::read_dir(self.run_dir.path()).into_iter().flatten().flatten();
        let names: Vec<_> = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        for file in names {
            if let Err(cause) = agentfs_wire::name::SocketName::parse(&file) {
                left.push(format!("{file}: {cause}"));
                continue;
            }
            match Looker::new(self.run_dir.path(), &|_, _| true).look(&file, false) {
                Sight::Foreign(what) => left.push(format!("{file}: {what}")),
                Sight::Link { end, .. } if matches!(*end, Sight::Gone | Sight::Stale) => {
                    let result = self.run_dir.remove_link(&file);
                    self.note_removal(file, result);
                }
                Sight::Link { end, .. } => {
                    if let Sight::Foreign(what) = *end {
                        left.push(format!("{file}: {what}"));
                    }
                }
                _ => {}
            }
        }
        let mut removed = self.removed.take().unwrap_or_default();
        removed.sort_unstable();
        removed.dedup();
        left.sort_unstable();
        Pruned { removed, left }
    }

    fn metrics(&self) -> String {
        self.router_metrics.render(&self.table.load(), true)
    }
}

fn json(result: &impl serde::Serialize) -> Answer {
    serde_json::to_value(result).map_err(|cause| error(ErrorCode::Internal, cause.to_string(), None))
}

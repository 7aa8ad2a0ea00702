//! One control connection: requests in, replies out in the same order, then maybe a stream of events.
use super::line::{self, Line};
use super::{Ask, Command, Shared};
use crate::answer::{Answer, error};
use crate::end::ended;
use crate::journal::{Filter, Subscription};
use crate::limits::{CONTROL_READ, CONTROL_WRITE, SUBSCRIPTION_BATCH};
use agentfs_wire::control::{
    ControlError, DrainAllParams, DrainParams, Draining, ErrorCode, Reply, Request, Snapshot,
    SubscribeParams, Subscribed, method, parse_request,
};
use agentfs_wire::limits::{CONTROL_LINE_BYTES, CONTROL_SUBSCRIPTIONS};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// Serves one client until it closes, breaks a limit, or the collector ends. A failure to read or write means
/// that the client is gone.
pub(super) async fn serve(
    stream: UnixStream,
    shared: Arc<Shared>,
    limits: Limits,
    mut end_rx: watch::Receiver<bool>,
) {
    let (input, output) = stream.into_split();
    let mut connection =
        Connection { input: BufReader::with_capacity(CONTROL_READ, input), output, shared, limits };
    loop {
        let next = tokio::select! {
            next = line::read(&mut connection.input, CONTROL_LINE_BYTES) => next,
            () = ended(&mut end_rx) => return,
        };
        // A request is carried out and answered even if the collector is about to stop.
        match connection.turn(next, &end_rx).await {
            Ok(true) => {}
            Ok(false) | Err(_) => return,
        }
    }
}

/// What a connection counts as.
#[derive(Debug)]
pub(super) struct Limits {
    /// One of the connections, or of the subscriptions once it is one. Only held.
    pub(super) counted: OwnedSemaphorePermit,
    /// Places for subscriptions.
    pub(super) places: Arc<Semaphore>,
}

struct Connection {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    shared: Arc<Shared>,
    limits: Limits,
}

/// What a request leads to.
enum Outcome {
    Answer(Answer),
    // It can have megabytes, so it is written here directly and never becomes a `Value`.
    Snapshot(Box<Snapshot>),
    Subscribe(SubscribeParams),
}

/// A [`Reply`] with a result.
#[derive(Serialize)]
struct Found<'a> {
    id: Value,
    result: &'a Snapshot,
}

#[derive(Deserialize)]
struct HostParams {
    host: String,
}

#[derive(Deserialize)]
struct ListenParams {
    listen: String,
}

// === impl Connection ===

impl Connection {
    /// Handles one line; `false` if it was the last.
    async fn turn(&mut self, next: io::Result<Line>, end_rx: &watch::Receiver<bool>) -> io::Result<bool> {
        let line = match next? {
            Line::End => return Ok(false),
            Line::TooLong => {
                let message = format!("the line is longer than {CONTROL_LINE_BYTES} bytes");
                self.reply(Value::Null, Err(error(ErrorCode::TooLarge, message, None))).await?;
                return Ok(false);
            }
            Line::Whole(line) => line,
        };
        if line.trim_ascii().is_empty() {
            return Ok(true);
        }
        let request = match parse_request(&line) {
            Ok(request) => request,
            Err(error) => {
                self.reply(Value::Null, Err(error)).await?;
                return Ok(true);
            }
        };
        let id = request.id.clone();
        match self.carry_out(request).await {
            Outcome::Answer(answer) => {
                self.reply(id, answer).await?;
                Ok(true)
            }
            Outcome::Snapshot(snapshot) => {
                self.write(&Found { id, result: &snapshot }).await?;
                Ok(true)
            }
            Outcome::Subscribe(params) => {
                let Ok(place) = Arc::clone(&self.limits.places).try_acquire_owned() else {
                    let message = format!("too many subscriptions: {CONTROL_SUBSCRIPTIONS} are open");
                    self.reply(id, Err(error(ErrorCode::Busy, message, Some("end a subscription")))).await?;
                    return Ok(true);
                };
                self.limits.counted = place;
                self.stream(id, params, end_rx).await?;
                Ok(false)
            }
        }
    }

    async fn carry_out(&self, request: Request) -> Outcome {
        let params = request.params;
        let ask = match request.method.as_str() {
            method::PING => return Outcome::Answer(Ok(json!({"pong": true}))),
            method::DAEMON_INFO => return Outcome::Answer(to_value(&*self.shared.info_rx.borrow())),
            method::SUBSCRIBE => {
                let params = if params.is_null() { Ok(SubscribeParams::default()) } else { read(params) };
                return match params {
                    Ok(params) => Outcome::Subscribe(params),
                    Err(error) => Outcome::Answer(Err(error)),
                };
            }
            method::FORWARD_ADD => {
                return Outcome::Answer(match read(params) {
                    Ok(params) => self.shared.forwards.add(params),
                    Err(error) => Err(error),
                });
            }
            method::FORWARD_REMOVE => {
                let removed = |ListenParams { listen }| self.shared.forwards.remove(&listen);
                return Outcome::Answer(read(params).and_then(removed));
            }
            method::FORWARD_LIST => return Outcome::Answer(self.shared.forwards.list()),
            method::DAEMON_STOP => Ok(Ask::Stop),
            method::TLS_RELOAD => Ok(Ask::TlsReload),
            method::LIST => {
                return match self.list().await {
                    Ok(snapshot) => Outcome::Snapshot(Box::new(snapshot)),
                    Err(error) => Outcome::Answer(Err(error)),
                };
            }
            method::ROUTE_LIST => Ok(Ask::RouteList),
            method::HOST_LOOK => read(params).map(Ask::LookAtHost),
            method::CALLS_SETTLED => read(params).map(Ask::Settle),
            method::PRUNE => Ok(Ask::Prune),
            method::METRICS => Ok(Ask::Metrics),
            method::ROUTE_ADD => read(params).map(Ask::RouteAdd),
            method::ROUTE_REMOVE => read(params).map(|HostParams { host }| Ask::RouteRemove(host)),
            method::INSTANCE_ENDED => read(params).map(Ask::InstanceEnded),
            method::INSTANCE_DRAIN => return Outcome::Answer(self.drain(params).await),
            method::INSTANCES_DRAIN => return Outcome::Answer(self.drain_all(params).await),
            unknown => Err(error(
                ErrorCode::UnknownMethod,
                format!("unknown method `{unknown}`"),
                Some("call `daemon.info` for this collector's version"),
            )),
        };
        Outcome::Answer(match ask {
            Ok(ask) => self.ask(ask).await,
            Err(error) => Err(error),
        })
    }

    /// Takes an instance out of the routes. Returns how many requests it still has to answer, over forwards
    /// as well.
    async fn drain(&self, params: Value) -> Answer {
        let params: DrainParams = read(params)?;
        let waiting = self.shared.forwards.waiting(&params.app, &params.instance);
        let Draining { requests } = read(self.ask(Ask::Drain(params)).await?)?;
        to_value(&Draining { requests: requests + waiting })
    }

    /// Takes instances out of the routes, all at once. Returns how many requests they still have to answer, over
    /// forwards as well.
    async fn drain_all(&self, params: Value) -> Answer {
        let params: DrainAllParams = read(params)?;
        let named = params.instances.iter().map(|name| (name.app.as_str(), name.instance.as_str()));
        let waiting = self.shared.forwards.waiting_of(&named.collect());
        let Draining { requests } = read(self.ask(Ask::DrainAll(params)).await?)?;
        to_value(&Draining { requests: requests + waiting })
    }

    async fn list(&self) -> Result<Snapshot, ControlError> {
        let (snapshot_tx, snapshot_rx) = oneshot::channel();
        let (answer_tx, _) = oneshot::channel();
        self.send(Command { ask: Ask::List(snapshot_tx), answer_tx }).await?;
        snapshot_rx.await.map_err(|_| ending())
    }

    async fn ask(&self, ask: Ask) -> Answer {
        let (answer_tx, answer_rx) = oneshot::channel();
        self.send(Command { ask, answer_tx }).await?;
        answer_rx.await.map_err(|_| ending())?
    }

    async fn send(&self, command: Command) -> Result<(), ControlError> {
        self.shared.command_tx.send(command).await.map_err(|_| ending())
    }

    async fn reply(&mut self, id: Value, answer: Answer) -> io::Result<()> {
        let (result, error) = match answer {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        self.write(&Reply { id, result, error }).await
    }

    async fn write(&mut self, reply: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        match tokio::time::timeout(CONTROL_WRITE, self.output.write_all(&line)).await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Answers a subscription, then writes events until the client closes. Reads and ignores what the client
    /// sends meanwhile.
    async fn stream(
        &mut self,
        id: Value,
        params: SubscribeParams,
        end_rx: &watch::Receiver<bool>,
    ) -> io::Result<()> {
        let _wish = params.calls.then(|| self.shared.page.wish());
        let SubscribeParams { after, since_ms, app, instance, requests, .. } = params;
        let mut subscription =
            self.shared.journal.subscribe(Filter { after, since_ms, app, instance, requests });
        self.reply(id, to_value(&Subscribed { sequence: subscription.sequence })).await?;
        let mut ignored = [0; 512];
        let mut end_rx = end_rx.clone();
        let mut end = pin!(ended(&mut end_rx));
        loop {
            tokio::select! {
                batch = next_batch(&mut subscription) => match batch {
                    Some(batch) => {
                        // If the client does not read, only this task waits for it. The client must still be
                        // able to close, and the collector to stop.
                        tokio::select! {
                            written = self.output.write_all(batch.as_bytes()) => written?,
                            () = &mut end => return Ok(()),
                        }
                    }
                    None => return Ok(()),
                },
                read = self.input.read(&mut ignored) => if read? == 0 { return Ok(()) },
                () = &mut end => return Ok(()),
            }
        }
    }
}

/// Waits for an event and takes those that are already queued as well.
async fn next_batch(subscription: &mut Subscription) -> Option<String> {
    let mut batch = subscription.next().await?.line().to_owned();
    for _ in 1..SUBSCRIPTION_BATCH {
        match subscription.ready() {
            Some(item) => batch.push_str(item.line()),
            None => break,
        }
    }
    Some(batch)
}

fn ending() -> ControlError {
    error(ErrorCode::Internal, "the collector is stopping", Some("try again"))
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, ControlError> {
    serde_json::from_value(params)
        .map_err(|cause| error(ErrorCode::BadParams, format!("invalid parameters: {cause}"), None))
}

/// A result as JSON.
fn to_value(result: &impl serde::Serialize) -> Answer {
    serde_json::to_value(result).map_err(|cause| error(ErrorCode::Internal, cause.to_string(), None))
}

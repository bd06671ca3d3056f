//! The control thread: everything that is not a packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};
use isthmus_hostplan::{TunnelPlan, TunnelReport};
use isthmus_types::{VpnConnectionId, VpnGatewayId};

use crate::gateway::Gateway;
use crate::listener::{self, Asked};
use crate::plane::{self, GatewayEvent};
use crate::{RunError, resolve, signals};

/// Messages that may wait.
const QUEUE: usize = 8192;
/// Messages handled before timers get a look.
const BURST: usize = 256;
/// How long peers have to answer our deletes at the end.
const FAREWELL: Duration = Duration::from_millis(1000);
/// Longest sleep.
const IDLE: Duration = Duration::from_secs(10);

enum Message {
    Asked(Asked),
    Plane(GatewayEvent),
    Resolved {
        gateway: VpnGatewayId,
        connection: VpnConnectionId,
        addresses: Vec<IpAddr>,
    },
    Stop,
}

struct Control {
    queue: SyncSender<Message>,
    lanes: Option<usize>,
    gateways: BTreeMap<VpnGatewayId, Gateway>,
    timers: BTreeSet<(Instant, VpnGatewayId)>,
    due: BTreeMap<VpnGatewayId, Instant>,
    watchers: Vec<Watcher>,
    ending: Option<Instant>,
    changed: bool,
}

struct Watcher {
    replies: SyncSender<TunnelReply>,
    behind: bool,
}

/// Runs the daemon.
pub(crate) fn run(socket: &Path, plan: Option<TunnelPlan>, lanes: Option<usize>) -> Result<(), RunError> {
    let (queue, messages) = sync_channel(QUEUE);
    let to_stop = queue.clone();
    signals::watch(move || {
        // Without a receiver it has ended already.
        let _ = to_stop.send(Message::Stop);
    })
    .map_err(RunError::System)?;
    let mut control = Control {
        queue: queue.clone(),
        lanes,
        gateways: BTreeMap::new(),
        timers: BTreeSet::new(),
        due: BTreeMap::new(),
        watchers: Vec::new(),
        ending: None,
        changed: false,
    };
    if let Some(plan) = plan {
        control.apply(plan, Instant::now());
    }
    listener::listen(socket, move |asked| {
        let _ = queue.send(Message::Asked(asked));
    })
    .map_err(|source| RunError::Socket {
        path: socket.to_owned(),
        source,
    })?;
    control.work(&messages);
    // Whoever comes next makes its own.
    let _ = std::fs::remove_file(socket);
    Ok(())
}

impl Control {
    fn work(&mut self, messages: &Receiver<Message>) {
        loop {
            let now = Instant::now();
            let wake = self.timers.first().map_or(now + IDLE, |(at, _)| *at);
            let wake = self.ending.map_or(wake, |end| wake.min(end));
            match messages.recv_timeout(wake.saturating_duration_since(now)) {
                Ok(message) => {
                    self.handle(message);
                    for message in messages.try_iter().take(BURST) {
                        self.handle(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            self.handle_timers(now);
            self.tell_watchers();
            if let Some(end) = self.ending
                && (end <= now || self.gateways.values().all(Gateway::is_closed))
            {
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Asked(asked) => self.answer(asked, now),
            Message::Plane((gateway, event)) => {
                self.with_gateway(gateway, |gateway| gateway.handle_event(event, now));
            }
            Message::Resolved {
                gateway,
                connection,
                addresses,
            } => self.with_gateway(gateway, |gateway| gateway.resolved(connection, &addresses, now)),
            Message::Stop => self.end(now),
        }
    }

    fn answer(&mut self, asked: Asked, now: Instant) {
        let reply = match asked.request {
            TunnelRequest::Apply { plan } => {
                self.apply(plan, now);
                TunnelReply::Applied
            }
            TunnelRequest::Rekey { connection, sas } => {
                let gateways: Vec<VpnGatewayId> = self.gateways.keys().copied().collect();
                for id in gateways {
                    self.with_gateway(id, |gateway| gateway.rekey(connection, sas, now));
                }
                TunnelReply::Applied
            }
            TunnelRequest::Report => TunnelReply::Report {
                report: self.report(),
            },
            TunnelRequest::Stop => {
                self.end(now);
                TunnelReply::Applied
            }
            TunnelRequest::Watch => {
                self.watchers.push(Watcher {
                    replies: asked.replies,
                    behind: true,
                });
                return;
            }
        };
        // A client that is gone needs no answer.
        let _ = asked.replies.try_send(reply);
    }

    /// Brings everything to `plan`.
    fn apply(&mut self, plan: TunnelPlan, now: Instant) {
        let mut wanted: BTreeMap<VpnGatewayId, _> = plan
            .gateways
            .into_iter()
            .map(|plan| (plan.gateway, plan))
            .collect();
        let gone: Vec<VpnGatewayId> = self
            .gateways
            .iter()
            .filter(|(id, gateway)| wanted.get(id).is_none_or(|plan| gateway.is_replaced_by(plan)))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(mut gateway) = self.gateways.remove(&id) {
                gateway.close(now);
            }
            self.set_timer(id, None);
            self.changed = true;
        }
        while let Some((id, plan)) = wanted.pop_first() {
            if self.gateways.contains_key(&id) {
                self.with_gateway(id, |gateway| gateway.update(plan, now));
                continue;
            }
            let events = plane::into_queue(self.queue.clone(), Message::Plane);
            match Gateway::start(plan, self.lanes, events, now) {
                Ok(gateway) => {
                    self.gateways.insert(id, gateway);
                    self.with_gateway(id, |gateway| gateway.handle_timeout(now));
                }
                Err(error) => tracing::error!(gateway = %id, %error, "the gateway cannot start"),
            }
        }
    }

    fn with_gateway(&mut self, id: VpnGatewayId, work: impl FnOnce(&mut Gateway)) {
        let Some(gateway) = self.gateways.get_mut(&id) else {
            return;
        };
        work(gateway);
        self.changed |= gateway.take_changed();
        let next = gateway.next_timeout();
        for (connection, name) in gateway.take_resolutions() {
            let queue = self.queue.clone();
            resolve::resolve(name, move |addresses| {
                let _ = queue.send(Message::Resolved {
                    gateway: id,
                    connection,
                    addresses,
                });
            });
        }
        self.set_timer(id, Some(next));
    }

    fn set_timer(&mut self, id: VpnGatewayId, at: Option<Instant>) {
        if let Some(old) = self.due.remove(&id) {
            self.timers.remove(&(old, id));
        }
        if let Some(at) = at {
            self.due.insert(id, at);
            self.timers.insert((at, id));
        }
    }

    fn handle_timers(&mut self, now: Instant) {
        let due: Vec<VpnGatewayId> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for id in due {
            self.with_gateway(id, |gateway| gateway.handle_timeout(now));
        }
    }

    fn end(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        tracing::info!("ending: deleting every SA at its peer");
        for gateway in self.gateways.values_mut() {
            gateway.close(now);
        }
        self.ending = Some(now + FAREWELL);
    }

    fn report(&self) -> TunnelReport {
        TunnelReport {
            gateways: self.gateways.values().map(Gateway::report).collect(),
            connections: self
                .gateways
                .values()
                .flat_map(Gateway::connection_reports)
                .collect(),
        }
    }

    fn tell_watchers(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        if !self.watchers.iter().any(|watcher| watcher.behind || changed) {
            return;
        }
        let report = self.report();
        self.watchers.retain_mut(|watcher| {
            if !(watcher.behind || changed) {
                return true;
            }
            let reply = TunnelReply::Report {
                report: report.clone(),
            };
            match watcher.replies.try_send(reply) {
                Ok(()) => {
                    watcher.behind = false;
                    true
                }
                // Told at the next turn of the loop that comes after it has read.
                Err(TrySendError::Full(_)) => {
                    watcher.behind = true;
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
    }
}

//! One connection of a gateway: its SAs as far as the packet plane is concerned, its state, its counters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use isthmus_crypto::suite::CipherSuite;
use isthmus_esp::{ConnectionHandle, InboundSa, OutboundSa};
use isthmus_hostplan::{ConnectionPlan, ConnectionReport, Diagnosis, DownReason, TunnelState, diagnosis};
use isthmus_ike::{ChildId, ChildSa, ConnectionStatus, EventKind, OutboundUse, Selector, Severity};
use isthmus_runtime::clock;
use isthmus_types::Timestamp;

use crate::convert;
use crate::diagnosis::{Epoch, LogLimit};
use crate::path_mtu::PathMtu;
use crate::plane::{
    ConnectionSetting, Counters, NewInboundSa, NewOutboundSa, PathReport, Plane, SaTraffic, Wrapping,
};

const WRONG_PORT: &str = "ESP would have to leave in UDP from another port than 4500";

const NOT_CARRIED: &str = "negotiated, but the gateway's device takes no packets yet";
/// The total of Child SAs whose place another one took.
const CHILD_REPLACED: &str = "child_replaced";

/// A connection.
pub(crate) struct Connection {
    pub(crate) plan: ConnectionPlan,
    pub(crate) handle: ConnectionHandle,
    counters: Arc<Counters>,
    children: BTreeMap<ChildId, Child>,
    /// What IKE says.
    negotiated: TunnelState,
    /// What is told.
    state: TunnelState,
    since: Timestamp,
    /// The count of the plan that the endpoint has.
    pub(crate) resets: u32,
    // Whether the gateway's device takes packets.
    carried: bool,
    // What is wrong with the SAs although IKE is content.
    obstacle: Option<String>,
    authentic_seen: u64,
    // How often each kind of event occurred.
    totals: BTreeMap<&'static str, u64>,
    path: PathMtu,
    log_limit: LogLimit,
}

struct Child {
    inbound_spi: u32,
    outbound_spi: u32,
    suite: CipherSuite,
    remote: SocketAddr,
    traffic: Arc<SaTraffic>,
    place: Place,
    // Another one has its place, or it is on its way out.
    outgoing: bool,
    waiting: Option<Box<NewOutboundSa>>,
}

/// What a Child SA is for: of those that are for the same, one is in use.
#[derive(PartialEq, Eq)]
struct Place {
    local: Vec<Selector>,
    remote: Vec<Selector>,
    lane: u8,
}

impl Place {
    fn of(child: &ChildSa) -> Self {
        Self {
            local: child.local_selectors.clone(),
            remote: child.remote_selectors.clone(),
            lane: child.lane,
        }
    }
}

impl Connection {
    /// A connection of a gateway whose link carries packets of `link_mtu` bytes.
    pub(crate) fn new(plan: ConnectionPlan, handle: ConnectionHandle, link_mtu: u16) -> Self {
        let state = if plan.admin_up {
            TunnelState::Down {
                reason: DownReason::Negotiating,
                detail: String::new(),
            }
        } else {
            TunnelState::AdminDown
        };
        Self {
            // One that is new has nothing to reset.
            resets: plan.reset_count,
            plan,
            handle,
            counters: Arc::new(Counters::default()),
            children: BTreeMap::new(),
            negotiated: state.clone(),
            state,
            since: clock::now(),
            carried: false,
            obstacle: None,
            authentic_seen: 0,
            totals: BTreeMap::new(),
            path: PathMtu::new(link_mtu),
            log_limit: LogLimit::default(),
        }
    }

    /// What the packet plane must know of it.
    pub(crate) fn setting(&self) -> ConnectionSetting {
        ConnectionSetting {
            connection: self.handle,
            policies: convert::policies(&self.plan),
            admission: convert::admission(&self.plan),
            counters: Arc::clone(&self.counters),
        }
    }

    /// Puts a new Child SA into the packet plane. True if the reported state may have changed.
    pub(crate) fn install(&mut self, plane: &Plane, child: &ChildSa) -> bool {
        match self.prepare(child) {
            Ok((inbound, outbound)) => {
                let remote = outbound.remote;
                let traffic = Arc::clone(&outbound.traffic);
                if self.obstacle.take().is_some() {
                    self.set_state(TunnelState::Up);
                }
                plane.insert_inbound(inbound);
                let waiting = match child.outbound_use {
                    OutboundUse::Now => {
                        plane.insert_outbound(outbound);
                        None
                    }
                    OutboundUse::Wait => Some(Box::new(outbound)),
                };
                let entry = Child {
                    inbound_spi: child.inbound.spi,
                    outbound_spi: child.outbound.spi,
                    suite: child.suite,
                    remote,
                    traffic,
                    place: Place::of(child),
                    outgoing: false,
                    waiting,
                };
                self.count_replacement(&entry.place);
                self.children.insert(child.child, entry);
            }
            Err(obstacle) => {
                tracing::warn!(connection = %self.plan.connection, reason = %obstacle, "a child SA was not installed");
                self.obstacle = Some(obstacle);
                self.tell();
            }
        }
        true
    }

    /// Counts a Child SA that takes the place of another one.
    fn count_replacement(&mut self, place: &Place) {
        let mut others = self.children.values_mut();
        if let Some(old) = others.find(|old| !old.outgoing && old.place == *place) {
            old.outgoing = true;
            *self.totals.entry(CHILD_REPLACED).or_default() += 1;
        }
    }

    /// Starts sending on a child that waited.
    pub(crate) fn use_outbound(&mut self, plane: &Plane, child: ChildId) {
        if let Some(outbound) = self
            .children
            .get_mut(&child)
            .and_then(|child| child.waiting.take())
        {
            plane.insert_outbound(*outbound);
        }
    }

    /// Stops sending on a child.
    pub(crate) fn retire(&mut self, plane: &Plane, child: ChildId) {
        if let Some(child) = self.children.get_mut(&child) {
            child.outgoing = true;
            child.waiting = None;
            plane.remove_outbound(self.handle, child.inbound_spi);
        }
    }

    /// Removes both directions of a child.
    pub(crate) fn remove(&mut self, plane: &Plane, child: ChildId) {
        if let Some(child) = self.children.remove(&child) {
            plane.remove_outbound(self.handle, child.inbound_spi);
            plane.remove_inbound(child.inbound_spi);
        }
    }

    /// Removes everything from the packet plane.
    pub(crate) fn withdraw(self, plane: &Plane) {
        plane.remove_connection(self.handle);
        for child in self.children.values() {
            plane.remove_inbound(child.inbound_spi);
        }
    }

    /// Sends to another address from now on.
    pub(crate) fn move_peer(&mut self, plane: &Plane, remote: SocketAddr) {
        for child in self.children.values_mut() {
            child.remote = remote;
            if let Some(waiting) = &mut child.waiting {
                waiting.remote = remote;
            }
        }
        let spis: Vec<u32> = self.children.values().map(|child| child.inbound_spi).collect();
        plane.set_remote(self.handle, &spis, remote);
        self.path.forget();
        self.set_inner_mtus(plane);
    }

    /// The link of the gateway carries packets of `mtu` bytes.
    pub(crate) fn set_link_mtu(&mut self, plane: &Plane, mtu: u16) {
        if self.path.set_link(mtu) {
            self.set_inner_mtus(plane);
        }
    }

    /// A message that nobody signed says that the path carries less. It is believed if it quotes a packet that only the
    /// path can have seen: one with an SPI in use, to its peer.
    pub(crate) fn take_path_report(&mut self, plane: &Plane, report: &PathReport, now: Instant) {
        let quotes_ours = self.children.values().any(|child| {
            child.waiting.is_none() && child.outbound_spi == report.spi && child.remote.ip() == report.remote
        });
        if quotes_ours && self.path.learn(report, now) {
            tracing::info!(
                connection = %self.plan.connection,
                name = %self.plan.name,
                mtu = self.path.current(),
                "the path carries less"
            );
            self.set_inner_mtus(plane);
        }
    }

    /// Forgets what was learnt of the path when it is old.
    pub(crate) fn refresh_path(&mut self, plane: &Plane, now: Instant) {
        if self.path.expire(now) {
            self.set_inner_mtus(plane);
        }
    }

    fn set_inner_mtus(&mut self, plane: &Plane) {
        for child in self.children.values_mut() {
            let inner_mtu = self.path.inner_mtu(child.suite, child.remote);
            if let Some(waiting) = &mut child.waiting {
                waiting.wrapping.inner_mtu = inner_mtu;
            }
            plane.set_inner_mtu(self.handle, child.inbound_spi, inner_mtu);
        }
    }

    /// The child that receives with this SPI.
    pub(crate) fn child_with(&self, inbound_spi: u32) -> Option<ChildId> {
        self.children
            .iter()
            .find(|(_, child)| child.inbound_spi == inbound_spi)
            .map(|(id, _)| *id)
    }

    /// The newest child in use, if authentic packets came since the last call.
    pub(crate) fn take_liveness(&mut self) -> Option<ChildId> {
        let now = self.counters.authentic_in.load(Ordering::Relaxed);
        if now == self.authentic_seen {
            return None;
        }
        self.authentic_seen = now;
        self.children
            .iter()
            .rev()
            .find(|(_, child)| child.waiting.is_none())
            .map(|(id, _)| *id)
    }

    /// Takes the state that IKE reports. True if what is reported changed.
    pub(crate) fn set_state(&mut self, state: TunnelState) -> bool {
        self.negotiated = state;
        self.tell()
    }

    /// Takes whether the gateway's device takes packets: without it, nothing is up. True if what is reported changed.
    pub(crate) fn set_carried(&mut self, carried: bool) -> bool {
        self.carried = carried;
        self.tell()
    }

    fn tell(&mut self) -> bool {
        let state = match (&self.negotiated, &self.obstacle, self.carried) {
            (TunnelState::Up, Some(obstacle), _) => TunnelState::Down {
                reason: DownReason::Internal,
                detail: obstacle.clone(),
            },
            (TunnelState::Up, None, false) => TunnelState::Down {
                reason: DownReason::Negotiating,
                detail: NOT_CARRIED.to_owned(),
            },
            (negotiated, ..) => negotiated.clone(),
        };
        if state == self.state {
            return false;
        }
        match &state {
            TunnelState::Up => {
                tracing::info!(connection = %self.plan.connection, name = %self.plan.name, "up")
            }
            TunnelState::AdminDown => {
                tracing::info!(connection = %self.plan.connection, name = %self.plan.name, "down on request");
            }
            TunnelState::Down { reason, detail } => {
                tracing::info!(
                    connection = %self.plan.connection,
                    name = %self.plan.name,
                    ?reason,
                    detail = %detail.escape_default(),
                    "down"
                );
            }
        }
        let same_kind = std::mem::discriminant(&state) == std::mem::discriminant(&self.state);
        if !same_kind {
            self.since = clock::now();
        }
        self.state = state;
        true
    }

    /// Writes what happened to the log, one sentence each, not the same again and again.
    pub(crate) fn log(&mut self, kind: &EventKind, now: Instant) {
        *self.totals.entry(kind.code()).or_default() += 1;
        let sentence = kind.to_string();
        if !self.log_limit.admits(&sentence, now) {
            return;
        }
        let (connection, name) = (self.plan.connection, &self.plan.name);
        match kind {
            EventKind::Found { severity, .. } if *severity >= Severity::Warning => {
                tracing::warn!(%connection, %name, "{sentence}");
            }
            EventKind::ChildDeleted { .. }
            | EventKind::ChildInstalled { .. }
            | EventKind::Found { .. }
            | EventKind::IkeDeleted { .. }
            | EventKind::IkeEstablished { .. }
            | EventKind::IkeReplaced { .. }
            | EventKind::NegotiationStarted { .. }
            | EventKind::PeerMoved { .. }
            | EventKind::Reset => tracing::info!(%connection, %name, "{sentence}"),
        }
    }

    /// All about it.
    pub(crate) fn report(&self, status: Option<&ConnectionStatus>, epoch: &Epoch) -> ConnectionReport {
        let counters = &self.counters;
        ConnectionReport {
            connection: self.plan.connection,
            state: self.state.clone(),
            since: self.since,
            reset_count: self.resets,
            ike_suite: suite_text(status.and_then(|status| status.ike_suite.as_ref())),
            esp_suite: suite_text(status.and_then(|status| status.esp_suite.as_ref())),
            bytes_in: counters.bytes_in.load(Ordering::Relaxed),
            bytes_out: counters.bytes_out.load(Ordering::Relaxed),
            packets_in: counters.packets_in.load(Ordering::Relaxed),
            packets_out: counters.packets_out.load(Ordering::Relaxed),
            drops: counters
                .drops
                .occurred()
                .map(|(reason, count)| (reason.word().to_owned(), count))
                .collect(),
            totals: self
                .totals
                .iter()
                .map(|(code, count)| ((*code).to_owned(), *count))
                .collect(),
            diagnosis: status
                .map(|status| self.diagnosis(status, epoch))
                .unwrap_or_default(),
        }
    }

    fn diagnosis(&self, status: &ConnectionStatus, epoch: &Epoch) -> Diagnosis {
        let mut diagnosis = epoch.diagnosis(status, self.plan.version);
        for report in &mut diagnosis.children {
            let mut children = self.children.values();
            if let Some(child) = children.find(|child| child.inbound_spi == report.inbound_spi) {
                let traffic = &child.traffic;
                report.traffic = diagnosis::SaTraffic {
                    bytes_in: traffic.bytes_in.load(Ordering::Relaxed),
                    bytes_out: traffic.bytes_out.load(Ordering::Relaxed),
                    packets_in: traffic.packets_in.load(Ordering::Relaxed),
                    packets_out: traffic.packets_out.load(Ordering::Relaxed),
                };
            }
        }
        diagnosis
    }

    fn prepare(&self, child: &ChildSa) -> Result<(NewInboundSa, NewOutboundSa), String> {
        let remote =
            convert::destination(child.encapsulation, child.remote).ok_or_else(|| WRONG_PORT.to_owned())?;
        let inner_mtu = self.path.inner_mtu(child.suite, remote);
        let numbers = convert::sequence_numbers(child);
        let lifetime = convert::lifetime(&self.plan, child);
        let unfit = |error| format!("the keys do not fit the suite {}: {error}", child.suite);
        let selectors = convert::selectors(child);
        let traffic = Arc::new(SaTraffic::default());
        let inbound = InboundSa::new(
            child.inbound.spi,
            child.suite,
            &child.inbound.keys,
            selectors.clone(),
            convert::replay_window(&self.plan),
        )
        .map_err(unfit)?
        .with_limits(numbers, lifetime);
        let outbound = OutboundSa::new(child.outbound.spi, child.suite, &child.outbound.keys)
            .map_err(unfit)?
            .with_limits(numbers, lifetime);
        Ok((
            NewInboundSa {
                sa: inbound,
                lane: child.lane,
                remote,
                inner_mtu,
                counters: Arc::clone(&self.counters),
                traffic: Arc::clone(&traffic),
            },
            NewOutboundSa {
                connection: self.handle,
                id: child.inbound.spi,
                sa: outbound,
                lane: child.lane,
                selectors,
                remote,
                wrapping: Wrapping {
                    dscp: self.plan.options.dscp,
                    dont_fragment: self.plan.options.dont_fragment,
                    inner_mtu,
                },
                traffic,
            },
        ))
    }
}

fn suite_text(suite: Option<&impl ToString>) -> String {
    suite.map(ToString::to_string).unwrap_or_default()
}

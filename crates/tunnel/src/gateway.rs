//! One gateway: its IKE endpoint, its packet plane, its connections, and the devices that come and go.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use isthmus_esp::ConnectionHandle;
use isthmus_hostplan::{
    ConnectionPlan, ConnectionReport, DownReason, GatewayCounters, GatewayReport, GatewayTunnels,
    ObjectState, TunnelState, tunnel::RekeyedSas,
};
use isthmus_ike::{ChildId, Endpoint, Event, Framing, Transmit};
use isthmus_runtime::{clock, random};
use isthmus_types::VpnConnectionId;

use crate::connection::Connection;
use crate::convert;
use crate::diagnosis::Epoch;
use crate::key_log::KeyLog;
use crate::plane::{Device, DeviceError, ExpectedPeers, GatewayEvent, Plane, PlaneEvent};

/// Longest packet of a link that nothing is known of, bytes.
const LINK_MTU: u16 = 1500;
/// How often missing devices are looked for.
const RETRY: Duration = Duration::from_millis(50);
/// How often present devices are looked at.
const CHECK: Duration = Duration::from_millis(400);

/// How long a device that was opened is waited for until it takes packets, before it is believed to.
const LINK_PATIENCE: Duration = Duration::from_secs(60);
/// How long a thread with news waits while the queue of the control thread is full.
const FULL_QUEUE: Duration = Duration::from_millis(1);
const STACK: usize = 128 << 10;

/// A gateway that runs.
pub(crate) struct Gateway {
    plan: GatewayTunnels,
    endpoint: Endpoint,
    plane: Plane,
    device: DeviceState,
    /// Whether what is sent to the device has reached here. It stays so when the device is lost, as the SAs do.
    link_ready: bool,
    send: Arc<dyn Fn(GatewayEvent) -> bool + Send + Sync>,
    epoch: u64,
    connections: BTreeMap<VpnConnectionId, Connection>,
    next_handle: u32,
    link_mtu: u16,
    key_log: Option<KeyLog>,
    resolutions: Vec<(VpnConnectionId, String)>,
    times: Epoch,
    changed: bool,
}

enum DeviceState {
    Missing { on: String, retry_at: Instant },
    Present { device: Arc<Device>, check_at: Instant },
}

impl Gateway {
    /// Starts a gateway; its devices are looked for by the first [`Gateway::handle_timeout`]. `lanes` overrides how many
    /// packet threads it has in each direction.
    pub(crate) fn start(
        plan: GatewayTunnels,
        lanes: Option<usize>,
        send: Arc<dyn Fn(GatewayEvent) -> bool + Send + Sync>,
        now: Instant,
    ) -> io::Result<Self> {
        let events = Arc::clone(&send);
        let plane = match lanes {
            Some(lanes) => Plane::start_with_lanes(plan.gateway, plan.mtu, lanes, events)?,
            None => Plane::start(plan.gateway, plan.mtu, events)?,
        };
        let connections = plan.connections.clone();
        let mut endpoint = Endpoint::new(plan.public_address, random::bytes(), now);
        endpoint.set_other_address(plan.other_address);
        let mut gateway = Self {
            endpoint,
            plane,
            device: DeviceState::Missing {
                on: "first look".to_owned(),
                retry_at: now,
            },
            link_ready: false,
            send,
            epoch: 0,
            connections: BTreeMap::new(),
            next_handle: 0,
            link_mtu: LINK_MTU,
            key_log: None,
            resolutions: Vec::new(),
            times: Epoch::new(now),
            changed: true,
            plan,
        };
        gateway.open_key_log(gateway.plan.key_log.clone().as_deref());
        // The endpoint hears of them once there are sockets: its first message would be lost.
        for plan in connections {
            gateway.admit(plan);
        }
        Ok(gateway)
    }

    /// Whether another plan asks for another gateway rather than for a change of this one.
    pub(crate) fn is_replaced_by(&self, plan: &GatewayTunnels) -> bool {
        self.plan.public_address != plan.public_address
    }

    /// Brings the gateway to `plan`. What is equal is not touched.
    pub(crate) fn update(&mut self, plan: GatewayTunnels, now: Instant) {
        if self.plan == plan {
            return;
        }
        self.changed = true;
        if self.plan.namespace != plan.namespace || self.plan.tun != plan.tun {
            self.lose("new place", now);
        }
        if self.plan.other_address != plan.other_address {
            self.endpoint.set_other_address(plan.other_address);
            self.lose("new address", now);
        }
        if self.plan.key_log != plan.key_log {
            self.open_key_log(plan.key_log.as_deref());
        }
        if self.plan.mtu != plan.mtu {
            self.plane.set_mtu(plan.mtu);
        }
        let gone: Vec<VpnConnectionId> = self
            .connections
            .keys()
            .filter(|id| plan.connections.iter().all(|kept| kept.connection != **id))
            .copied()
            .collect();
        for id in gone {
            self.endpoint.remove_connection(id, now);
            self.drain();
            if let Some(connection) = self.connections.remove(&id) {
                connection.withdraw(&self.plane);
            }
        }
        for connection in &plan.connections {
            match self.connections.get_mut(&connection.connection) {
                Some(known) if known.plan == *connection => continue,
                Some(known) => {
                    known.plan = connection.clone();
                    self.plane.set_connection(known.setting());
                }
                None => self.admit(connection.clone()),
            }
            if matches!(self.device, DeviceState::Present { .. }) {
                self.configure(connection, now);
            }
        }
        self.plan = plan;
        self.expect_peers();
    }

    /// Tells the endpoint how a connection is to be.
    fn configure(&mut self, plan: &ConnectionPlan, now: Instant) {
        self.endpoint
            .upsert_connection(convert::connection_config(plan), now);
        self.drain();
        if let Some(connection) = self.connections.get_mut(&plan.connection) {
            connection.resets = plan.reset_count;
        }
    }

    /// Handles what the packet plane told.
    pub(crate) fn handle_event(&mut self, event: PlaneEvent, now: Instant) {
        match event {
            PlaneEvent::Acquire(handle) => {
                if let Some(id) = self.connection_of(handle) {
                    self.endpoint.acquire(id, now);
                }
            }
            PlaneEvent::DeviceLost { epoch, error } => {
                if epoch == self.epoch {
                    self.lose(&format!("TUN device {} ({error})", self.plan.tun), now);
                }
            }
            PlaneEvent::Exhausted { id } => {
                if let Some(child) = self.child_with(id) {
                    self.endpoint.delete_child(child, now);
                }
            }
            PlaneEvent::FirstInbound { spi } => {
                if let Some(child) = self.child_with(spi) {
                    self.endpoint.note_inbound(child, now);
                }
            }
            PlaneEvent::Ike {
                local_port,
                remote,
                message,
                stranger: _waited,
            } => self.endpoint.handle_datagram(local_port, remote, &message, now),
            PlaneEvent::LinkReady { epoch } => {
                if epoch == self.epoch && matches!(self.device, DeviceState::Present { .. }) {
                    self.note_link_ready();
                }
            }
            PlaneEvent::NearExhaustion { id } => {
                if let Some(child) = self.child_with(id) {
                    self.endpoint.rekey_child(child, now);
                }
            }
            PlaneEvent::Path(report) => {
                for connection in self.connections.values_mut() {
                    connection.take_path_report(&self.plane, &report, now);
                }
            }
            PlaneEvent::PeerAddress { spi, remote } => {
                if let Some(child) = self.child_with(spi) {
                    self.endpoint.note_peer_address(child, remote, now);
                }
            }
        }
        self.drain();
    }

    fn expect_peers(&self) {
        let (addresses, anywhere) = self.endpoint.expected_peers();
        self.plane.expect(ExpectedPeers {
            addresses: addresses.into_iter().collect(),
            anywhere,
        });
    }

    /// Gives the endpoint the addresses of a peer's name.
    pub(crate) fn resolved(&mut self, connection: VpnConnectionId, addresses: &[IpAddr], now: Instant) {
        let of_family = |own: IpAddr| {
            addresses
                .iter()
                .find(|address| address.is_ipv4() == own.is_ipv4())
        };
        let mut own = self.plan.addresses();
        let address = own.find_map(of_family).copied();
        self.endpoint.peer_resolved(connection, address, now);
        self.expect_peers();
        self.drain();
    }

    /// Replaces SAs of a connection, if they are here.
    pub(crate) fn rekey(&mut self, connection: VpnConnectionId, sas: RekeyedSas, now: Instant) {
        match sas {
            RekeyedSas::Child => {
                let status = self.endpoint.status(connection);
                for child in status.into_iter().flat_map(|status| status.children) {
                    self.endpoint.rekey_child(child.child, now);
                }
            }
            RekeyedSas::Ike => self.endpoint.rekey_ike(connection, now),
        }
        self.drain();
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        // Certificates are checked at it; the clock may be set, or the machine have slept, at any time.
        self.endpoint.set_date(clock::now(), now);
        self.look_after_device(now);
        for connection in self.connections.values_mut() {
            if let Some(child) = connection.take_liveness() {
                self.endpoint.note_inbound(child, now);
            }
        }
        if self.next_ike_timeout().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        self.drain();
    }

    /// When [`Gateway::handle_timeout`] must be called again.
    pub(crate) fn next_timeout(&self) -> Instant {
        let device = match &self.device {
            DeviceState::Missing { retry_at, .. } => *retry_at,
            DeviceState::Present { check_at, .. } => *check_at,
        };
        self.next_ike_timeout().map_or(device, |ike| ike.min(device))
    }

    /// Deletes every SA at its peer.
    pub(crate) fn close(&mut self, now: Instant) {
        self.endpoint.close(now);
        self.drain();
    }

    /// Whether every peer has acknowledged our deletes.
    pub(crate) fn is_closed(&self) -> bool {
        self.endpoint.is_idle()
    }

    /// Names to resolve since the last call.
    pub(crate) fn take_resolutions(&mut self) -> Vec<(VpnConnectionId, String)> {
        std::mem::take(&mut self.resolutions)
    }

    /// Whether what is reported changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The gateway's report.
    pub(crate) fn report(&self) -> GatewayReport {
        GatewayReport {
            gateway: self.plan.gateway,
            state: match &self.device {
                DeviceState::Missing { on, .. } => ObjectState::Blocked { on: on.clone() },
                DeviceState::Present { .. } => ObjectState::Present,
            },
            counters: self.counters(),
        }
    }

    fn counters(&self) -> GatewayCounters {
        let counters = self.plane.counters();
        GatewayCounters {
            strangers_admitted: counters.strangers_admitted.load(Ordering::Relaxed),
            strangers_refused: counters.strangers_refused.load(Ordering::Relaxed),
            cookies_sent: self.endpoint.cookies_sent(),
            half_open: u32::try_from(self.endpoint.half_open()).unwrap_or(u32::MAX),
            drops: counters
                .drops
                .occurred()
                .map(|(reason, count)| (reason.word().to_owned(), count))
                .collect(),
        }
    }

    /// The reports of its connections.
    pub(crate) fn connection_reports(&self) -> impl Iterator<Item = ConnectionReport> + '_ {
        self.connections
            .iter()
            .map(|(id, connection)| connection.report(self.endpoint.status(*id).as_ref(), &self.times))
    }

    fn admit(&mut self, plan: ConnectionPlan) {
        self.next_handle += 1;
        let mut connection = Connection::new(plan, ConnectionHandle(self.next_handle), self.link_mtu);
        connection.set_carried(self.link_ready);
        self.plane.set_connection(connection.setting());
        self.connections.insert(connection.plan.connection, connection);
    }

    fn connection_of(&self, handle: ConnectionHandle) -> Option<VpnConnectionId> {
        self.connections
            .iter()
            .find(|(_, connection)| connection.handle == handle)
            .map(|(id, _)| *id)
    }

    fn child_with(&self, inbound_spi: u32) -> Option<ChildId> {
        self.connections
            .values()
            .find_map(|connection| connection.child_with(inbound_spi))
    }

    fn next_ike_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout().map(|(at, _)| at)
    }

    fn look_after_device(&mut self, now: Instant) {
        match &mut self.device {
            DeviceState::Present { check_at, device } => {
                if *check_at > now {
                    return;
                }
                *check_at = now + CHECK;
                for connection in self.connections.values_mut() {
                    connection.refresh_path(&self.plane, now);
                }
                if !device.is_in(&self.plan.namespace) {
                    let on = format!("namespace {}", self.plan.namespace);
                    self.lose(&on, now);
                }
            }
            DeviceState::Missing { retry_at, .. } => {
                if *retry_at <= now {
                    self.find_device(now);
                }
            }
        }
    }

    fn find_device(&mut self, now: Instant) {
        match Device::open(
            &self.plan.namespace,
            &self.plan.tun,
            &self.plan.addresses().collect::<Vec<_>>(),
            self.epoch + 1,
        ) {
            Ok(device) => {
                self.epoch += 1;
                let device = Arc::new(device);
                self.link_mtu = device.link_mtu();
                for connection in self.connections.values_mut() {
                    connection.set_link_mtu(&self.plane, self.link_mtu);
                }
                self.plane.attach(&device);
                self.await_link(&device);
                self.device = DeviceState::Present {
                    device,
                    check_at: now + CHECK,
                };
                self.changed = true;
                tracing::info!(gateway = %self.plan.gateway, name = %self.plan.name, "devices are there");
                // What is equal is not touched; what came or changed while there were no sockets is told now.
                for plan in self.plan.connections.clone() {
                    self.configure(&plan, now);
                }
                self.expect_peers();
            }
            Err(error) => self.wait_for(blocked_on(&error), now),
        }
    }

    /// Finds out whether the device takes packets; if not yet, it is said later by [`PlaneEvent::LinkReady`].
    fn await_link(&mut self, device: &Device) {
        let (gateway, epoch) = (self.plan.gateway, self.epoch);
        let watching = device.watch_link().and_then(|mut watch| {
            if watch.takes_packets()? {
                return Ok(true);
            }
            let send = Arc::clone(&self.send);
            thread::Builder::new()
                .name("link-wait".to_owned())
                .stack_size(STACK)
                .spawn(move || {
                    match watch.wait(LINK_PATIENCE) {
                        Ok(true) => {}
                        Ok(false) => tracing::warn!(%gateway, "the device is open and takes no packets"),
                        Err(error) => tracing::warn!(%gateway, %error, "the device cannot be looked at"),
                    }
                    while !send((gateway, PlaneEvent::LinkReady { epoch })) && Arc::strong_count(&send) > 1 {
                        thread::sleep(FULL_QUEUE);
                    }
                })?;
            Ok(false)
        });
        // What cannot be looked at is not waited for.
        let ready = watching.unwrap_or_else(|error| {
            tracing::warn!(%gateway, %error, "the device cannot be looked at");
            true
        });
        if ready {
            self.note_link_ready();
        }
    }

    fn note_link_ready(&mut self) {
        self.link_ready = true;
        for connection in self.connections.values_mut() {
            self.changed |= connection.set_carried(true);
        }
    }

    fn lose(&mut self, on: &str, now: Instant) {
        tracing::warn!(gateway = %self.plan.gateway, name = %self.plan.name, on, "devices are gone");
        self.plane.detach();
        self.device = DeviceState::Missing {
            on: String::new(),
            retry_at: now,
        };
        self.wait_for(on.to_owned(), now);
    }

    fn wait_for(&mut self, what: String, now: Instant) {
        let next = now + RETRY;
        if let DeviceState::Missing { on, retry_at } = &mut self.device {
            *retry_at = next;
            if *on != what {
                tracing::info!(gateway = %self.plan.gateway, on = %what, "waiting");
                *on = what;
                self.changed = true;
            }
        }
    }

    /// Takes everything that the endpoint has to say. Events go first: the peer may send on a new SA as soon as it has
    /// read the message that agrees to it.
    fn drain(&mut self) {
        loop {
            if let Some(event) = self.endpoint.poll_event() {
                self.apply(event);
            } else if let Some(transmit) = self.endpoint.poll_transmit() {
                self.transmit(&transmit);
            } else if let Some(note) = self.endpoint.poll_note() {
                self.changed = true;
                if let Some(connection) = self.connections.get_mut(&note.connection) {
                    connection.log(&note.kind, Instant::now());
                }
            } else {
                return;
            }
        }
    }

    fn transmit(&self, transmit: &Transmit) {
        let DeviceState::Present { device, .. } = &self.device else {
            return;
        };
        let sent = match transmit.framing {
            Framing::Ike => device.send_ike(transmit.local_port, transmit.destination, &transmit.payload),
            Framing::Keepalive => device.send_keepalive(transmit.destination),
        };
        if let Err(error) = sent {
            tracing::debug!(gateway = %self.plan.gateway, to = %transmit.destination, %error, "not sent");
        }
    }

    fn apply(&mut self, event: Event) {
        let plane = &self.plane;
        match event {
            Event::ChildInstalled(child) => {
                if let Some(log) = &mut self.key_log {
                    let remote = child.remote.is_ipv4();
                    let mut own = self.plan.addresses();
                    let local = own.find(|own| own.is_ipv4() == remote);
                    log.write_child(local.unwrap_or(self.plan.public_address), &child);
                }
                if let Some(connection) = self.connections.get_mut(&child.connection) {
                    self.changed |= connection.install(plane, &child);
                }
            }
            Event::ChildOutboundReady { connection, child } => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.use_outbound(plane, child);
                }
            }
            Event::ChildRetired { connection, child } => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.retire(plane, child);
                }
            }
            Event::ChildRemoved { connection, child } => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.remove(plane, child);
                }
            }
            Event::ConnectionStateChanged { connection, state } => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    self.changed |= connection.set_state(convert::tunnel_state(state));
                }
            }
            Event::PeerMoved {
                connection,
                encapsulation,
                remote,
                ..
            } => self.move_peer(connection, convert::destination(encapsulation, remote.ip())),
            Event::SpiClosed { spi } => self.plane.close_spi(spi),
            Event::SpiOpened { spi } => self.plane.open_spi(spi),
            Event::IkeKeysAgreed(keys) => {
                if let Some(log) = &mut self.key_log {
                    log.write_ike(&keys);
                }
            }
            Event::ResolvePeer { connection, name } => self.resolutions.push((connection, name)),
        }
    }

    fn open_key_log(&mut self, directory: Option<&Path>) {
        self.key_log = directory.and_then(|directory| match KeyLog::open(directory) {
            Ok(log) => Some(log),
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(gateway = %self.plan.gateway, %directory, %error, "the key log cannot be opened");
                None
            }
        });
        self.endpoint.tell_keys(self.key_log.is_some());
    }

    fn move_peer(&mut self, connection: VpnConnectionId, remote: Option<SocketAddr>) {
        let Some(connection) = self.connections.get_mut(&connection) else {
            return;
        };
        match remote {
            Some(remote) => connection.move_peer(&self.plane, remote),
            None => {
                self.changed |= connection.set_state(TunnelState::Down {
                    reason: DownReason::Internal,
                    detail: "the peer moved to where ESP cannot be encapsulated".to_owned(),
                });
            }
        }
    }
}

fn blocked_on(error: &DeviceError) -> String {
    use std::error::Error;

    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

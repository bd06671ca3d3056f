//! Both ends, the network between them and the clock.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_ike::{
    ChildDirection, ConnectionConfig, DpdAction, Encapsulation, Endpoint, EstablishMode, Event, IkeIdentity,
    NAT_PORT, PeerEndpoint, Selector, Transmit,
};
use isthmus_types::{
    DhGroup, Encryption, EspProposal, IkeProposal, IkeVersion, Prf, ResourceBits, Secret, TunnelOptions,
    VpnConnectionId,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::link::Link;
use crate::nat::Nat;
use crate::peer::{Flow, Peer};
use crate::pki;

/// Between two ESP packets of one flow, unless it was set otherwise.
const TRAFFIC_INTERVAL: Duration = Duration::from_millis(20);
/// More steps than any test needs at one instant: a loop without progress.
const MAX_STEPS: usize = 2_000_000;

/// IKE datagrams that are kept for tests that say them again.
const MAX_RECORDED: usize = 32;

/// One of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// 192.0.2.1.
    Left,
    /// 192.0.2.2.
    Right,
}

/// Two endpoints joined by a network.
#[derive(Debug)]
pub struct Pair {
    left: Peer,
    right: Peer,
    /// What the network does.
    pub link: Link,
    /// IKE datagrams sent so far, lost ones too.
    pub sent: usize,
    nat: Option<(Side, Nat)>,
    started: Instant,
    now: Instant,
    rng: ChaCha20Rng,
    in_flight: BTreeMap<(Instant, u64), Flight>,
    flights: u64,
    traffic_at: Option<Instant>,
    /// Between two ESP packets of one flow while traffic is on.
    pub traffic_interval: Duration,
    /// What happened, one line each, if it is to be written down.
    pub journal: Option<Vec<String>>,
    configs: BTreeMap<Side, ConnectionConfig>,
    asleep: BTreeMap<Side, Instant>,
    recorded: Vec<(Side, Vec<u8>)>,
}

#[derive(Debug)]
struct Flight {
    to: Side,
    local_port: u16,
    remote: SocketAddr,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Esp(ChildDirection, Flow),
    Ike(Vec<u8>),
}

impl Side {
    /// The other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// The address of the end.
    pub const fn address(self) -> IpAddr {
        match self {
            Self::Left => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            Self::Right => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        }
    }

    /// The connection of the end.
    pub fn connection(self) -> VpnConnectionId {
        VpnConnectionId::from(ResourceBits::from_random(match self {
            Self::Left => 1,
            Self::Right => 2,
        }))
    }
}

impl Pair {
    /// Two ends without connections. All random choices come from `seed`.
    pub fn new(seed: u64, link: Link) -> Self {
        let now = Instant::now();
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut peer = |side: Side| {
            let mut seed = [0; 32];
            rng.fill_bytes(&mut seed);
            Peer::new(endpoint(side, seed, now), side.address())
        };
        Self {
            left: peer(Side::Left),
            right: peer(Side::Right),
            link,
            sent: 0,
            nat: None,
            started: now,
            now,
            rng,
            in_flight: BTreeMap::new(),
            flights: 0,
            traffic_at: None,
            traffic_interval: TRAFFIC_INTERVAL,
            journal: None,
            configs: BTreeMap::new(),
            asleep: BTreeMap::new(),
            recorded: Vec::new(),
        }
    }

    /// A configuration of `side` that fits the default one of the other side.
    pub fn config(side: Side) -> ConnectionConfig {
        let (local, peer) = match side {
            Side::Left => ("10.1.0.0/16", "10.2.0.0/16"),
            Side::Right => ("10.2.0.0/16", "10.1.0.0/16"),
        };
        let cidr = |text: &str| text.parse().expect("a constant range");
        ConnectionConfig {
            connection: side.connection(),
            name: "test".into(),
            admin_up: true,
            reset_count: 0,
            version: IkeVersion::V2,
            peer: PeerEndpoint::Address(side.other().address()),
            local_identity: IkeIdentity::Address(side.address()),
            peer_identity: IkeIdentity::Address(side.other().address()),
            psk: Secret::new("correct horse battery staple".into()),
            establish: EstablishMode::Bidirectional,
            ike_proposals: vec![IkeProposal {
                encryption: vec![Encryption::Aes128Gcm16],
                integrity: vec![],
                prf: vec![Prf::HmacSha2_256],
                dh: vec![DhGroup::X25519],
                additional: Vec::new(),
            }],
            esp_proposals: vec![EspProposal {
                encryption: vec![Encryption::Aes128Gcm16],
                integrity: vec![],
                pfs: vec![],
                additional: Vec::new(),
            }],
            local_cidrs: vec![cidr(local)],
            peer_cidrs: vec![cidr(peer)],
            ike_lifetime_seconds: 14_400,
            esp_lifetime_seconds: 3_600,
            dpd_action: DpdAction::Restart,
            dpd_interval_seconds: 2,
            dpd_timeout_seconds: 10,
            force_encapsulation: false,
            options: TunnelOptions {
                extended_sequence_numbers: false,
                ..TunnelOptions::default()
            },
        }
    }

    /// Puts a NAT before `side`.
    pub fn put_nat(&mut self, side: Side, nat: Nat) {
        self.nat = Some((side, nat));
    }

    /// The NAT, if there is one.
    pub fn nat_mut(&mut self) -> Option<&mut Nat> {
        self.nat.as_mut().map(|(_, nat)| nat)
    }

    /// One end.
    pub const fn peer(&self, side: Side) -> &Peer {
        match side {
            Side::Left => &self.left,
            Side::Right => &self.right,
        }
    }

    /// One end, to change it. Use [`Pair::act`] for what may send.
    pub const fn peer_mut(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }

    /// The time now.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.now - self.started
    }

    /// Lets `act` use the endpoint of `side`, then takes its output.
    pub fn act(&mut self, side: Side, act: impl FnOnce(&mut Endpoint, Instant)) {
        let now = self.now;
        act(&mut self.peer_mut(side).endpoint, now);
        self.drain(side);
    }

    /// Adds or changes the connection of `side`. While traffic is on, packets go from each of its ranges to each of its
    /// peer's: from the first address that the other end, too, counts to that range.
    pub fn upsert(&mut self, side: Side, config: ConnectionConfig) {
        self.configs.insert(side, config.clone());
        for side in [Side::Left, Side::Right] {
            self.peer_mut(side).flows = self.common_flows(side);
        }
        self.act(side, |endpoint, now| endpoint.upsert_connection(config, now));
    }

    /// Adds the default connections at both ends.
    pub fn connect(&mut self) {
        self.upsert(Side::Left, Self::config(Side::Left));
        self.upsert(Side::Right, Self::config(Side::Right));
    }

    /// The process of `side` dies without a word and begins anew, without connections.
    pub fn restart(&mut self, side: Side) {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let endpoint = endpoint(side, seed, self.now);
        let peer = self.peer_mut(side);
        peer.endpoint = endpoint;
        peer.forget();
        self.configs.remove(&side);
        self.asleep.remove(&side);
    }

    /// The process of `side` does not run for `time`, as when its machine sleeps. What arrives waits for it.
    pub fn sleep(&mut self, side: Side, time: Duration) {
        self.asleep.insert(side, self.now + time);
    }

    /// The last configuration of `side` since its process began.
    pub fn configured(&self, side: Side) -> Option<&ConnectionConfig> {
        self.configs.get(&side)
    }

    /// Each end sends ESP packets from now on, or no more.
    pub fn set_traffic(&mut self, on: bool) {
        self.traffic_at = on.then_some(self.now);
    }

    /// A datagram from anywhere arrives at `side` now.
    pub fn inject(&mut self, side: Side, local_port: u16, remote: SocketAddr, bytes: &[u8]) {
        self.act(side, |endpoint, now| {
            endpoint.handle_datagram(local_port, remote, bytes, now);
        });
    }

    /// The first IKE datagrams that were sent to `side`, at most a few dozen in both directions.
    pub fn recorded(&self, side: Side) -> Vec<Vec<u8>> {
        self.recorded
            .iter()
            .filter(|(to, _)| *to == side)
            .map(|(_, bytes)| bytes.clone())
            .collect()
    }

    /// Lets `time` pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_to(end, |_| false);
        self.now = end;
    }

    /// Lets time pass until `condition` holds, for at most `limit`. Says whether it holds.
    pub fn run_until(&mut self, limit: Duration, condition: impl FnMut(&Self) -> bool) -> bool {
        self.run_to(self.now + limit, condition)
    }

    /// Whether both ends are up.
    pub fn is_up(&self) -> bool {
        self.left.is_up() && self.right.is_up()
    }

    fn run_to(&mut self, end: Instant, mut condition: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..MAX_STEPS {
            if condition(self) {
                return true;
            }
            let Some(next) = self.next_instant().filter(|next| *next <= end) else {
                self.now = end;
                return condition(self);
            };
            self.now = self.now.max(next);
            self.step();
        }
        panic!("no progress after {MAX_STEPS} steps at {:?}", self.elapsed());
    }

    fn next_instant(&self) -> Option<Instant> {
        let timeout = |side: Side| {
            let (at, _) = self.peer(side).endpoint.poll_timeout()?;
            Some(self.asleep.get(&side).map_or(at, |awake| at.max(*awake)))
        };
        let arrival = self.in_flight.keys().next().map(|(at, _)| *at);
        [
            timeout(Side::Left),
            timeout(Side::Right),
            arrival,
            self.traffic_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn step(&mut self) {
        let now = self.now;
        self.asleep.retain(|_, awake| *awake > now);
        while let Some(entry) = self
            .in_flight
            .first_entry()
            .filter(|entry| entry.key().0 <= self.now)
        {
            let flight = entry.remove();
            match self.asleep.get(&flight.to) {
                Some(awake) => self.launch(*awake - now, flight),
                None => self.deliver(flight),
            }
        }
        if self.traffic_at.is_some_and(|at| at <= self.now) {
            self.traffic_at = Some(self.now + self.traffic_interval);
            for side in [Side::Left, Side::Right] {
                if !self.asleep.contains_key(&side) {
                    for flow in self.peer(side).flows.clone() {
                        self.send_packet(side, flow);
                    }
                }
            }
        }
        for side in [Side::Left, Side::Right] {
            if self.asleep.contains_key(&side) {
                continue;
            }
            let due = self.peer(side).endpoint.poll_timeout();
            if due.is_some_and(|(at, _)| at <= self.now) {
                self.act(side, Endpoint::handle_timeout);
            }
        }
    }

    /// Writes a line down.
    pub fn note(&mut self, side: Side, what: &str) {
        let at = self.elapsed().as_secs_f64();
        if let Some(journal) = &mut self.journal {
            journal.push(format!("{at:>9.3} {side:?} {what}"));
        }
    }

    fn drain(&mut self, side: Side) {
        while let Some(event) = self.peer_mut(side).endpoint.poll_event() {
            if self.journal.is_some() {
                let line = describe(&event);
                self.note(side, &line);
            }
            self.peer_mut(side).act_on(event);
        }
        while let Some(transmit) = self.peer_mut(side).endpoint.poll_transmit() {
            self.transmit(side, transmit);
        }
    }

    fn transmit(&mut self, side: Side, transmit: Transmit) {
        let number = self.sent;
        self.sent += 1;
        let copies = self.link.pass(number, &mut self.rng);
        if self.journal.is_some() {
            let line = format!("sends {} in {copies:?}", describe_message(&transmit.payload));
            self.note(side, &line);
        }
        let Some((local_port, remote)) = self.translate(side, transmit.local_port, transmit.destination)
        else {
            return;
        };
        if self.recorded.len() < MAX_RECORDED {
            self.recorded.push((side.other(), transmit.payload.clone()));
        }
        for flight in copies {
            let content = Content::Ike(transmit.payload.clone());
            self.launch(
                flight,
                Flight {
                    to: side.other(),
                    local_port,
                    remote,
                    content,
                },
            );
        }
    }

    /// Where a datagram from `side` arrives and whom it seems to come from; none if it goes nowhere.
    fn translate(
        &mut self,
        side: Side,
        local_port: u16,
        destination: SocketAddr,
    ) -> Option<(u16, SocketAddr)> {
        let mut source = SocketAddr::new(side.address(), local_port);
        let mut target = destination;
        if let Some((inside, nat)) = &mut self.nat {
            if *inside == side {
                source = nat.outgoing(local_port);
            } else if destination.ip() == nat.public() {
                target = SocketAddr::new(inside.address(), nat.incoming(destination.port())?);
            } else {
                return None;
            }
        }
        (target.ip() == side.other().address()).then_some((target.port(), source))
    }

    fn send_packet(&mut self, side: Side, flow: Flow) {
        let Some(child) = self.peer(side).sending_child_for(flow) else {
            self.peer_mut(side).unsent += 1;
            return;
        };
        let direction = child.sa.outbound.clone();
        let (local_port, destination) = match child.sa.encapsulation {
            Encapsulation::None => (0, SocketAddr::new(child.sa.remote, 0)),
            Encapsulation::Udp { local_port, remote } => (local_port, remote),
        };
        let flight = self.link.flight(&mut self.rng);
        let arrives = if local_port == 0 {
            Some((0, SocketAddr::new(side.address(), 0)))
        } else {
            self.translate(side, local_port, destination)
        };
        let Some((local_port, remote)) = arrives else {
            self.peer_mut(side.other()).lost += 1;
            return;
        };
        self.launch(
            flight,
            Flight {
                to: side.other(),
                local_port,
                remote,
                content: Content::Esp(direction, flow),
            },
        );
    }

    fn launch(&mut self, time: Duration, flight: Flight) {
        self.flights += 1;
        self.in_flight.insert((self.now + time, self.flights), flight);
    }

    fn deliver(&mut self, flight: Flight) {
        match flight.content {
            Content::Ike(bytes) => self.inject(flight.to, flight.local_port, flight.remote, &bytes),
            Content::Esp(direction, flow) => {
                let encapsulated = flight.local_port == NAT_PORT;
                let peer = self.peer_mut(flight.to);
                let found = peer
                    .children
                    .values()
                    .find(|child| {
                        same_direction(&child.sa.inbound, &direction) && child.admits(flow.reversed())
                    })
                    .map(|child| child.sa.child);
                let Some(child) = found else {
                    peer.lost += 1;
                    return;
                };
                peer.received += 1;
                self.act(flight.to, |endpoint, now| {
                    endpoint.note_inbound(child, now);
                    if encapsulated {
                        endpoint.note_peer_address(child, flight.remote, now);
                    }
                });
            }
        }
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::ChildInstalled(child) => {
            let words = |selectors: &[Selector]| {
                let words: Vec<String> = selectors.iter().map(ToString::to_string).collect();
                words.join(",")
            };
            format!(
                "installs {:?} lane {} {:08x} {:08x} {:?} {}={}",
                child.child,
                child.lane,
                child.inbound.spi,
                child.outbound.spi,
                child.outbound_use,
                words(&child.local_selectors),
                words(&child.remote_selectors)
            )
        }
        Event::ChildOutboundReady { child, .. } => format!("sends on {child:?}"),
        Event::ChildRetired { child, .. } => format!("retires {child:?}"),
        Event::ChildRemoved { child, .. } => format!("removes {child:?}"),
        Event::ConnectionStateChanged { state, .. } => format!("is {state:?}"),
        Event::PeerMoved { remote, .. } => format!("follows to {remote}"),
        Event::IkeKeysAgreed(_) => "agrees on IKE keys".into(),
        Event::ResolvePeer { name, .. } => format!("asks for {name}"),
        Event::SpiClosed { spi } => format!("closes IKE SPI {spi:016x}"),
        Event::SpiOpened { spi } => format!("opens IKE SPI {spi:016x}"),
    }
}

/// SPI of the initiator, exchange, message id and direction.
fn describe_message(bytes: &[u8]) -> String {
    match (bytes.get(..4), bytes.get(18..24)) {
        (Some([a, b, ..]), Some(&[exchange, flags, _, _, _, id])) => {
            let kind = if flags & 0x20 == 0 { "request" } else { "response" };
            format!("{a:02x}{b:02x} {kind} {exchange}/{id}, {} bytes", bytes.len())
        }
        _ => "a keepalive".into(),
    }
}

pub(crate) fn same_direction(left: &ChildDirection, right: &ChildDirection) -> bool {
    left.spi == right.spi
        && left.keys.encryption() == right.keys.encryption()
        && left.keys.integrity() == right.keys.integrity()
}

fn endpoint(side: Side, seed: [u8; 32], now: Instant) -> Endpoint {
    let mut endpoint = Endpoint::new(side.address(), seed, now);
    endpoint.set_date(pki::DATE, now);
    endpoint
}

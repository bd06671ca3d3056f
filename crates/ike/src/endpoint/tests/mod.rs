//! Two endpoints whose messages the tests can see, hold back and forge with the keys of a peer.

mod answers;
mod duplicates;
mod garbage;
mod guesses;
mod half_open;
mod lanes;
mod memory;
mod overtaking;
mod peer_name;
mod refusals;
mod weak_signature;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use isthmus_types::{
    DhGroup, Encryption, EspProposal, IkeProposal, IkeVersion, Integrity, Prf, ResourceBits, Secret,
    TunnelOptions, VpnConnectionId,
};
use isthmus_wire::ike::{ExchangeType, Message, Payload};

use super::{Endpoint, IKE_PORT};
use crate::config::{ConnectionConfig, DpdAction, EstablishMode, IkeIdentity, PeerEndpoint};
use crate::event::{Event, Transmit};
use crate::sa::{Established, IkeSa, State};
use crate::status::{ConnectionState, DownReason};

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

fn connection() -> VpnConnectionId {
    VpnConnectionId::from(ResourceBits::from_random(1))
}

/// The left end initiates, the right one only answers.
fn config(local: IpAddr) -> ConnectionConfig {
    let (peer, local_cidr, peer_cidr, establish) = if local == LEFT {
        (RIGHT, "10.1.0.0/16", "10.2.0.0/16", EstablishMode::Bidirectional)
    } else {
        (LEFT, "10.2.0.0/16", "10.1.0.0/16", EstablishMode::PeerOnly)
    };
    ConnectionConfig {
        connection: connection(),
        name: "test".into(),
        admin_up: true,
        reset_count: 0,
        version: IkeVersion::V2,
        peer: PeerEndpoint::Address(peer),
        local_identity: IkeIdentity::Address(local),
        peer_identity: IkeIdentity::Address(peer),
        psk: Secret::new("correct horse battery staple".into()),
        establish,
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
        local_cidrs: vec![local_cidr.parse().unwrap()],
        peer_cidrs: vec![peer_cidr.parse().unwrap()],
        ike_lifetime_seconds: 14_400,
        esp_lifetime_seconds: 3_600,
        dpd_action: DpdAction::None,
        dpd_interval_seconds: 2,
        dpd_timeout_seconds: 10,
        force_encapsulation: false,
        options: TunnelOptions {
            extended_sequence_numbers: false,
            ..TunnelOptions::default()
        },
    }
}

/// The same with IKEv1.
fn version_1(local: IpAddr) -> ConnectionConfig {
    let mut config = config(local);
    config.version = IkeVersion::V1;
    let [proposal] = config.ike_proposals.as_mut_slice() else {
        panic!("one proposal")
    };
    proposal.encryption = vec![Encryption::Aes128Cbc];
    proposal.integrity = vec![Integrity::HmacSha2_256_128];
    config
}

struct Ends {
    left: Endpoint,
    right: Endpoint,
    now: Instant,
    /// What the right end received.
    heard: Vec<(u16, Vec<u8>)>,
}

impl Ends {
    fn new() -> Self {
        Self::seeded([1, 2])
    }

    /// Without connections; all random choices come from `seeds`.
    fn seeded(seeds: [u8; 2]) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        Self {
            left: Endpoint::new(LEFT, [seeds[0]; 32], now),
            right: Endpoint::new(RIGHT, [seeds[1]; 32], now),
            now,
            heard: Vec::new(),
        }
    }

    /// Both ends with the configurations that fit each other, up.
    fn established() -> Self {
        let mut ends = Self::new();
        ends.bring_up();
        ends
    }

    /// Adds the configurations and lets the left end begin.
    fn bring_up(&mut self) {
        self.right.upsert_connection(config(RIGHT), self.now);
        self.left.upsert_connection(config(LEFT), self.now);
        self.exchange();
        assert_eq!(self.left.state(connection()), Some(ConnectionState::Up));
        assert_eq!(self.right.state(connection()), Some(ConnectionState::Up));
    }

    /// Delivers datagrams until nobody has more to say.
    fn exchange(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(transmit) = self.left.poll_transmit() {
                quiet = false;
                self.deliver_right(&transmit);
            }
            while let Some(transmit) = self.right.poll_transmit() {
                quiet = false;
                self.deliver_left(&transmit);
            }
            if quiet {
                return;
            }
        }
    }

    fn deliver_right(&mut self, transmit: &Transmit) {
        let port = transmit.destination.port();
        self.heard.push((port, transmit.payload.clone()));
        let source = SocketAddr::new(LEFT, transmit.local_port);
        self.right
            .handle_datagram(port, source, &transmit.payload, self.now);
    }

    fn deliver_left(&mut self, transmit: &Transmit) {
        let source = SocketAddr::new(RIGHT, transmit.local_port);
        let port = transmit.destination.port();
        self.left
            .handle_datagram(port, source, &transmit.payload, self.now);
    }

    /// Time passes, and all that is due happens.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(500)).min(end);
            self.left.handle_timeout(self.now);
            self.right.handle_timeout(self.now);
            self.exchange();
        }
    }

    /// The answer of the right end to a request that the left one would not send by itself.
    fn ask(&mut self, exchange: ExchangeType, payloads: &[Payload]) -> Vec<Payload> {
        let channel = &mut only_established(&mut self.left).channel;
        let (_, request) = channel.request(exchange, payloads).unwrap();
        let answer = self.answer_to(&request.0[0]).expect("an answer");
        let message = Message::decode(&answer).unwrap();
        only_established(&mut self.left)
            .channel
            .open(&answer, &message)
            .unwrap()
    }

    /// What the right end answers to a datagram from the left one.
    fn answer_to(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        let source = SocketAddr::new(LEFT, IKE_PORT);
        self.right.handle_datagram(IKE_PORT, source, datagram, self.now);
        let answer = self.right.poll_transmit().map(|transmit| transmit.payload);
        assert!(self.right.poll_transmit().is_none(), "one answer at most");
        answer
    }
}

fn only_sa(endpoint: &mut Endpoint) -> &mut IkeSa {
    assert_eq!(endpoint.sas.len(), 1);
    endpoint.sas.values_mut().next().unwrap()
}

fn only_established(endpoint: &mut Endpoint) -> &mut Established {
    only_sa(endpoint).established_mut().expect("established")
}

fn half_open(endpoint: &Endpoint) -> usize {
    let counted = endpoint.sas.recounted_half_open();
    assert_eq!(*endpoint.sas.half_open(), counted, "the index is what is there");
    counted.all()
}

fn installed(endpoint: &mut Endpoint) -> usize {
    std::iter::from_fn(|| endpoint.poll_event())
        .filter(|event| matches!(event, Event::ChildInstalled(_)))
        .count()
}

fn down(endpoint: &Endpoint) -> (DownReason, String) {
    match endpoint.state(connection()) {
        Some(ConnectionState::Down { reason, detail }) => (reason, detail),
        other => panic!("not down: {other:?}"),
    }
}

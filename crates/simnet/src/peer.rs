//! One end: an endpoint and what its shell would have installed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use isthmus_ike::{ChildId, ChildSa, ConnectionState, Endpoint, Event, OutboundUse, Selector};
use isthmus_types::VpnConnectionId;

/// An endpoint with a shell that only remembers.
#[derive(Debug)]
pub struct Peer {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its address.
    pub address: IpAddr,
    /// The children that are installed.
    pub children: BTreeMap<ChildId, InstalledChild>,
    /// IKE SPIs of ours that were announced.
    pub ike_spis: BTreeSet<u64>,
    /// The last reported state of each connection.
    pub states: BTreeMap<VpnConnectionId, ConnectionState>,
    /// ESP packets that came for no child or with other keys.
    pub lost: u64,
    /// ESP packets that came for a child.
    pub received: u64,
    /// Times that a packet could not be sent, because no child admits it.
    pub unsent: u64,
    /// What it sends while traffic is on: see [`crate::Pair::upsert`].
    pub flows: Vec<Flow>,
    /// Times that the peer's address changed.
    pub moves: u64,
    turns: u64,
}

/// The addresses of the packets that an end sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// On the sender's side.
    pub source: IpAddr,
    /// On the receiver's side.
    pub destination: IpAddr,
}

impl Flow {
    /// The answering flow.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// A child as the shell has it.
#[derive(Debug)]
pub struct InstalledChild {
    /// What was installed.
    pub sa: ChildSa,
    /// Whether packets are sent on it.
    pub sending: Sending,
}

/// Whether packets are sent on a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// No more.
    Ended,
    /// Yes; of several the one with the highest turn is used.
    Since {
        /// When its turn came.
        turn: u64,
    },
    /// Not yet.
    Waits,
}

impl InstalledChild {
    /// Whether its selectors admit packets from the end itself with these addresses.
    pub fn admits(&self, flow: Flow) -> bool {
        let any = |selectors: &[Selector], address: IpAddr| {
            selectors.iter().any(|selector| {
                selector.start.is_ipv4() == address.is_ipv4()
                    && selector.start <= address
                    && address <= selector.end
            })
        };
        any(&self.sa.local_selectors, flow.source) && any(&self.sa.remote_selectors, flow.destination)
    }
}

impl Peer {
    pub(crate) fn new(endpoint: Endpoint, address: IpAddr) -> Self {
        Self {
            endpoint,
            address,
            children: BTreeMap::new(),
            ike_spis: BTreeSet::new(),
            states: BTreeMap::new(),
            lost: 0,
            received: 0,
            unsent: 0,
            flows: Vec::new(),
            moves: 0,
            turns: 0,
        }
    }

    /// Forgets everything installed, as when the process dies.
    pub(crate) fn forget(&mut self) {
        self.children.clear();
        self.ike_spis.clear();
        self.states.clear();
    }

    /// The child that packets are sent on now.
    pub fn sending_child(&self) -> Option<&InstalledChild> {
        self.children
            .values()
            .filter_map(|child| match child.sending {
                Sending::Since { turn } => Some((turn, child)),
                Sending::Ended | Sending::Waits => None,
            })
            .max_by_key(|(turn, _)| *turn)
            .map(|(_, child)| child)
    }

    /// The child that packets of `flow` are sent on now.
    pub fn sending_child_for(&self, flow: Flow) -> Option<&InstalledChild> {
        self.children
            .values()
            .filter_map(|child| match child.sending {
                Sending::Since { turn } if child.admits(flow) => Some((turn, child)),
                Sending::Since { .. } | Sending::Ended | Sending::Waits => None,
            })
            .max_by_key(|(turn, _)| *turn)
            .map(|(_, child)| child)
    }

    /// Whether every connection is up and there is at least one.
    pub fn is_up(&self) -> bool {
        !self.states.is_empty() && self.states.values().all(|state| *state == ConnectionState::Up)
    }

    pub(crate) fn act_on(&mut self, event: Event) {
        match event {
            Event::ChildInstalled(sa) => {
                let sending = match sa.outbound_use {
                    OutboundUse::Now => self.turn(),
                    OutboundUse::Wait => Sending::Waits,
                };
                let doubled = self
                    .children
                    .insert(sa.child, InstalledChild { sa: *sa, sending });
                assert!(doubled.is_none(), "a child was installed twice");
            }
            Event::ChildOutboundReady { child, .. } => {
                let turn = self.turn();
                let child = self.children.get_mut(&child).expect("a ready child is installed");
                assert_eq!(child.sending, Sending::Waits, "a child became ready twice");
                child.sending = turn;
            }
            Event::ChildRetired { child, .. } => {
                let child = self
                    .children
                    .get_mut(&child)
                    .expect("a retired child is installed");
                child.sending = Sending::Ended;
            }
            Event::ChildRemoved { child, .. } => {
                assert!(
                    self.children.remove(&child).is_some(),
                    "a removed child was installed"
                );
            }
            Event::ConnectionStateChanged { connection, state } => {
                self.states.insert(connection, state);
            }
            Event::PeerMoved {
                children,
                encapsulation,
                ..
            } => {
                self.moves += 1;
                for id in children {
                    if let Some(child) = self.children.get_mut(&id) {
                        child.sa.encapsulation = encapsulation;
                    }
                }
            }
            Event::SpiOpened { spi } => {
                assert!(self.ike_spis.insert(spi), "an IKE SPI was opened twice");
            }
            Event::SpiClosed { spi } => {
                assert!(self.ike_spis.remove(&spi), "a closed IKE SPI was open");
            }
            Event::IkeKeysAgreed(_) | Event::ResolvePeer { .. } => {}
        }
    }

    fn turn(&mut self) -> Sending {
        self.turns += 1;
        Sending::Since { turn: self.turns }
    }
}

//! One end: an endpoint and what its shell would have installed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use isthmus_ike::{ChildId, ChildSa, ConnectionState, Endpoint, Event, OutboundUse};
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
    /// The last reported state of each connection.
    pub states: BTreeMap<VpnConnectionId, ConnectionState>,
    /// ESP packets that came for no child or with other keys.
    pub lost: u64,
    /// ESP packets that came for a child.
    pub received: u64,
    /// Times that the peer's address changed.
    pub moves: u64,
    turns: u64,
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

impl Peer {
    pub(crate) fn new(endpoint: Endpoint, address: IpAddr) -> Self {
        Self {
            endpoint,
            address,
            children: BTreeMap::new(),
            states: BTreeMap::new(),
            lost: 0,
            received: 0,
            moves: 0,
            turns: 0,
        }
    }

    /// Forgets everything installed, as when the process dies.
    pub(crate) fn forget(&mut self) {
        self.children.clear();
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
            Event::IkeKeysAgreed(_)
            | Event::ResolvePeer { .. }
            | Event::SpiClosed { .. }
            | Event::SpiOpened { .. } => {}
        }
    }

    fn turn(&mut self) -> Sending {
        self.turns += 1;
        Sending::Since { turn: self.turns }
    }
}

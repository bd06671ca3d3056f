//! A NAT before one end.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Translates the source of outgoing and the destination of incoming datagrams.
#[derive(Clone, Debug)]
pub struct Nat {
    public: IpAddr,
    mappings: BTreeMap<u16, u16>,
    next_port: u16,
}

impl Nat {
    /// A NAT with the address `public` outside.
    pub const fn new(public: IpAddr) -> Self {
        Self {
            public,
            mappings: BTreeMap::new(),
            next_port: 20_000,
        }
    }

    /// The address outside.
    pub const fn public(&self) -> IpAddr {
        self.public
    }

    /// Forgets all mappings, as after a restart: new ones get other ports.
    pub fn rebind(&mut self) {
        self.mappings.clear();
    }

    /// Where a datagram from `local_port` seems to come from.
    pub(crate) fn outgoing(&mut self, local_port: u16) -> SocketAddr {
        let next = &mut self.next_port;
        let port = *self.mappings.entry(local_port).or_insert_with(|| {
            *next += 1;
            *next
        });
        SocketAddr::new(self.public, port)
    }

    /// The port inside that a datagram to `port` outside goes to.
    pub(crate) fn incoming(&self, port: u16) -> Option<u16> {
        self.mappings
            .iter()
            .find(|(_, outside)| **outside == port)
            .map(|(inside, _)| *inside)
    }
}

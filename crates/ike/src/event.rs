//! What an endpoint gives to its shell.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_types::VpnConnectionId;

use crate::algorithm::SequenceNumbers;
use crate::selector::Selector;
use crate::status::ConnectionState;

/// A Child SA pair, unique within its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Local UDP port to send from: 500 or 4500.
    pub local_port: u16,
    /// Where to.
    pub destination: SocketAddr,
    /// What, without the non-ESP marker.
    pub payload: Vec<u8>,
    /// What goes before it.
    pub framing: Framing,
}

/// What goes before a payload on port 4500.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// An IKE message: four zero bytes on port 4500, nothing on port 500.
    Ike,
    /// A NAT keepalive: nothing.
    Keepalive,
}

/// The keys of an IKE SA, for who reads captures of it.
#[derive(Clone, Debug)]
pub struct IkeSaKeys {
    /// SPI of the original initiator.
    pub initiator_spi: u64,
    /// SPI of the original responder.
    pub responder_spi: u64,
    /// Cipher and integrity of both directions.
    pub cipher: CipherSuite,
    /// SK_ei and SK_ai.
    pub initiator: KeyMaterial,
    /// SK_er and SK_ar.
    pub responder: KeyMaterial,
}

/// Something the shell must act on, in order.
#[derive(Debug)]
pub enum Event {
    /// Install this Child SA pair. Inbound is in use at once.
    ChildInstalled(Box<ChildSa>),
    /// From now on send on this child what its selectors admit, rather than on older ones of the connection and the same
    /// [`ChildSa::lane`]. Older ones go on with what only their selectors admit, until [`Event::ChildRetired`].
    ChildOutboundReady {
        /// Its connection.
        connection: VpnConnectionId,
        /// The child.
        child: ChildId,
    },
    /// Stop sending on this child, still receive on it.
    ChildRetired {
        /// Its connection.
        connection: VpnConnectionId,
        /// The child.
        child: ChildId,
    },
    /// Remove both directions of this child.
    ChildRemoved {
        /// Its connection.
        connection: VpnConnectionId,
        /// The child.
        child: ChildId,
    },
    /// The state of a connection is another one.
    ConnectionStateChanged {
        /// The connection.
        connection: VpnConnectionId,
        /// Its state now.
        state: ConnectionState,
    },
    /// These keys protect an IKE SA. Only after [`crate::Endpoint::tell_keys`].
    IkeKeysAgreed(Box<IkeSaKeys>),
    /// The outer address of the peer changed (RFC 7296 section 2.23): use it for these children.
    PeerMoved {
        /// The connection.
        connection: VpnConnectionId,
        /// Its children that move.
        children: Vec<ChildId>,
        /// How to send from now on.
        encapsulation: Encapsulation,
        /// The new address, with the port where encapsulated.
        remote: SocketAddr,
    },
    /// Resolve this name and call [`crate::Endpoint::peer_resolved`].
    ResolvePeer {
        /// The connection that needs it.
        connection: VpnConnectionId,
        /// The name.
        name: String,
    },
    /// Messages with this SPI of ours concern an IKE SA from now on; see [`Event::SpiClosed`].
    SpiOpened {
        /// The SPI.
        spi: u64,
    },
    /// No IKE SA has this SPI any more.
    SpiClosed {
        /// The SPI.
        spi: u64,
    },
}

/// A pair of ESP SAs.
#[derive(Clone, Debug)]
pub struct ChildSa {
    /// The connection it belongs to.
    pub connection: VpnConnectionId,
    /// Its id.
    pub child: ChildId,
    /// Cipher and integrity of both directions.
    pub suite: CipherSuite,
    /// Width of the sequence numbers.
    pub sequence_numbers: SequenceNumbers,
    /// From the peer to us.
    pub inbound: ChildDirection,
    /// From us to the peer.
    pub outbound: ChildDirection,
    /// When the outbound side may be used.
    pub outbound_use: OutboundUse,
    /// Traffic on our side.
    pub local_selectors: Vec<Selector>,
    /// Traffic on the peer's side.
    pub remote_selectors: Vec<Selector>,
    /// Which of several Child SAs for the same selectors that are in use at once (RFC 9611), from zero. Its replacement has
    /// the same one.
    pub lane: u8,
    /// How the packets are carried.
    pub encapsulation: Encapsulation,
    /// Address of the peer.
    pub remote: IpAddr,
    /// How long it lives.
    pub lifetime: ChildLifetime,
}

/// One direction of a Child SA.
#[derive(Clone, Debug)]
pub struct ChildDirection {
    /// The SPI on the wire.
    pub spi: u32,
    /// Its keys.
    pub keys: KeyMaterial,
}

/// When an outbound SA may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundUse {
    /// At once, as with [`Event::ChildOutboundReady`].
    Now,
    /// When [`Event::ChildOutboundReady`] says so.
    Wait,
}

/// How ESP packets are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// As IP protocol 50.
    None,
    /// In UDP (RFC 3948).
    Udp {
        /// Port to send from.
        local_port: u16,
        /// Where to.
        remote: SocketAddr,
    },
}

/// How long a Child SA lives. The endpoint itself replaces and removes it in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildLifetime {
    /// From installation to the first attempt to replace it; none if the peer alone does so.
    pub rekey_after: Option<Duration>,
    /// From installation to its removal.
    pub expire_after: Duration,
}

//! The packet plane of one gateway: from TUN to UDP and from UDP to TUN, under load each on a thread of its own.
//!
//! One thread alone owns an SA and is told of changes through a bounded queue, so a packet meets no lock. Where a
//! connection has several SAs for the same traffic (RFC 9611) they are dealt out over lanes: the thread that reads for a
//! direction is the first of them, and gives the packets that are for the SAs of another to the thread of that one. The
//! threads live as long as the gateway; its devices may come and go under them, which the SAs survive.

#[cfg(test)]
mod allocation;
mod batch;
mod device;
mod gate;
mod inbound;
mod lane;
mod native;
mod opening;
mod outbound;
mod outer;
mod queue;
mod runs;
mod sealing;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use isthmus_esp::policy::Admission;
use isthmus_esp::{ConnectionHandle, DropCounters, InboundSa, OutboundSa, Policy, Selectors};
use isthmus_types::VpnGatewayId;

pub use device::{Device, DeviceError};
pub use gate::{ExpectedPeers, Ticket};
use inbound::Inbound;
pub use native::PathReport;
use outbound::Outbound;
pub use outer::{Wrapping, is_native, native};
use queue::{CommandSender, command_queue};

/// UDP port of IKE.
pub const IKE_PORT: u16 = 500;
/// UDP port of IKE and ESP behind a NAT (RFC 3948).
pub const NAT_PORT: u16 = 4500;

/// Most lanes of a direction, and cores for each by default: there are two directions.
const MAX_LANES: usize = 8;
const CORES_PER_LANE: usize = 2;
/// More lanes than a connection may have SAs for the same traffic are of no use.
const MOST_LANES: usize = 16;
/// Environment variable with the number of lanes to use instead.
const LANES_VARIABLE: &str = "ISTHMUS_PACKET_LANES";
const STACK: usize = 512 << 10;
const QUEUE: usize = 1024;

/// What passed through one connection, or a whole gateway, readable from any thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of inner packets received.
    pub bytes_in: AtomicU64,
    /// Bytes of inner packets sent.
    pub bytes_out: AtomicU64,
    /// Inner packets received.
    pub packets_in: AtomicU64,
    /// Inner packets sent.
    pub packets_out: AtomicU64,
    /// Of a whole gateway: first IKE messages of strangers that were passed on.
    pub strangers_admitted: AtomicU64,
    /// Of a whole gateway: IKE messages of strangers that were thrown away.
    pub strangers_refused: AtomicU64,
    /// Authentic ESP packets received, also those without an inner packet.
    pub authentic_in: AtomicU64,
    /// Packets dropped.
    pub drops: DropCounters,
}

/// What passed through one pair of SAs, readable from any thread. The lane that has the SA alone writes its direction.
#[derive(Debug, Default)]
pub struct SaTraffic {
    /// Bytes of inner packets received.
    pub bytes_in: AtomicU64,
    /// Bytes of inner packets sent.
    pub bytes_out: AtomicU64,
    /// Inner packets received.
    pub packets_in: AtomicU64,
    /// Inner packets sent.
    pub packets_out: AtomicU64,
}

impl SaTraffic {
    /// Adds to a counter that no other thread writes, so that nothing needs to be locked for each packet.
    fn add(counter: &AtomicU64, added: u64) {
        let sum = counter.load(Ordering::Relaxed).wrapping_add(added);
        counter.store(sum, Ordering::Relaxed);
    }
}

/// What the plane tells its owner.
#[derive(Debug)]
pub enum PlaneEvent {
    /// A packet waits for an SA of this connection.
    Acquire(ConnectionHandle),
    /// A device failed; `epoch` is that of its attachment.
    DeviceLost {
        /// Which attachment.
        epoch: u64,
        /// What the system said.
        error: String,
    },
    /// An SA has carried all that it may.
    Exhausted {
        /// Its owner's mark: the SPI of the inbound SA of the pair.
        id: u32,
    },
    /// The first authentic packet came on this inbound SA.
    FirstInbound {
        /// Its SPI.
        spi: u32,
    },
    /// A datagram for IKE, without the marker of port 4500.
    Ike {
        /// The port of ours that it came to.
        local_port: u16,
        /// Its sender.
        remote: SocketAddr,
        /// The message.
        message: Vec<u8>,
        /// The sender's place among the strangers that wait, if it is one; held until the message is dealt with.
        stranger: Option<Ticket>,
    },
    /// The device takes packets, or does not after a long time; `epoch` is that of its attachment.
    LinkReady {
        /// Which attachment.
        epoch: u64,
    },
    /// An SA has used most of its sequence numbers or its lifetime.
    NearExhaustion {
        /// Its owner's mark: the SPI of the inbound SA of the pair.
        id: u32,
    },
    /// Somebody says that packets of ours are too big for their path.
    Path(PathReport),
    /// The newest authentic packet on this inbound SA came from another address than expected.
    PeerAddress {
        /// Its SPI.
        spi: u32,
        /// Where the packet came from.
        remote: SocketAddr,
    },
}

/// An event and the gateway that it is of.
pub type GatewayEvent = (VpnGatewayId, PlaneEvent);

/// Sends a plane's events to its owner, never waiting.
#[derive(Clone)]
pub(crate) struct EventSender {
    gateway: VpnGatewayId,
    send: Arc<dyn Fn(GatewayEvent) -> bool + Send + Sync>,
}

impl EventSender {
    /// False if the owner's queue is full.
    fn try_send(&self, event: PlaneEvent) -> bool {
        (self.send)((self.gateway, event))
    }
}

/// The running threads of one gateway. Dropping it ends them.
pub struct Plane {
    inbound: CommandSender<InboundCommand>,
    outbound: CommandSender<OutboundCommand>,
    threads: Vec<JoinHandle<()>>,
    counters: Arc<Counters>,
}

enum OutboundCommand {
    Attach(Arc<Device>),
    Detach,
    InsertSa(Box<NewOutboundSa>),
    RemoveConnection(ConnectionHandle),
    RemoveSa {
        connection: ConnectionHandle,
        id: u32,
    },
    SetConnection(Box<ConnectionSetting>),
    SetInnerMtu {
        connection: ConnectionHandle,
        id: u32,
        inner_mtu: u16,
    },
    SetMtu(u16),
    SetRemote {
        connection: ConnectionHandle,
        remote: SocketAddr,
    },
    Stop,
}

enum InboundCommand {
    Attach(Arc<Device>),
    CloseSpi(u64),
    Detach,
    Expect(ExpectedPeers),
    InsertSa(Box<NewInboundSa>),
    OpenSpi(u64),
    RemoveSa { spi: u32 },
    SetInnerMtu { spi: u32, inner_mtu: u16 },
    SetRemote { spi: u32, remote: SocketAddr },
    Stop,
}

/// A connection as the plane must treat it.
pub struct ConnectionSetting {
    /// The connection.
    pub connection: ConnectionHandle,
    /// The pairs of ranges that it protects.
    pub policies: Vec<Policy>,
    /// Whether it may carry packets.
    pub admission: Admission,
    /// Where its packets are counted.
    pub counters: Arc<Counters>,
}

/// An outbound SA to use from now on.
pub struct NewOutboundSa {
    /// The connection that it is for.
    pub connection: ConnectionHandle,
    /// The owner's mark for it: the SPI of the inbound SA that belongs to it.
    pub id: u32,
    /// The SA.
    pub sa: OutboundSa,
    /// Which of the SAs for the same traffic that are used beside each other it is, from zero.
    pub lane: u8,
    /// What it may carry.
    pub selectors: Selectors,
    /// Where its packets go; its port is 0 for those without UDP.
    pub remote: SocketAddr,
    /// How they are wrapped.
    pub wrapping: Wrapping,
    /// Where its packets are counted, beside its connection's counters.
    pub traffic: Arc<SaTraffic>,
}

/// An inbound SA to accept from now on.
pub struct NewInboundSa {
    /// The SA.
    pub sa: InboundSa,
    /// Which of the SAs for the same traffic that are used beside each other it is, from zero.
    pub lane: u8,
    /// Where its packets should come from.
    pub remote: SocketAddr,
    /// Largest packet that its peer should send: TCP connections are told.
    pub inner_mtu: u16,
    /// Where its packets are counted.
    pub counters: Arc<Counters>,
    /// Where its packets are counted, beside its connection's counters.
    pub traffic: Arc<SaTraffic>,
}

impl Plane {
    /// Starts the threads, without devices and SAs. `send` puts an event into the owner's queue and says whether
    /// there was room; it must not wait. SAs may be spread over as many lanes as the cores suggest, or as the environment
    /// variable `ISTHMUS_PACKET_LANES` says.
    ///
    /// # Errors
    /// Those of making threads and event descriptors.
    pub fn start(
        gateway: VpnGatewayId,
        mtu: u16,
        send: Arc<dyn Fn(GatewayEvent) -> bool + Send + Sync>,
    ) -> io::Result<Self> {
        let asked = std::env::var(LANES_VARIABLE).ok();
        let asked = asked.and_then(|text| text.trim().parse().ok());
        let lanes = asked.unwrap_or_else(|| (cores() / CORES_PER_LANE).min(MAX_LANES));
        Self::start_with_lanes(gateway, mtu, lanes, send)
    }

    /// As [`Plane::start`], with SAs spread over up to `lanes` threads in each direction: 1 to 16.
    ///
    /// # Errors
    /// Those of making threads and event descriptors.
    pub fn start_with_lanes(
        gateway: VpnGatewayId,
        mtu: u16,
        lanes: usize,
        send: Arc<dyn Fn(GatewayEvent) -> bool + Send + Sync>,
    ) -> io::Result<Self> {
        let lanes = lanes.clamp(1, MOST_LANES);
        let counters = Arc::new(Counters::default());
        let events = EventSender { gateway, send };
        let (outbound, outbound_commands) = command_queue(QUEUE)?;
        let (inbound, inbound_commands) = command_queue(QUEUE)?;
        let mut plane = Self {
            inbound,
            outbound,
            threads: Vec::new(),
            counters: Arc::clone(&counters),
        };
        let outbound = Outbound::new(
            outbound_commands,
            events.clone(),
            Arc::clone(&counters),
            mtu,
            lanes,
        );
        let inbound = Inbound::new(inbound_commands, events, counters, lanes);
        plane.threads = worker::start(outbound, inbound, cores())?;
        Ok(plane)
    }

    /// Gives both threads their devices.
    pub fn attach(&self, device: &Arc<Device>) {
        self.inbound.send(InboundCommand::Attach(Arc::clone(device)));
        self.outbound.send(OutboundCommand::Attach(Arc::clone(device)));
    }

    /// Takes the devices away.
    pub fn detach(&self) {
        self.inbound.send(InboundCommand::Detach);
        self.outbound.send(OutboundCommand::Detach);
    }

    /// Adds or changes a connection; its SAs stay.
    pub fn set_connection(&self, setting: ConnectionSetting) {
        self.outbound
            .send(OutboundCommand::SetConnection(Box::new(setting)));
    }

    /// Removes a connection and its outbound SAs. Its inbound SAs are to be removed one by one.
    pub fn remove_connection(&self, connection: ConnectionHandle) {
        self.outbound.send(OutboundCommand::RemoveConnection(connection));
    }

    /// Accepts packets on an SA.
    pub fn insert_inbound(&self, sa: NewInboundSa) {
        self.inbound.send(InboundCommand::InsertSa(Box::new(sa)));
    }

    /// Prefers an SA to those that its connection has, and sends the packets that waited for it.
    pub fn insert_outbound(&self, sa: NewOutboundSa) {
        self.outbound.send(OutboundCommand::InsertSa(Box::new(sa)));
    }

    /// Takes IKE messages with this SPI of ours.
    pub fn open_spi(&self, spi: u64) {
        self.inbound.send(InboundCommand::OpenSpi(spi));
    }

    /// Takes no IKE messages with this SPI any more.
    pub fn close_spi(&self, spi: u64) {
        self.inbound.send(InboundCommand::CloseSpi(spi));
    }

    /// Tells where first IKE messages are expected from.
    pub fn expect(&self, peers: ExpectedPeers) {
        self.inbound.send(InboundCommand::Expect(peers));
    }

    /// Stops accepting packets on an SA.
    pub fn remove_inbound(&self, spi: u32) {
        self.inbound.send(InboundCommand::RemoveSa { spi });
    }

    /// Stops using the outbound SA with this mark.
    pub fn remove_outbound(&self, connection: ConnectionHandle, id: u32) {
        self.outbound.send(OutboundCommand::RemoveSa { connection, id });
    }

    /// Changes the address of a connection's peer.
    pub fn set_remote(&self, connection: ConnectionHandle, inbound_spis: &[u32], remote: SocketAddr) {
        self.outbound
            .send(OutboundCommand::SetRemote { connection, remote });
        for &spi in inbound_spis {
            self.inbound.send(InboundCommand::SetRemote { spi, remote });
        }
    }

    /// Changes the largest inner packet of the pair of SAs with this mark.
    pub fn set_inner_mtu(&self, connection: ConnectionHandle, id: u32, inner_mtu: u16) {
        self.outbound.send(OutboundCommand::SetInnerMtu {
            connection,
            id,
            inner_mtu,
        });
        self.inbound
            .send(InboundCommand::SetInnerMtu { spi: id, inner_mtu });
    }

    /// Changes the largest packet that the TUN device takes.
    pub fn set_mtu(&self, mtu: u16) {
        self.outbound.send(OutboundCommand::SetMtu(mtu));
    }

    /// Packets that belong to no connection.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.inbound.send(InboundCommand::Stop);
        self.outbound.send(OutboundCommand::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a packet thread panicked");
            }
        }
    }
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plane")
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    #[cfg(test)]
    let work = allocation::counted(name, work);
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(work)
}

/// What [`Plane::start`] takes to send its events to `queue`.
pub fn into_queue<M: Send + 'static>(
    queue: SyncSender<M>,
    wrap: impl Fn(GatewayEvent) -> M + Send + Sync + 'static,
) -> Arc<dyn Fn(GatewayEvent) -> bool + Send + Sync> {
    Arc::new(move |event| queue.try_send(wrap(event)).is_ok())
}

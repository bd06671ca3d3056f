//! Opening with the SAs of one lane: open, check, join, write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use isthmus_esp::{DropReason, InboundTable, Opened, mss};
use isthmus_wire::esp::EspHeader;

use super::device::Device;
use super::lane::Work;
use super::outer::is_native;
use super::runs::Runs;
use super::{Counters, EventSender, NewInboundSa, PlaneEvent, SaTraffic};

/// Shortest time between two reports of another peer address on one SA.
const ADDRESS_PAUSE: Duration = Duration::from_secs(2);
/// Buffers after which a lane that is busy all the time writes what waits to be joined.
const BUFFERS: usize = 4;

/// Inbound SAs and what is being joined of their packets.
pub(super) struct Opening {
    table: InboundTable<SaContext>,
    runs: Runs,
    events: EventSender,
    counters: Arc<Counters>,
    tally: Tally,
}

struct SaContext {
    remote: SocketAddr,
    inner_mtu: u16,
    counters: Arc<Counters>,
    traffic: Arc<SaTraffic>,
    seen: bool,
    told_exhaustion: bool,
    told_address: Option<Instant>,
}

/// What is told of SAs.
pub(super) enum OpeningCommand {
    Insert(Box<NewInboundSa>),
    Remove { spi: u32 },
    SetInnerMtu { spi: u32, inner_mtu: u16 },
    SetRemote { spi: u32, remote: SocketAddr },
}

/// The sender and the traffic class of an outer packet.
pub(super) type Outer = (SocketAddr, u8);

impl Opening {
    pub(super) fn new(events: EventSender, counters: Arc<Counters>) -> Self {
        Self {
            table: InboundTable::default(),
            runs: Runs::new(),
            events,
            counters,
            tally: Tally::default(),
        }
    }

    pub(super) fn execute(&mut self, command: OpeningCommand) {
        match command {
            OpeningCommand::Insert(new) => {
                let context = SaContext {
                    remote: new.remote,
                    inner_mtu: new.inner_mtu,
                    counters: new.counters,
                    traffic: new.traffic,
                    seen: false,
                    told_exhaustion: false,
                    told_address: None,
                };
                self.table.insert(new.sa, context);
            }
            OpeningCommand::Remove { spi } => {
                self.table.remove(spi);
            }
            OpeningCommand::SetInnerMtu { spi, inner_mtu } => {
                if let Some((_, context)) = self.table.find(spi) {
                    context.inner_mtu = inner_mtu;
                }
            }
            OpeningCommand::SetRemote { spi, remote } => {
                if let Some((_, context)) = self.table.find(spi) {
                    context.remote = remote;
                }
            }
        }
    }

    /// Takes an ESP packet, however it was carried.
    pub(super) fn take(&mut self, esp: &mut [u8], (source, traffic_class): Outer, device: &Device) {
        let Ok(header) = EspHeader::decode(esp) else {
            return self.counters.drops.add(DropReason::MalformedEsp, 1);
        };
        let Some((sa, context)) = self.table.find(header.spi) else {
            return self.counters.drops.add(DropReason::UnknownSpi, 1);
        };
        let arrival = match sa.open(esp, traffic_class) {
            Ok(arrival) => arrival,
            Err(reason) => return context.counters.drops.add(reason, 1),
        };
        self.tally.count_authentic(&context.counters);
        if !context.seen {
            context.seen = self.events.try_send(PlaneEvent::FirstInbound { spi: header.spi });
        }
        if sa.nears_exhaustion() && !context.told_exhaustion {
            let near = PlaneEvent::NearExhaustion { id: header.spi };
            context.told_exhaustion = self.events.try_send(near);
        }
        // Packets without UDP pass no NAT, so no other address is learnt from them.
        let encapsulated = !is_native(source) && !is_native(context.remote);
        if arrival.newest && encapsulated && source != context.remote {
            context.tell_address(header.spi, source, &self.events);
        }
        let Opened::Inner { offset, header } = arrival.opened else {
            return context.counters.drops.add(DropReason::Dummy, 1);
        };
        let inner = &mut esp[offset..offset + header.total_len];
        mss::clamp(inner, &header, usize::from(context.inner_mtu));
        self.tally.packets += 1;
        self.tally.bytes += header.total_len as u64;
        SaTraffic::add(&context.traffic.packets_in, 1);
        SaTraffic::add(&context.traffic.bytes_in, header.total_len as u64);
        let refused = self.runs.take(&header, inner, &device.tun);
        self.count_refused(refused);
    }

    /// Writes everything that waits to be joined.
    pub(super) fn flush(&mut self, device: &Device) {
        self.tally.publish();
        let refused = self.runs.flush(&device.tun);
        self.count_refused(refused);
    }

    /// Writes what has waited since this was called last.
    pub(super) fn flush_old(&mut self, device: &Device) {
        self.tally.publish();
        let refused = self.runs.flush_old(&device.tun);
        self.count_refused(refused);
    }

    fn count_refused(&self, packets: usize) {
        if packets > 0 {
            self.counters
                .drops
                .add(DropReason::TunWriteFailed, packets as u64);
        }
    }
}

impl SaContext {
    fn tell_address(&mut self, spi: u32, remote: SocketAddr, events: &EventSender) {
        let now = Instant::now();
        let recent = self
            .told_address
            .is_some_and(|told| now.duration_since(told) < ADDRESS_PAUSE);
        if !recent && events.try_send(PlaneEvent::PeerAddress { spi, remote }) {
            self.told_address = Some(now);
        }
    }
}

/// Packets of one connection that are not in its counters yet: those are shared by threads, and a locked addition for
/// each packet would cost as much as looking it up.
#[derive(Default)]
struct Tally {
    counters: Option<Arc<Counters>>,
    authentic: u64,
    packets: u64,
    bytes: u64,
}

impl Tally {
    fn count_authentic(&mut self, counters: &Arc<Counters>) {
        let same = self
            .counters
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, counters));
        if !same {
            self.publish();
            self.counters = Some(Arc::clone(counters));
        }
        self.authentic += 1;
    }

    fn publish(&mut self) {
        let Some(counters) = self.counters.take() else {
            return;
        };
        for (counter, added) in [
            (&counters.authentic_in, &mut self.authentic),
            (&counters.packets_in, &mut self.packets),
            (&counters.bytes_in, &mut self.bytes),
        ] {
            counter.fetch_add(std::mem::take(added), Ordering::Relaxed);
        }
    }
}

/// A lane that opens.
pub(super) struct OpeningLane {
    opening: Opening,
    device: Option<Arc<Device>>,
    buffers: usize,
}

/// What an opening lane is told.
pub(super) enum OpeningLaneCommand {
    Device(Option<Arc<Device>>),
    Sas(OpeningCommand),
}

/// ESP packets back to back, of equal length but the last.
pub(super) struct ToOpen {
    pub(super) outer: Outer,
    pub(super) len: usize,
    pub(super) segment_len: usize,
}

impl OpeningLane {
    pub(super) fn new(opening: Opening, device: Option<Arc<Device>>) -> Self {
        Self {
            opening,
            device,
            buffers: 0,
        }
    }
}

impl Work for OpeningLane {
    type Command = OpeningLaneCommand;
    type Contents = ToOpen;

    fn execute(&mut self, command: OpeningLaneCommand) {
        match command {
            OpeningLaneCommand::Device(device) => {
                self.pause();
                self.device = device;
            }
            OpeningLaneCommand::Sas(command) => self.opening.execute(command),
        }
    }

    fn take(&mut self, buffer: &mut [u8], contents: ToOpen) {
        let Some(device) = self.device.as_deref() else {
            return;
        };
        for esp in buffer[..contents.len].chunks_mut(contents.segment_len.max(1)) {
            self.opening.take(esp, contents.outer, device);
        }
        self.buffers += 1;
        if self.buffers >= BUFFERS {
            self.buffers = 0;
            self.opening.flush_old(device);
        }
    }

    fn pause(&mut self) {
        if let Some(device) = self.device.as_deref() {
            self.opening.flush(device);
        }
    }
}

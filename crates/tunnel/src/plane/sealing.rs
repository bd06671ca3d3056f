//! Sealing with the SAs of one lane: cut, seal, send.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use isthmus_esp::fragment::Fragments;
use isthmus_esp::offload::{Splitter, VNET_HEADER_LEN};
use isthmus_esp::{DropReason, OutboundSa, mss};
use isthmus_netlink::tun::READ_LEN;
use isthmus_wire::icmp::{MAX_TOO_BIG_LEN, write_too_big};
use isthmus_wire::ip::IpHeader;

use super::batch::SendBatch;
use super::device::Device;
use super::lane::Work;
use super::outer::{OuterHeader, Wrapping};
use super::{Counters, EventSender, PlaneEvent, SaTraffic};

/// Shortest time between two "too big" messages.
const TOO_BIG_PAUSE: Duration = Duration::from_millis(5);

/// Outbound SAs and what is being sent with them.
pub(super) struct Sealing {
    // By their owners' marks.
    sas: BTreeMap<u32, SealingSa>,
    batch: SendBatch,
    events: EventSender,
    counters: Arc<Counters>,
    mtu: usize,
    last_too_big: Option<Instant>,
    // Holds a packet while it is cut into fragments.
    whole: Box<[u8]>,
}

/// An SA and how its packets go.
pub(super) struct SealingSa {
    pub(super) sa: OutboundSa,
    pub(super) remote: SocketAddr,
    pub(super) wrapping: Wrapping,
    pub(super) counters: Arc<Counters>,
    pub(super) traffic: Arc<SaTraffic>,
    pub(super) told: Told,
}

/// What the owner was told of an SA's end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Near,
    Passed,
}

/// What a lane is told of its SAs.
pub(super) enum SealingCommand {
    Insert { id: u32, sa: Box<SealingSa> },
    Remove { id: u32 },
    SetInnerMtu { id: u32, inner_mtu: u16 },
    SetMtu(u16),
    SetRemote { id: u32, remote: SocketAddr },
}

impl Sealing {
    pub(super) fn new(events: EventSender, counters: Arc<Counters>, mtu: usize) -> Self {
        Self {
            sas: BTreeMap::new(),
            batch: SendBatch::new(),
            events,
            counters,
            mtu,
            last_too_big: None,
            whole: vec![0; READ_LEN].into_boxed_slice(),
        }
    }

    pub(super) fn execute(&mut self, command: SealingCommand) {
        match command {
            SealingCommand::Insert { id, sa } => {
                self.sas.insert(id, *sa);
            }
            SealingCommand::Remove { id } => {
                self.sas.remove(&id);
            }
            SealingCommand::SetInnerMtu { id, inner_mtu } => {
                if let Some(sa) = self.sas.get_mut(&id) {
                    sa.wrapping.inner_mtu = inner_mtu;
                }
            }
            SealingCommand::SetMtu(mtu) => self.mtu = usize::from(mtu),
            SealingCommand::SetRemote { id, remote } => {
                if let Some(sa) = self.sas.get_mut(&id) {
                    sa.remote = remote;
                }
            }
        }
    }

    /// Seals what one read from the device stands for, with the SA that has the mark `id`.
    pub(super) fn seal(&mut self, splitter: &Splitter<'_>, id: u32, device: &Device) {
        let Some(sa) = self.sas.get_mut(&id) else {
            return self.counters.drops.add(DropReason::AwaitingSa, 1);
        };
        let header = splitter.header();
        let limit = sa.wrapping.limit(header).min(self.mtu);
        if splitter.longest() > limit && header.dont_fragment {
            let packets = splitter.count() as u64;
            sa.counters.drops.add(DropReason::PacketTooBig, packets);
            return self.refuse_too_big(splitter, limit, device);
        }
        let mut sender = Sender {
            outer: sa.wrapping.header(header, sa.remote),
            next_header: header.version_protocol(),
            sa,
            batch: &mut self.batch,
            lost: &self.counters,
            device,
            passed: (0, 0),
        };
        for index in 0..splitter.count() {
            let len = splitter.len_of(index);
            if len > limit {
                let whole = &mut self.whole[..len];
                splitter.write(index, whole);
                sender.send_in_fragments(whole, limit);
            } else {
                sender.send(len, |room| {
                    splitter.write(index, room);
                    if splitter.count() == 1 {
                        mss::clamp(room, header, limit);
                    }
                });
            }
        }
        sender.finish(id, &self.events);
    }

    /// Tells the sender of a packet that it is too big.
    fn refuse_too_big(&mut self, splitter: &Splitter<'_>, limit: usize, device: &Device) {
        let now = Instant::now();
        if self
            .last_too_big
            .is_some_and(|last| now.duration_since(last) < TOO_BIG_PAUSE)
        {
            return;
        }
        self.last_too_big = Some(now);
        let mut answer = [0; VNET_HEADER_LEN + MAX_TOO_BIG_LEN];
        let mtu = u16::try_from(limit).unwrap_or(u16::MAX);
        let written = write_too_big(splitter.packet(), mtu, &mut answer[VNET_HEADER_LEN..]);
        if let Some(len) = written {
            // Nobody depends on it: the sender tries again.
            let _ = device
                .tun
                .write(&[IoSlice::new(&answer[..VNET_HEADER_LEN + len])]);
        }
    }

    /// Sends what waits for more.
    pub(super) fn flush(&mut self, device: &Device) {
        let lost = self.batch.flush(device);
        if lost > 0 {
            self.counters.drops.add(DropReason::SendFailed, lost as u64);
        }
    }
}

/// Seals the packets that one read stands for, all with one SA and one outer header.
struct Sender<'a> {
    outer: OuterHeader,
    next_header: u8,
    sa: &'a mut SealingSa,
    batch: &'a mut SendBatch,
    lost: &'a Counters,
    device: &'a Device,
    // Packets and bytes.
    passed: (u64, u64),
}

impl Sender<'_> {
    /// Seals the packet of `inner_len` bytes that `write` writes.
    fn send(&mut self, inner_len: usize, write: impl FnOnce(&mut [u8])) {
        let sa = &mut self.sa.sa;
        let len = sa.sealed_len(inner_len);
        let offset = sa.payload_offset();
        if !self.batch.fits(len, self.outer) {
            let lost = self.batch.flush(self.device);
            self.lost.drops.add(DropReason::SendFailed, lost as u64);
        }
        let Some(room) = self.batch.room(len) else {
            return self.sa.counters.drops.add(DropReason::PacketTooBig, 1);
        };
        write(&mut room[offset..offset + inner_len]);
        match sa.seal(room, inner_len, self.next_header) {
            Ok(()) => {
                self.batch.add(len, self.outer);
                self.passed.0 += 1;
                self.passed.1 += inner_len as u64;
            }
            Err(reason) => self.sa.counters.drops.add(reason, 1),
        }
    }

    /// Seals a packet that may be fragmented, in pieces of at most `limit` bytes.
    fn send_in_fragments(&mut self, whole: &[u8], limit: usize) {
        let fragments = IpHeader::decode(whole)
            .ok()
            .and_then(|header| Fragments::new(whole, &header, limit));
        let Some(fragments) = fragments else {
            return self.sa.counters.drops.add(DropReason::PacketTooBig, 1);
        };
        for index in 0..fragments.count() {
            self.send(fragments.len_of(index), |room| fragments.write(index, room));
        }
    }

    /// Counts, and tells the SA's owner if its end is near.
    fn finish(self, id: u32, events: &EventSender) {
        let sa = self.sa;
        let (packets, bytes) = self.passed;
        sa.counters.packets_out.fetch_add(packets, Ordering::Relaxed);
        sa.counters.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        SaTraffic::add(&sa.traffic.packets_out, packets);
        SaTraffic::add(&sa.traffic.bytes_out, bytes);
        if sa.sa.nears_exhaustion()
            && sa.told == Told::Nothing
            && events.try_send(PlaneEvent::NearExhaustion { id })
        {
            sa.told = Told::Near;
        }
        if sa.told == Told::Near && sa.sa.is_exhausted() && events.try_send(PlaneEvent::Exhausted { id }) {
            sa.told = Told::Passed;
        }
    }
}

/// A lane that seals.
pub(super) struct SealingLane {
    sealing: Sealing,
    device: Option<Arc<Device>>,
}

/// What a sealing lane is told.
pub(super) enum SealingLaneCommand {
    Device(Option<Arc<Device>>),
    Sas(SealingCommand),
}

/// What one read from the device gave, and with which SA it goes.
pub(super) struct ToSeal {
    pub(super) id: u32,
    pub(super) len: usize,
}

impl SealingLane {
    pub(super) fn new(sealing: Sealing, device: Option<Arc<Device>>) -> Self {
        Self { sealing, device }
    }
}

impl Work for SealingLane {
    type Command = SealingLaneCommand;
    type Contents = ToSeal;

    fn execute(&mut self, command: SealingLaneCommand) {
        match command {
            SealingLaneCommand::Device(device) => {
                self.pause();
                self.device = device;
            }
            SealingLaneCommand::Sas(command) => self.sealing.execute(command),
        }
    }

    fn take(&mut self, buffer: &mut [u8], ToSeal { id, len }: ToSeal) {
        // The reader has found it well-formed already.
        if let (Some(device), Ok(splitter)) = (self.device.as_deref(), Splitter::new(&buffer[..len])) {
            self.sealing.seal(&splitter, id, device);
        }
    }

    fn pause(&mut self) {
        if let Some(device) = self.device.as_deref() {
            self.sealing.flush(device);
        }
    }
}

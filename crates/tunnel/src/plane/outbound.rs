//! From the TUN device to UDP: choose the SA, cut, seal, send.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus_esp::fragment::Fragments;
use isthmus_esp::offload::{Splitter, VNET_HEADER_LEN};
use isthmus_esp::{ConnectionHandle, DropReason, OutboundDatabase, OutboundSa, SaHandle, Verdict, mss};
use isthmus_netlink::tun::READ_LEN;
use isthmus_wire::icmp::{MAX_TOO_BIG_LEN, write_too_big};
use isthmus_wire::ip::IpHeader;
use nix::poll::PollTimeout;

use super::batch::SendBatch;
use super::device::Device;
use super::outer::{OuterHeader, Wrapping};
use super::queue::CommandReceiver;
use super::worker::{Direction, MAX_DESCRIPTORS, Turn};
use super::{ConnectionSetting, Counters, EventSender, NewOutboundSa, OutboundCommand, PlaneEvent};

/// Reads between two looks at the command queue, and at the other direction if the thread drives both.
const BURST: usize = 16;
/// How often a waiting packet asks again for an SA.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long a packet is worth holding.
const HELD_FOR: Duration = Duration::from_secs(10);
/// Flows of one connection that may each have one packet waiting.
const MAX_HELD: usize = 16;
/// How long to wait before telling of a lost device again, in milliseconds.
const TELL_AGAIN: u16 = 20;
/// Shortest time between two "too big" messages.
const TOO_BIG_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Outbound {
    commands: CommandReceiver<OutboundCommand>,
    device: Option<Arc<Device>>,
    // A loss that the owner's full queue did not take yet.
    untold: Option<(u64, io::Error)>,
    read: Box<[u8]>,
    sealing: Sealing,
}

struct Sealing {
    database: OutboundDatabase<SaContext>,
    connections: BTreeMap<ConnectionHandle, ConnectionState>,
    batch: SendBatch,
    events: EventSender,
    counters: Arc<Counters>,
    mtu: usize,
    last_too_big: Option<Instant>,
    // Holds a packet while it is cut into fragments.
    whole: Box<[u8]>,
}

struct SaContext {
    id: u32,
    remote: SocketAddr,
    wrapping: Wrapping,
    counters: Arc<Counters>,
    told: Told,
}

/// What the owner was told of an SA's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Near,
    Passed,
}

struct ConnectionState {
    counters: Arc<Counters>,
    asked: Option<Instant>,
    held: Vec<Held>,
}

struct Held {
    flow: (IpAddr, IpAddr),
    since: Instant,
    read: Vec<u8>,
}

enum Pause {
    Continue,
    Stop,
}

impl Outbound {
    pub(super) fn new(
        commands: CommandReceiver<OutboundCommand>,
        events: EventSender,
        counters: Arc<Counters>,
        mtu: u16,
    ) -> Self {
        Self {
            commands,
            device: None,
            untold: None,
            read: vec![0; READ_LEN].into_boxed_slice(),
            sealing: Sealing {
                database: OutboundDatabase::new(),
                connections: BTreeMap::new(),
                batch: SendBatch::new(),
                events,
                counters,
                mtu: usize::from(mtu),
                last_too_big: None,
                whole: vec![0; READ_LEN].into_boxed_slice(),
            },
        }
    }

    fn burst(&mut self, device: &Device) -> io::Result<Turn> {
        for _ in 0..BURST {
            match device.tun.read(&mut self.read) {
                Ok(len) => self.sealing.take(&self.read[..len], device),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.sealing.flush(device);
                    return Ok(Turn::Idle);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.sealing.flush(device);
                    return Err(error);
                }
            }
        }
        Ok(Turn::Busy)
    }

    fn tell_loss(&mut self) {
        if let Some((epoch, error)) = &self.untold {
            let lost = PlaneEvent::DeviceLost {
                epoch: *epoch,
                error: error.to_string(),
            };
            if self.sealing.events.try_send(lost) {
                self.untold = None;
            }
        }
    }

    fn execute(&mut self, command: OutboundCommand) -> Pause {
        let sealing = &mut self.sealing;
        match command {
            OutboundCommand::Attach(device) => self.device = Some(device),
            OutboundCommand::Detach => self.device = None,
            OutboundCommand::InsertSa(new) => {
                let connection = new.connection;
                sealing.insert_sa(*new);
                if let Some(device) = self.device.as_deref() {
                    sealing.release(connection, device);
                }
            }
            OutboundCommand::RemoveConnection(connection) => {
                sealing.database.remove_connection(connection);
                sealing.connections.remove(&connection);
            }
            OutboundCommand::RemoveSa { connection, id } => {
                sealing
                    .database
                    .remove_sa(connection, |_, context| context.id == id);
            }
            OutboundCommand::SetConnection(setting) => sealing.set_connection(*setting),
            OutboundCommand::SetInnerMtu {
                connection,
                id,
                inner_mtu,
            } => {
                for context in sealing.database.contexts(connection) {
                    if context.id == id {
                        context.wrapping.inner_mtu = inner_mtu;
                    }
                }
            }
            OutboundCommand::SetMtu(mtu) => sealing.mtu = usize::from(mtu),
            OutboundCommand::SetRemote { connection, remote } => {
                for context in sealing.database.contexts(connection) {
                    context.remote = remote;
                }
            }
            OutboundCommand::Stop => return Pause::Stop,
        }
        Pause::Continue
    }
}

impl Direction for Outbound {
    fn turn(&mut self) -> Turn {
        while let Some(command) = self.commands.next() {
            if matches!(self.execute(command), Pause::Stop) {
                return Turn::End;
            }
        }
        let Some(device) = self.device.clone() else {
            self.tell_loss();
            return Turn::Idle;
        };
        self.burst(&device).unwrap_or_else(|error| {
            self.device = None;
            self.untold = Some((device.epoch, error));
            Turn::Busy
        })
    }

    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS] {
        let tun = self.device.as_ref().map(|device| device.tun.as_fd());
        [Some(self.commands.as_fd()), tun, None, None, None]
    }

    fn patience(&self) -> PollTimeout {
        if self.untold.is_some() {
            PollTimeout::from(TELL_AGAIN)
        } else {
            PollTimeout::NONE
        }
    }

    fn wake(&mut self, [commands, ..]: [bool; MAX_DESCRIPTORS]) {
        if commands {
            self.commands.reset();
        }
    }
}

impl Sealing {
    fn set_connection(&mut self, setting: ConnectionSetting) {
        self.database
            .set_connection(setting.connection, &setting.policies, setting.admission);
        let state = self
            .connections
            .entry(setting.connection)
            .or_insert_with(|| ConnectionState {
                counters: Arc::clone(&setting.counters),
                asked: None,
                held: Vec::new(),
            });
        state.counters = setting.counters;
    }

    fn insert_sa(&mut self, new: NewOutboundSa) {
        let Some(state) = self.connections.get_mut(&new.connection) else {
            return;
        };
        state.asked = None;
        let context = SaContext {
            id: new.id,
            remote: new.remote,
            wrapping: new.wrapping,
            counters: Arc::clone(&state.counters),
            told: Told::Nothing,
        };
        self.database
            .insert_sa(new.connection, new.sa, new.selectors, context);
    }

    /// Takes one packet as the TUN device gave it.
    fn take(&mut self, read: &[u8], device: &Device) {
        let splitter = match Splitter::new(read) {
            Ok(splitter) => splitter,
            Err(reason) => return self.counters.drops.add(reason, 1),
        };
        match self.database.route(splitter.header(), splitter.packet()) {
            Verdict::Seal(handle) => self.seal(&splitter, handle, device),
            Verdict::Acquire(connection) => self.hold(connection, &splitter, read),
            Verdict::Drop(reason, connection) => self.count_drop(connection, reason),
        }
    }

    fn seal(&mut self, splitter: &Splitter<'_>, handle: SaHandle, device: &Device) {
        let Some((_, sa, context)) = self.database.sa(handle) else {
            return;
        };
        let header = splitter.header();
        let limit = context.wrapping.limit(header).min(self.mtu);
        if splitter.longest() > limit && header.dont_fragment {
            let packets = splitter.count() as u64;
            context.counters.drops.add(DropReason::PacketTooBig, packets);
            return self.refuse_too_big(splitter, limit, device);
        }
        let mut sender = Sender {
            outer: context.wrapping.header(header, context.remote),
            next_header: header.version_protocol(),
            sa,
            context,
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
        sender.finish(&self.events);
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

    fn hold(&mut self, connection: ConnectionHandle, splitter: &Splitter<'_>, read: &[u8]) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return self.count_drop(None, DropReason::NoPolicy);
        };
        let now = Instant::now();
        if state
            .asked
            .is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN)
            && self.events.try_send(PlaneEvent::Acquire(connection))
        {
            state.asked = Some(now);
        }
        let before = state.held.len();
        state
            .held
            .retain(|held| now.duration_since(held.since) < HELD_FOR);
        let outlived = before - state.held.len();
        state.counters.drops.add(DropReason::AwaitingSa, outlived as u64);
        let flow = (splitter.header().source, splitter.header().destination);
        if state.held.len() < MAX_HELD && state.held.iter().all(|held| held.flow != flow) {
            state.held.push(Held {
                flow,
                since: now,
                read: read.to_vec(),
            });
        } else {
            state.counters.drops.add(DropReason::AwaitingSa, 1);
        }
    }

    fn release(&mut self, connection: ConnectionHandle, device: &Device) {
        let Some(state) = self.connections.get_mut(&connection) else {
            return;
        };
        let now = Instant::now();
        for held in std::mem::take(&mut state.held) {
            if now.duration_since(held.since) < HELD_FOR {
                self.take(&held.read, device);
            } else {
                self.count_drop(Some(connection), DropReason::AwaitingSa);
            }
        }
        self.flush(device);
    }

    fn flush(&mut self, device: &Device) {
        let lost = self.batch.flush(device);
        if lost > 0 {
            self.counters.drops.add(DropReason::SendFailed, lost as u64);
        }
    }

    fn count_drop(&self, connection: Option<ConnectionHandle>, reason: DropReason) {
        match connection.and_then(|connection| self.connections.get(&connection)) {
            Some(state) => state.counters.drops.add(reason, 1),
            None => self.counters.drops.add(reason, 1),
        }
    }
}

/// Seals the packets that one read stands for, all with one SA and one outer header.
struct Sender<'a> {
    outer: OuterHeader,
    next_header: u8,
    sa: &'a mut OutboundSa,
    context: &'a mut SaContext,
    batch: &'a mut SendBatch,
    lost: &'a Counters,
    device: &'a Device,
    // Packets and bytes.
    passed: (u64, u64),
}

impl Sender<'_> {
    /// Seals the packet of `inner_len` bytes that `write` writes.
    fn send(&mut self, inner_len: usize, write: impl FnOnce(&mut [u8])) {
        let len = self.sa.sealed_len(inner_len);
        let offset = self.sa.payload_offset();
        if !self.batch.fits(len, self.outer) {
            let lost = self.batch.flush(self.device);
            self.lost.drops.add(DropReason::SendFailed, lost as u64);
        }
        let Some(room) = self.batch.room(len) else {
            return self.context.counters.drops.add(DropReason::PacketTooBig, 1);
        };
        write(&mut room[offset..offset + inner_len]);
        match self.sa.seal(room, inner_len, self.next_header) {
            Ok(()) => {
                self.batch.add(len, self.outer);
                self.passed.0 += 1;
                self.passed.1 += inner_len as u64;
            }
            Err(reason) => self.context.counters.drops.add(reason, 1),
        }
    }

    /// Seals a packet that may be fragmented, in pieces of at most `limit` bytes.
    fn send_in_fragments(&mut self, whole: &[u8], limit: usize) {
        let fragments = IpHeader::decode(whole)
            .ok()
            .and_then(|header| Fragments::new(whole, &header, limit));
        let Some(fragments) = fragments else {
            return self.context.counters.drops.add(DropReason::PacketTooBig, 1);
        };
        for index in 0..fragments.count() {
            self.send(fragments.len_of(index), |room| fragments.write(index, room));
        }
    }

    /// Counts, and tells the SA's owner if its end is near.
    fn finish(self, events: &EventSender) {
        let context = self.context;
        let counters = &context.counters;
        Counters::add(&counters.packets_out, self.passed.0);
        Counters::add(&counters.bytes_out, self.passed.1);
        let id = context.id;
        if self.sa.nears_exhaustion()
            && context.told == Told::Nothing
            && events.try_send(PlaneEvent::NearExhaustion { id })
        {
            context.told = Told::Near;
        }
        if context.told == Told::Near
            && self.sa.is_exhausted()
            && events.try_send(PlaneEvent::Exhausted { id })
        {
            context.told = Told::Passed;
        }
    }
}

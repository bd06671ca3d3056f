//! From the TUN device to UDP: choose the SA, and seal or have its lane seal.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus_esp::offload::Splitter;
use isthmus_esp::{ConnectionHandle, DropReason, OutboundDatabase, Verdict};
use isthmus_netlink::tun::READ_LEN;
use nix::poll::PollTimeout;

use super::device::Device;
use super::lane::Lanes;
use super::queue::CommandReceiver;
use super::sealing::{Sealing, SealingCommand, SealingLane, SealingLaneCommand, SealingSa, ToSeal, Told};
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

pub(super) struct Outbound {
    commands: CommandReceiver<OutboundCommand>,
    device: Option<Arc<Device>>,
    // A loss that the owner's full queue did not take yet.
    untold: Option<(u64, io::Error)>,
    read: Box<[u8]>,
    database: OutboundDatabase<SaPlace>,
    connections: BTreeMap<ConnectionHandle, ConnectionState>,
    // The first lane, and the others.
    sealing: Sealing,
    lanes: Lanes<SealingLane>,
    events: EventSender,
    counters: Arc<Counters>,
    mtu: u16,
    // Bytes read.
    volume: usize,
}

/// Where an SA is.
#[derive(Clone, Copy)]
struct SaPlace {
    id: u32,
    lane: usize,
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
    /// A direction that has up to `lanes` threads, its own among them.
    pub(super) fn new(
        commands: CommandReceiver<OutboundCommand>,
        events: EventSender,
        counters: Arc<Counters>,
        mtu: u16,
        lanes: usize,
    ) -> Self {
        Self {
            commands,
            device: None,
            untold: None,
            read: vec![0; READ_LEN].into_boxed_slice(),
            database: OutboundDatabase::new(),
            connections: BTreeMap::new(),
            sealing: Sealing::new(events.clone(), Arc::clone(&counters), mtu.into()),
            lanes: Lanes::new("esp-out", lanes, READ_LEN),
            events,
            counters,
            mtu,
            volume: 0,
        }
    }

    fn burst(&mut self, device: &Device) -> io::Result<Turn> {
        for _ in 0..BURST {
            match device.tun.read(&mut self.read) {
                Ok(len) => {
                    self.volume += len;
                    self.take(len, device);
                }
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
            if self.events.try_send(lost) {
                self.untold = None;
            }
        }
    }

    fn execute(&mut self, command: OutboundCommand) -> Pause {
        match command {
            OutboundCommand::Attach(device) => self.set_device(Some(device)),
            OutboundCommand::Detach => self.set_device(None),
            OutboundCommand::InsertSa(new) => self.insert_sa(*new),
            OutboundCommand::RemoveConnection(connection) => {
                for place in self.places(connection) {
                    self.command(place.lane, SealingCommand::Remove { id: place.id });
                }
                self.database.remove_connection(connection);
                self.connections.remove(&connection);
            }
            OutboundCommand::RemoveSa { connection, id } => {
                if let Some(place) = self.database.remove_sa(connection, |place| place.id == id) {
                    self.command(place.lane, SealingCommand::Remove { id });
                }
            }
            OutboundCommand::SetConnection(setting) => self.set_connection(*setting),
            OutboundCommand::SetInnerMtu {
                connection,
                id,
                inner_mtu,
            } => {
                let places = self.places(connection);
                if let Some(place) = places.iter().find(|place| place.id == id) {
                    self.command(place.lane, SealingCommand::SetInnerMtu { id, inner_mtu });
                }
            }
            OutboundCommand::SetMtu(mtu) => {
                self.mtu = mtu;
                self.sealing.execute(SealingCommand::SetMtu(mtu));
                self.lanes
                    .command_all(|| SealingLaneCommand::Sas(SealingCommand::SetMtu(mtu)));
            }
            OutboundCommand::SetRemote { connection, remote } => {
                for SaPlace { id, lane } in self.places(connection) {
                    self.command(lane, SealingCommand::SetRemote { id, remote });
                }
            }
            OutboundCommand::Stop => {
                self.lanes.end();
                return Pause::Stop;
            }
        }
        Pause::Continue
    }

    fn set_device(&mut self, device: Option<Arc<Device>>) {
        self.lanes
            .command_all(|| SealingLaneCommand::Device(device.clone()));
        self.device = device;
    }

    fn places(&mut self, connection: ConnectionHandle) -> Vec<SaPlace> {
        self.database.contexts(connection).map(|place| *place).collect()
    }

    /// Has a command followed by the lane that it is for.
    fn command(&mut self, lane: usize, command: SealingCommand) {
        match self.lanes.lane(lane) {
            Some(lane) => lane.command(SealingLaneCommand::Sas(command)),
            None => self.sealing.execute(command),
        }
    }

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
        let sa = SealingSa {
            sa: new.sa,
            remote: new.remote,
            wrapping: new.wrapping,
            counters: Arc::clone(&state.counters),
            traffic: new.traffic,
            told: Told::Nothing,
        };
        let lane = self.lanes.place(new.lane, || {
            let sealing = Sealing::new(self.events.clone(), Arc::clone(&self.counters), self.mtu.into());
            SealingLane::new(sealing, self.device.clone())
        });
        let id = new.id;
        let sa = Box::new(sa);
        self.command(lane, SealingCommand::Insert { id, sa });
        self.database
            .insert_sa(new.connection, new.lane, new.selectors, SaPlace { id, lane });
        self.release(new.connection);
    }

    /// Takes one packet as the TUN device gave it: the first bytes of the read buffer.
    fn take(&mut self, len: usize, device: &Device) {
        let splitter = match Splitter::new(&self.read[..len]) {
            Ok(splitter) => splitter,
            Err(reason) => return self.counters.drops.add(reason, 1),
        };
        match self.database.route(splitter.header(), splitter.packet()) {
            Verdict::Seal(handle) => {
                let Some((_, &mut SaPlace { id, lane })) = self.database.sa(handle) else {
                    return;
                };
                match self.lanes.lane(lane) {
                    Some(lane) => lane.give(&mut self.read, ToSeal { id, len }),
                    None => self.sealing.seal(&splitter, id, device),
                }
            }
            Verdict::Acquire(connection) => {
                let flow = (splitter.header().source, splitter.header().destination);
                self.hold(connection, flow, len);
            }
            Verdict::Drop(reason, connection) => self.count_drop(connection, reason),
        }
    }

    fn hold(&mut self, connection: ConnectionHandle, flow: (IpAddr, IpAddr), len: usize) {
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
        if state.held.len() < MAX_HELD && state.held.iter().all(|held| held.flow != flow) {
            state.held.push(Held {
                flow,
                since: now,
                read: self.read[..len].to_vec(),
            });
        } else {
            state.counters.drops.add(DropReason::AwaitingSa, 1);
        }
    }

    /// Takes the packets again that waited for an SA of a connection.
    fn release(&mut self, connection: ConnectionHandle) {
        let (Some(device), Some(state)) = (self.device.clone(), self.connections.get_mut(&connection)) else {
            return;
        };
        let now = Instant::now();
        for held in std::mem::take(&mut state.held) {
            if now.duration_since(held.since) < HELD_FOR {
                self.read[..held.read.len()].copy_from_slice(&held.read);
                self.take(held.read.len(), &device);
            } else {
                self.count_drop(Some(connection), DropReason::AwaitingSa);
            }
        }
        self.sealing.flush(&device);
    }

    fn count_drop(&self, connection: Option<ConnectionHandle>, reason: DropReason) {
        match connection.and_then(|connection| self.connections.get(&connection)) {
            Some(state) => state.counters.drops.add(reason, 1),
            None => self.counters.drops.add(reason, 1),
        }
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
            self.set_device(None);
            self.untold = Some((device.epoch, error));
            Turn::Busy
        })
    }

    fn take_volume(&mut self) -> usize {
        std::mem::take(&mut self.volume)
    }

    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS] {
        let tun = self.device.as_ref().map(|device| device.tun.as_fd());
        let mut all = [None; MAX_DESCRIPTORS];
        (all[0], all[1]) = (Some(self.commands.as_fd()), tun);
        all
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

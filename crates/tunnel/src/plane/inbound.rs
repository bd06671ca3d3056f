//! From UDP to the TUN device: tell IKE from ESP, and open or have the SA's lane open.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use isthmus_esp::{DropReason, SpiMap};
use isthmus_netlink::udp::{RECEIVE_LEN, Received, UdpSocket};
use isthmus_wire::esp::EspHeader;
use isthmus_wire::udp::{Encapsulated, NON_ESP_MARKER_LEN};
use nix::poll::PollTimeout;

use super::device::{Device, Outside};
use super::gate::{Gate, Verdict};
use super::lane::Lanes;
use super::native::{NativePackets, PathReports};
use super::opening::{Opening, OpeningCommand, OpeningLane, OpeningLaneCommand, ToOpen};
use super::queue::CommandReceiver;
use super::worker::{Direction, MAX_DESCRIPTORS, Turn};
use super::{Counters, EventSender, IKE_PORT, InboundCommand, NAT_PORT, NewInboundSa, PlaneEvent};

/// Receives in one turn.
const RECEIVES: usize = 4;
/// Rounds of a busy socket after which the other one gets a look.
const ROUNDS: usize = 16;
/// Sockets of each address of the gateway.
const SOCKETS: usize = 4;
/// Longest message that is handed to IKE.
const MAX_IKE_LEN: usize = 65_535;

pub(super) struct Inbound {
    commands: CommandReceiver<InboundCommand>,
    device: Option<Arc<Device>>,
    buffer: Box<[u8]>,
    path_reports: PathReports,
    // Whether the sockets beside the busy one may have something, and for how many turns they were not looked at.
    ike_waits: bool,
    raw_waits: bool,
    turns: usize,
    // Bytes received on port 4500.
    volume: usize,
    // The first lane, and the others; which of them an SPI belongs to if not to the first.
    opening: Opening,
    lanes: Lanes<OpeningLane>,
    placed: SpiMap<usize>,
    front: Front,
}

/// What stands before IKE, and counts what is neither for IKE nor for an SA.
struct Front {
    events: EventSender,
    gate: Gate,
    counters: Arc<Counters>,
}

impl Inbound {
    /// A direction that has up to `lanes` threads, its own among them.
    pub(super) fn new(
        commands: CommandReceiver<InboundCommand>,
        events: EventSender,
        counters: Arc<Counters>,
        lanes: usize,
    ) -> Self {
        Self {
            commands,
            device: None,
            buffer: vec![0; RECEIVE_LEN].into_boxed_slice(),
            path_reports: PathReports::new(),
            ike_waits: false,
            raw_waits: false,
            turns: 0,
            volume: 0,
            opening: Opening::new(events.clone(), Arc::clone(&counters)),
            lanes: Lanes::new("esp-in", lanes, RECEIVE_LEN),
            placed: SpiMap::default(),
            front: Front {
                events,
                gate: Gate::default(),
                counters,
            },
        }
    }

    /// Executes the commands that wait; false if the thread shall end.
    fn execute_waiting(&mut self) -> bool {
        while let Some(command) = self.commands.next() {
            if !self.execute(command) {
                return false;
            }
        }
        true
    }

    /// False if the thread shall end.
    fn execute(&mut self, command: InboundCommand) -> bool {
        match command {
            InboundCommand::Attach(device) => self.set_device(Some(device)),
            InboundCommand::CloseSpi(spi) => self.front.gate.close(spi),
            InboundCommand::Detach => self.set_device(None),
            InboundCommand::Expect(peers) => self.front.gate.expect(peers),
            InboundCommand::OpenSpi(spi) => self.front.gate.open(spi),
            InboundCommand::InsertSa(new) => self.insert_sa(new),
            InboundCommand::RemoveSa { spi } => {
                self.command(spi, OpeningCommand::Remove { spi });
                self.placed.remove(&spi);
            }
            InboundCommand::SetInnerMtu { spi, inner_mtu } => {
                self.command(spi, OpeningCommand::SetInnerMtu { spi, inner_mtu });
            }
            InboundCommand::SetRemote { spi, remote } => {
                self.command(spi, OpeningCommand::SetRemote { spi, remote });
            }
            InboundCommand::Stop => {
                self.lanes.end();
                return false;
            }
        }
        true
    }

    fn set_device(&mut self, device: Option<Arc<Device>>) {
        self.lanes
            .command_all(|| OpeningLaneCommand::Device(device.clone()));
        self.device = device;
    }

    fn insert_sa(&mut self, new: Box<NewInboundSa>) {
        let lane = self.lanes.place(new.lane, || {
            let opening = Opening::new(self.front.events.clone(), Arc::clone(&self.front.counters));
            OpeningLane::new(opening, self.device.clone())
        });
        let spi = new.sa.spi();
        if lane > 0 {
            self.placed.insert(spi, lane);
        }
        self.command(spi, OpeningCommand::Insert(new));
    }

    /// Has a command followed by the lane that an SPI belongs to.
    fn command(&mut self, spi: u32, command: OpeningCommand) {
        let lane = self.placed.get(&spi).and_then(|&lane| self.lanes.lane(lane));
        match lane {
            Some(lane) => lane.command(OpeningLaneCommand::Sas(command)),
            None => self.opening.execute(command),
        }
    }

    /// False if the thread shall end.
    fn drain_ike(&mut self, device: &Device) -> bool {
        device.outsides().iter().all(|outside| self.drain_ike_of(outside))
    }

    fn drain_ike_of(&mut self, outside: &Outside) -> bool {
        for _ in 0..ROUNDS {
            let Some(received) = receive(&outside.ike, &mut self.buffer) else {
                break;
            };
            // What came may be for an SPI whose command came while we were busy.
            if !self.execute_waiting() {
                return false;
            }
            for datagram in self.buffer[..received.len].chunks(received.segment_len) {
                self.front.pass_to_ike(IKE_PORT, received.source, datagram);
            }
        }
        true
    }

    /// Takes what came without UDP, and what routers say. False if the thread shall end.
    fn drain_raw(&mut self, device: &Device) -> bool {
        if !std::mem::take(&mut self.raw_waits) {
            return true;
        }
        if !device
            .outsides()
            .iter()
            .all(|outside| self.drain_native(outside, device))
        {
            return false;
        }
        self.opening.flush(device);
        while let Some(report) = self.path_reports.next(device) {
            // Lost if the owner's queue is full: the next packet that is too big brings another.
            self.front.events.try_send(PlaneEvent::Path(report));
        }
        true
    }

    fn drain_native(&mut self, outside: &Outside, device: &Device) -> bool {
        for _ in 0..ROUNDS {
            let Some(packets) = NativePackets::receive(outside, &mut self.buffer) else {
                break;
            };
            if !self.execute_waiting() {
                return false;
            }
            for (packet, source) in packets.iter() {
                let esp = &mut self.buffer[packet.start..packet.start + packet.len];
                let outer = (source, packet.traffic_class);
                let lane = match EspHeader::decode(esp) {
                    Ok(header) if !self.placed.is_empty() => self
                        .placed
                        .get(&header.spi)
                        .and_then(|&lane| self.lanes.lane(lane)),
                    Ok(_) | Err(_) => None,
                };
                match lane {
                    Some(lane) => lane.give_copy(|buffer| {
                        buffer[..esp.len()].copy_from_slice(esp);
                        ToOpen {
                            outer,
                            len: esp.len(),
                            segment_len: esp.len(),
                        }
                    }),
                    None => self.opening.take(esp, outer, device),
                }
            }
        }
        true
    }

    /// Takes a few receives. What they brought is written at the latest with the next few.
    fn drain_nat(&mut self, device: &Device) -> Turn {
        let mut turn = Turn::Idle;
        for outside in device.outsides() {
            match self.drain_nat_of(outside, device) {
                Turn::Busy => turn = Turn::Busy,
                Turn::End => return Turn::End,
                Turn::Idle => {}
            }
        }
        if turn == Turn::Idle {
            self.opening.flush(device);
        } else {
            self.opening.flush_old(device);
        }
        turn
    }

    fn drain_nat_of(&mut self, outside: &Outside, device: &Device) -> Turn {
        for _ in 0..RECEIVES {
            let Some(received) = receive(&outside.nat, &mut self.buffer) else {
                return Turn::Idle;
            };
            self.volume += received.len;
            // What came may be on an SA whose command came while we were busy.
            if !self.execute_waiting() {
                return Turn::End;
            }
            if self.placed.is_empty() {
                self.take_own(received, device);
            } else {
                self.deal_out(received, device);
            }
        }
        Turn::Busy
    }

    /// Takes what was received as far as it is for the first lane.
    fn take_own(&mut self, received: Received, device: &Device) {
        let outer = (received.source, received.traffic_class);
        for start in (0..received.len).step_by(received.segment_len) {
            let datagram = &mut self.buffer[start..received.len.min(start + received.segment_len)];
            if lane_for(&self.placed, datagram) > 0 {
                continue;
            }
            match Encapsulated::of(datagram) {
                Encapsulated::Esp(_) => self.opening.take(datagram, outer, device),
                Encapsulated::Ike(message) => self.front.pass_to_ike(NAT_PORT, received.source, message),
                Encapsulated::Keepalive => {}
                Encapsulated::Malformed => self.front.counters.drops.add(DropReason::MalformedEsp, 1),
            }
        }
    }

    /// Gives each lane what was received for it. The kernel joins the datagrams of one sender whatever their SPIs are.
    fn deal_out(&mut self, received: Received, device: &Device) {
        let outer = (received.source, received.traffic_class);
        let datagrams = || self.buffer[..received.len].chunks(received.segment_len);
        let mut found = datagrams().map(|datagram| 1u64 << lane_for(&self.placed, datagram));
        let all = found.by_ref().fold(0, |all, lane| all | lane);
        if all.is_power_of_two()
            && let Some(lane) = self.lanes.lane(all.trailing_zeros() as usize)
        {
            let contents = ToOpen {
                outer,
                len: received.len,
                segment_len: received.segment_len,
            };
            return lane.give(&mut self.buffer, contents);
        }
        for number in (1..u64::BITS as usize).filter(|number| all >> number & 1 == 1) {
            let Some(lane) = self.lanes.lane(number) else {
                continue;
            };
            lane.give_copy(|buffer| {
                let mut len = 0;
                for datagram in datagrams().filter(|datagram| lane_for(&self.placed, datagram) == number) {
                    buffer[len..len + datagram.len()].copy_from_slice(datagram);
                    len += datagram.len();
                }
                ToOpen {
                    outer,
                    len,
                    segment_len: received.segment_len,
                }
            });
        }
        if all & 1 == 1 {
            self.take_own(received, device);
        }
    }
}

impl Direction for Inbound {
    fn turn(&mut self) -> Turn {
        if !self.execute_waiting() {
            return Turn::End;
        }
        let Some(device) = self.device.clone() else {
            return Turn::Idle;
        };
        self.turns += 1;
        if self.turns >= ROUNDS {
            (self.ike_waits, self.raw_waits, self.turns) = (true, true, 0);
        }
        if std::mem::take(&mut self.ike_waits) && !self.drain_ike(&device) {
            return Turn::End;
        }
        if !self.drain_raw(&device) {
            return Turn::End;
        }
        self.drain_nat(&device)
    }

    fn take_volume(&mut self) -> usize {
        std::mem::take(&mut self.volume)
    }

    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS] {
        let mut all = [None; MAX_DESCRIPTORS];
        all[0] = Some(self.commands.as_fd());
        let outsides = self.device.iter().flat_map(|device| device.outsides());
        for (outside, places) in outsides.zip(all[1..].chunks_exact_mut(SOCKETS)) {
            places.copy_from_slice(&[
                Some(outside.nat.as_fd()),
                Some(outside.ike.as_fd()),
                Some(outside.native.as_fd()),
                Some(outside.icmp.as_fd()),
            ]);
        }
        all
    }

    fn patience(&self) -> PollTimeout {
        PollTimeout::NONE
    }

    fn wake(&mut self, ready: [bool; MAX_DESCRIPTORS]) {
        if ready[0] {
            self.commands.reset();
        }
        for of_outside in ready[1..].chunks_exact(SOCKETS) {
            self.ike_waits |= of_outside[1];
            self.raw_waits |= of_outside[2] || of_outside[3];
        }
        // All of them have just been looked at.
        self.turns = 0;
    }
}

impl Front {
    fn pass_to_ike(&self, local_port: u16, remote: SocketAddr, message: &[u8]) {
        if message.len() > MAX_IKE_LEN || message.len() < NON_ESP_MARKER_LEN {
            return;
        }
        let stranger = match self.gate.judge(remote.ip(), message) {
            Verdict::Known => None,
            Verdict::Stranger(ticket) => {
                self.counters.strangers_admitted.fetch_add(1, Ordering::Relaxed);
                Some(ticket)
            }
            Verdict::Refused => {
                self.counters.strangers_refused.fetch_add(1, Ordering::Relaxed);
                return self.counters.drops.add(DropReason::UnknownSpi, 1);
            }
        };
        // A full queue loses the message as a full socket would: it is sent again.
        self.events.try_send(PlaneEvent::Ike {
            local_port,
            remote,
            message: message.to_vec(),
            stranger,
        });
    }
}

/// The lane that a datagram of port 4500 is for; what is not ESP is for the first.
fn lane_for(placed: &SpiMap<usize>, datagram: &[u8]) -> usize {
    if placed.is_empty() {
        return 0;
    }
    match Encapsulated::of(datagram) {
        Encapsulated::Esp(_) => EspHeader::decode(datagram)
            .ok()
            .and_then(|header| placed.get(&header.spi).copied())
            .unwrap_or(0),
        Encapsulated::Ike(_) | Encapsulated::Keepalive | Encapsulated::Malformed => 0,
    }
}

/// One receive; errors that the system reports about earlier sends are passed over.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> Option<Received> {
    for _ in 0..ROUNDS {
        match socket.receive(buffer) {
            Ok(received) => return Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(_) => {}
        }
    }
    None
}

//! From UDP to the TUN device: tell IKE from ESP, open, check, join, write.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use isthmus_esp::{DropReason, InboundTable, Opened, mss};
use isthmus_netlink::udp::{RECEIVE_LEN, Received, UdpSocket};
use isthmus_wire::esp::EspHeader;
use isthmus_wire::udp::{Encapsulated, NON_ESP_MARKER_LEN};
use nix::poll::PollTimeout;

use super::device::Device;
use super::gate::{Gate, Verdict};
use super::native::{NativePackets, PathReports};
use super::outer::is_native;
use super::queue::CommandReceiver;
use super::runs::Runs;
use super::worker::{Direction, MAX_DESCRIPTORS, Turn};
use super::{Counters, EventSender, IKE_PORT, InboundCommand, NAT_PORT, PlaneEvent};

/// Receives in one turn.
const RECEIVES: usize = 4;
/// Rounds of a busy socket after which the other one gets a look.
const ROUNDS: usize = 16;
/// Longest message that is handed to IKE.
const MAX_IKE_LEN: usize = 65_535;
/// Shortest time between two reports of another peer address on one SA.
const ADDRESS_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Inbound {
    commands: CommandReceiver<InboundCommand>,
    device: Option<Arc<Device>>,
    buffer: Box<[u8]>,
    path_reports: PathReports,
    // Whether the sockets beside the busy one may have something, and for how many turns they were not looked at.
    ike_waits: bool,
    raw_waits: bool,
    turns: usize,
    opening: Opening,
}

struct Opening {
    table: InboundTable<SaContext>,
    runs: Runs,
    events: EventSender,
    gate: Gate,
    counters: Arc<Counters>,
}

struct SaContext {
    remote: SocketAddr,
    inner_mtu: u16,
    counters: Arc<Counters>,
    seen: bool,
    told_exhaustion: bool,
    told_address: Option<Instant>,
}

impl Inbound {
    pub(super) fn new(
        commands: CommandReceiver<InboundCommand>,
        events: EventSender,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            commands,
            device: None,
            buffer: vec![0; RECEIVE_LEN].into_boxed_slice(),
            path_reports: PathReports::new(),
            ike_waits: false,
            raw_waits: false,
            turns: 0,
            opening: Opening {
                table: InboundTable::default(),
                runs: Runs::new(),
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
        let table = &mut self.opening.table;
        match command {
            InboundCommand::Attach(device) => self.device = Some(device),
            InboundCommand::CloseSpi(spi) => self.opening.gate.close(spi),
            InboundCommand::Detach => self.device = None,
            InboundCommand::Expect(peers) => self.opening.gate.expect(peers),
            InboundCommand::OpenSpi(spi) => self.opening.gate.open(spi),
            InboundCommand::InsertSa(new) => {
                let context = SaContext {
                    remote: new.remote,
                    inner_mtu: new.inner_mtu,
                    counters: new.counters,
                    seen: false,
                    told_exhaustion: false,
                    told_address: None,
                };
                table.insert(new.sa, context);
            }
            InboundCommand::RemoveSa { spi } => {
                table.remove(spi);
            }
            InboundCommand::SetInnerMtu { spi, inner_mtu } => {
                if let Some((_, context)) = table.find(spi) {
                    context.inner_mtu = inner_mtu;
                }
            }
            InboundCommand::SetRemote { spi, remote } => {
                if let Some((_, context)) = table.find(spi) {
                    context.remote = remote;
                }
            }
            InboundCommand::Stop => return false,
        }
        true
    }

    /// False if the thread shall end.
    fn drain_ike(&mut self, device: &Device) -> bool {
        for _ in 0..ROUNDS {
            let Some(received) = receive(&device.ike, &mut self.buffer) else {
                break;
            };
            // What came may be for an SPI whose command came while we were busy.
            if !self.execute_waiting() {
                return false;
            }
            for datagram in self.buffer[..received.len].chunks(received.segment_len) {
                self.opening.pass_to_ike(IKE_PORT, received.source, datagram);
            }
        }
        true
    }

    /// Takes what came without UDP, and what routers say. False if the thread shall end.
    fn drain_raw(&mut self, device: &Device) -> bool {
        if !std::mem::take(&mut self.raw_waits) {
            return true;
        }
        for _ in 0..ROUNDS {
            let Some(packets) = NativePackets::receive(device, &mut self.buffer) else {
                break;
            };
            if !self.execute_waiting() {
                return false;
            }
            for (packet, source) in packets.iter() {
                let esp = &mut self.buffer[packet.start..packet.start + packet.len];
                self.opening.take_esp(esp, (source, packet.traffic_class), device);
            }
        }
        self.opening.flush(device);
        while let Some(report) = self.path_reports.next(device) {
            // Lost if the owner's queue is full: the next packet that is too big brings another.
            self.opening.events.try_send(PlaneEvent::Path(report));
        }
        true
    }

    /// Takes a few receives. What they brought is written at the latest with the next few.
    fn drain_nat(&mut self, device: &Device) -> Turn {
        for _ in 0..RECEIVES {
            let Some(received) = receive(&device.nat, &mut self.buffer) else {
                self.opening.flush(device);
                return Turn::Idle;
            };
            // What came may be on an SA whose command came while we were busy.
            if !self.execute_waiting() {
                return Turn::End;
            }
            for datagram in self.buffer[..received.len].chunks_mut(received.segment_len) {
                self.opening.take(datagram, received, device);
            }
        }
        self.opening.flush_old(device);
        Turn::Busy
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

    fn descriptors(&self) -> [Option<BorrowedFd<'_>>; MAX_DESCRIPTORS] {
        let commands = Some(self.commands.as_fd());
        match self.device.as_deref() {
            Some(device) => [
                commands,
                Some(device.nat.as_fd()),
                Some(device.ike.as_fd()),
                Some(device.native.as_fd()),
                Some(device.icmp.as_fd()),
            ],
            None => [commands, None, None, None, None],
        }
    }

    fn patience(&self) -> PollTimeout {
        PollTimeout::NONE
    }

    fn wake(&mut self, [commands, _, ike, native, icmp]: [bool; MAX_DESCRIPTORS]) {
        if commands {
            self.commands.reset();
        }
        self.ike_waits |= ike;
        self.raw_waits |= native || icmp;
    }
}

impl Opening {
    /// Takes a datagram of port 4500.
    fn take(&mut self, datagram: &mut [u8], received: Received, device: &Device) {
        match Encapsulated::of(datagram) {
            Encapsulated::Esp(_) => {}
            Encapsulated::Ike(message) => return self.pass_to_ike(NAT_PORT, received.source, message),
            Encapsulated::Keepalive => return,
            Encapsulated::Malformed => return self.counters.drops.add(DropReason::MalformedEsp, 1),
        }
        self.take_esp(datagram, (received.source, received.traffic_class), device);
    }

    /// Takes an ESP packet with its sender and traffic class, however it was carried.
    fn take_esp(&mut self, datagram: &mut [u8], (source, traffic_class): (SocketAddr, u8), device: &Device) {
        let Ok(header) = EspHeader::decode(datagram) else {
            return self.counters.drops.add(DropReason::MalformedEsp, 1);
        };
        let Some((sa, context)) = self.table.find(header.spi) else {
            return self.counters.drops.add(DropReason::UnknownSpi, 1);
        };
        let arrival = match sa.open(datagram, traffic_class) {
            Ok(arrival) => arrival,
            Err(reason) => return context.counters.drops.add(reason, 1),
        };
        Counters::add(&context.counters.authentic_in, 1);
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
        let inner = &mut datagram[offset..offset + header.total_len];
        mss::clamp(inner, &header, usize::from(context.inner_mtu));
        Counters::add(&context.counters.packets_in, 1);
        Counters::add(&context.counters.bytes_in, header.total_len as u64);
        let refused = self.runs.take(&header, inner, &device.tun);
        self.count_refused(refused);
    }

    fn pass_to_ike(&self, local_port: u16, remote: SocketAddr, message: &[u8]) {
        if message.len() > MAX_IKE_LEN || message.len() < NON_ESP_MARKER_LEN {
            return;
        }
        let stranger = match self.gate.judge(remote.ip(), message) {
            Verdict::Known => None,
            Verdict::Stranger(ticket) => Some(ticket),
            Verdict::Refused => return self.counters.drops.add(DropReason::UnknownSpi, 1),
        };
        // A full queue loses the message as a full socket would: it is sent again.
        self.events.try_send(PlaneEvent::Ike {
            local_port,
            remote,
            message: message.to_vec(),
            stranger,
        });
    }

    fn flush(&mut self, device: &Device) {
        let refused = self.runs.flush(&device.tun);
        self.count_refused(refused);
    }

    fn flush_old(&mut self, device: &Device) {
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

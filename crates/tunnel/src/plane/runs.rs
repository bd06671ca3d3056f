//! Opened packets on their way into few writes to the TUN device.

use std::io::{self, IoSlice};

use isthmus_esp::offload::{PacketRun, UdpJoining, VNET_HEADER_LEN};
use isthmus_netlink::tun::Tun;
use isthmus_wire::ip::IpHeader;

/// Runs that grow at the same time, each of another flow.
const MAX_RUNS: usize = 8;
/// Packets in one run: as many as the longest super-packet holds of 1,024 bytes.
const MAX_PIECES: usize = 64;

const PLAIN: [u8; VNET_HEADER_LEN] = [0; VNET_HEADER_LEN];

/// Where a packet is: which buffer, where it begins, how long it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) buffer: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Place {
    fn of<'a>(&self, buffers: &'a [Box<[u8]>]) -> &'a [u8] {
        &buffers[self.buffer][self.start..self.start + self.len]
    }
}

/// TCP segments and UDP datagrams being joined. Packets of one flow leave in the order in which they came.
pub(super) struct Runs {
    // The oldest first.
    open: Vec<Run>,
    #[expect(
        clippy::vec_box,
        reason = "they move between the lists, which must not copy them"
    )]
    spare: Vec<Box<Pieces>>,
}

struct Run {
    headers: PacketRun,
    pieces: Box<Pieces>,
}

struct Pieces {
    places: [Place; MAX_PIECES],
    count: usize,
}

impl Runs {
    pub(super) fn new() -> Self {
        let pieces = || {
            Box::new(Pieces {
                places: [Place::default(); MAX_PIECES],
                count: 0,
            })
        };
        Self {
            open: Vec::with_capacity(MAX_RUNS),
            spare: (0..MAX_RUNS).map(|_| pieces()).collect(),
        }
    }

    /// Takes a packet. Returns how many packets the device refused meanwhile.
    pub(super) fn take(
        &mut self,
        header: &IpHeader,
        place: Place,
        buffers: &[Box<[u8]>],
        tun: &Tun,
    ) -> usize {
        let packet = place.of(buffers);
        let mut refused = 0;
        // A fragment may be of several of the flows that are open.
        while let Some(index) = self
            .open
            .iter()
            .position(|run| run.headers.shares_flow(header, packet))
        {
            let Run { headers, pieces } = &mut self.open[index];
            if pieces.count < MAX_PIECES && headers.join(header, packet) {
                pieces.places[pieces.count] = place;
                pieces.count += 1;
                return refused;
            }
            refused += self.end(index, buffers, tun);
        }
        let udp = if tun.has_udp_segmentation() {
            UdpJoining::Allowed
        } else {
            UdpJoining::Refused
        };
        let Some(headers) = PacketRun::start(header, packet, udp) else {
            let written = tun.write(&[IoSlice::new(&PLAIN), IoSlice::new(packet)]);
            return refused + usize::from(written.is_err());
        };
        if self.open.len() == MAX_RUNS {
            refused += self.end(0, buffers, tun);
        }
        if let Some(mut pieces) = self.spare.pop() {
            pieces.places[0] = place;
            pieces.count = 1;
            self.open.push(Run { headers, pieces });
        }
        refused
    }

    /// Writes everything. Returns how many packets the device refused.
    pub(super) fn flush(&mut self, buffers: &[Box<[u8]>], tun: &Tun) -> usize {
        let mut refused = 0;
        for run in self.open.drain(..) {
            let (lost, pieces) = run.write(buffers, tun);
            refused += lost;
            self.spare.push(pieces);
        }
        refused
    }

    fn end(&mut self, index: usize, buffers: &[Box<[u8]>], tun: &Tun) -> usize {
        let (lost, pieces) = self.open.remove(index).write(buffers, tun);
        self.spare.push(pieces);
        lost
    }
}

impl Run {
    /// Writes the run. Returns how many packets the device refused, and what can serve the next run.
    fn write(mut self, buffers: &[Box<[u8]>], tun: &Tun) -> (usize, Box<Pieces>) {
        let places = &self.pieces.places[..self.pieces.count];
        if let [only] = places {
            let written = tun.write(&[IoSlice::new(&PLAIN), IoSlice::new(only.of(buffers))]);
            return (usize::from(written.is_err()), self.pieces);
        }
        let header_len = self.headers.header_len();
        let (vnet, headers) = self.headers.finish();
        let vnet = vnet.encode();
        let mut slices = [IoSlice::new(&[]); MAX_PIECES + 2];
        slices[0] = IoSlice::new(&vnet);
        slices[1] = IoSlice::new(headers);
        for (slice, place) in slices[2..].iter_mut().zip(places) {
            *slice = IoSlice::new(&place.of(buffers)[header_len..]);
        }
        let lost = match tun.write(&slices[..places.len() + 2]) {
            Ok(()) => 0,
            Err(error) => Self::write_apart(places, buffers, tun, &error),
        };
        (lost, self.pieces)
    }

    // A kernel that refuses a super-packet (some refuse certain shapes) still takes its parts.
    fn write_apart(places: &[Place], buffers: &[Box<[u8]>], tun: &Tun, error: &io::Error) -> usize {
        if error.kind() != io::ErrorKind::InvalidInput {
            return places.len();
        }
        places
            .iter()
            .filter(|place| {
                tun.write(&[IoSlice::new(&PLAIN), IoSlice::new(place.of(buffers))])
                    .is_err()
            })
            .count()
    }
}

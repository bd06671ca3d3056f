//! Opened packets on their way into few writes to the TUN device.

use std::io::{self, IoSlice};

use isthmus_esp::offload::{TcpRun, VNET_HEADER_LEN};
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

/// TCP segments being joined. Packets of one flow leave in the order in which they came.
pub(super) struct Runs {
    open: Vec<Run>,
}

struct Run {
    headers: TcpRun,
    places: [Place; MAX_PIECES],
    count: usize,
}

impl Runs {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::with_capacity(MAX_RUNS),
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
        if let Some(index) = self
            .open
            .iter()
            .position(|run| run.headers.shares_flow(header, packet))
        {
            let run = &mut self.open[index];
            if run.count < MAX_PIECES && run.headers.join(header, packet) {
                run.places[run.count] = place;
                run.count += 1;
                return 0;
            }
            refused += self.open.remove(index).write(buffers, tun);
        }
        match TcpRun::start(header, packet) {
            Some(headers) => {
                if self.open.len() == MAX_RUNS {
                    refused += self.open.remove(0).write(buffers, tun);
                }
                let mut places = [Place::default(); MAX_PIECES];
                places[0] = place;
                self.open.push(Run {
                    headers,
                    places,
                    count: 1,
                });
            }
            None => {
                let written = tun.write(&[IoSlice::new(&PLAIN), IoSlice::new(packet)]);
                refused += usize::from(written.is_err());
            }
        }
        refused
    }

    /// Writes everything. Returns how many packets the device refused.
    pub(super) fn flush(&mut self, buffers: &[Box<[u8]>], tun: &Tun) -> usize {
        self.open.drain(..).map(|run| run.write(buffers, tun)).sum()
    }
}

impl Run {
    fn write(mut self, buffers: &[Box<[u8]>], tun: &Tun) -> usize {
        let places = &self.places[..self.count];
        if let [only] = places {
            let written = tun.write(&[IoSlice::new(&PLAIN), IoSlice::new(only.of(buffers))]);
            return usize::from(written.is_err());
        }
        let header_len = self.headers.header_len();
        let (vnet, headers) = self.headers.finish();
        let vnet = vnet.encode();
        let mut pieces = [IoSlice::new(&[]); MAX_PIECES + 2];
        pieces[0] = IoSlice::new(&vnet);
        pieces[1] = IoSlice::new(headers);
        for (piece, place) in pieces[2..].iter_mut().zip(places) {
            *piece = IoSlice::new(&place.of(buffers)[header_len..]);
        }
        match tun.write(&pieces[..self.count + 2]) {
            Ok(()) => 0,
            Err(error) => Self::write_apart(places, buffers, tun, &error),
        }
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

//! Opened packets on their way into few writes to the TUN device.
//!
//! The payloads of a run are copied behind each other as they come. That costs less than it saves: the kernel copies one
//! long piece several times as fast as many short ones, one receive buffer that stays in the cache serves all receives,
//! and a run can grow over as many of them as it takes to fill it.

use std::io::{self, IoSlice};

use isthmus_esp::offload::{MAX_HEADER_LEN, PacketRun, Splitter, UdpJoining, VNET_HEADER_LEN};
use isthmus_netlink::tun::{READ_LEN, Tun};
use isthmus_wire::ip::IpHeader;

/// Runs that grow at the same time, each of another flow.
const MAX_RUNS: usize = 8;
/// Where the payloads of a run begin in its buffer. The headers end there; a multiple of the cache line.
const PAYLOAD: usize = (VNET_HEADER_LEN + MAX_HEADER_LEN).next_multiple_of(64);
const BUFFER_LEN: usize = PAYLOAD + 65_536;

const PLAIN: [u8; VNET_HEADER_LEN] = [0; VNET_HEADER_LEN];

/// TCP segments and UDP datagrams being joined. Packets of one flow leave in the order in which they came.
pub(super) struct Runs {
    // The oldest first.
    open: Vec<Run>,
    // The one that was used last at the end: it is still in the cache.
    spare: Vec<Box<[u8]>>,
    // Holds a packet while a refused super-packet is written in parts.
    part: Box<[u8]>,
}

struct Run {
    headers: PacketRun,
    buffer: Box<[u8]>,
    end: usize,
    // Whether it has already lived through a turn.
    old: bool,
}

impl Runs {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::with_capacity(MAX_RUNS),
            spare: (0..MAX_RUNS)
                .map(|_| vec![0; BUFFER_LEN].into_boxed_slice())
                .collect(),
            part: vec![0; READ_LEN].into_boxed_slice(),
        }
    }

    /// Takes a packet. Returns how many packets the device refused meanwhile.
    pub(super) fn take(&mut self, header: &IpHeader, packet: &[u8], tun: &Tun) -> usize {
        let mut refused = 0;
        // A fragment may be of several of the flows that are open.
        while let Some(index) = self
            .open
            .iter()
            .position(|run| run.headers.shares_flow(header, packet))
        {
            let run = &mut self.open[index];
            if run.headers.join(header, packet) {
                run.append(packet);
                if run.headers.is_full() {
                    refused += self.end(index, tun);
                }
                return refused;
            }
            refused += self.end(index, tun);
        }
        let udp = if tun.has_udp_segmentation() {
            UdpJoining::Allowed
        } else {
            UdpJoining::Refused
        };
        if self.open.len() == MAX_RUNS {
            refused += self.end(0, tun);
        }
        let begun = PacketRun::start(header, packet, udp).filter(|headers| !headers.is_full());
        match begun.and_then(|headers| Some((headers, self.spare.pop()?))) {
            Some((headers, buffer)) => {
                let mut run = Run {
                    headers,
                    buffer,
                    end: PAYLOAD,
                    old: false,
                };
                run.append(packet);
                self.open.push(run);
                refused
            }
            None => {
                let written = tun.write(&[IoSlice::new(&PLAIN), IoSlice::new(packet)]);
                refused + usize::from(written.is_err())
            }
        }
    }

    /// Writes everything. Returns how many packets the device refused.
    pub(super) fn flush(&mut self, tun: &Tun) -> usize {
        let mut refused = 0;
        while !self.open.is_empty() {
            refused += self.end(0, tun);
        }
        refused
    }

    /// Writes what was there already when this was called last: what waits to be joined waits no longer than that.
    /// Returns how many packets the device refused.
    pub(super) fn flush_old(&mut self, tun: &Tun) -> usize {
        let mut refused = 0;
        while self.open.first().is_some_and(|run| run.old) {
            refused += self.end(0, tun);
        }
        for run in &mut self.open {
            run.old = true;
        }
        refused
    }

    fn end(&mut self, index: usize, tun: &Tun) -> usize {
        let mut run = self.open.remove(index);
        let refused = run.write(&mut self.part, tun);
        self.spare.push(run.buffer);
        refused
    }
}

impl Run {
    /// Copies the payload of a packet that was joined.
    fn append(&mut self, packet: &[u8]) {
        let payload = &packet[self.headers.header_len()..];
        self.buffer[self.end..self.end + payload.len()].copy_from_slice(payload);
        self.end += payload.len();
    }

    /// Writes the run. Returns how many packets the device refused.
    fn write(&mut self, part: &mut [u8], tun: &Tun) -> usize {
        let (vnet, headers) = self.headers.finish();
        let start = PAYLOAD - headers.len();
        self.buffer[start..PAYLOAD].copy_from_slice(headers);
        let start = start - VNET_HEADER_LEN;
        self.buffer[start..start + VNET_HEADER_LEN].copy_from_slice(&vnet.encode());
        let whole = &self.buffer[start..self.end];
        match tun.write(&[IoSlice::new(whole)]) {
            Ok(()) => 0,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => write_apart(whole, part, tun),
            Err(_) => self.headers.count(),
        }
    }
}

/// A kernel that refuses a super-packet (some refuse certain shapes) still takes its parts. Returns how many packets the
/// device refused.
fn write_apart(whole: &[u8], part: &mut [u8], tun: &Tun) -> usize {
    let Ok(splitter) = Splitter::new(whole) else {
        return 1;
    };
    (0..splitter.count())
        .filter(|&index| {
            let part = &mut part[..splitter.len_of(index)];
            splitter.write(index, part);
            tun.write(&[IoSlice::new(&PLAIN), IoSlice::new(part)]).is_err()
        })
        .count()
}

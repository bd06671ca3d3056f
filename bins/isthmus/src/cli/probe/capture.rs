//! Every packet that crosses a namespace, sorted into what a tunnel may show and everything else.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use isthmus_netlink::namespace::Namespace;
use isthmus_wire::ip::{self, IpHeader};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const ETHERNET_HEADER_LEN: usize = 14;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// UDP ports of IKE, and of IKE and ESP together (RFC 3948).
const TUNNEL_PORTS: [u16; 2] = [500, 4500];

/// Room for packets while the capturing thread does not run, bytes.
const RECEIVE_BUFFER: usize = 16 << 20;

/// How many of the packets that do not belong to the tunnel are described.
const EXAMPLES: usize = 5;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// UDP 500 and 4500 between the two public addresses.
    pub tunnel: u64,
    /// Neighbour discovery by ARP, which is no IP packet.
    pub arp: u64,
    /// All else.
    pub other: u64,
    /// Some of all else, in words.
    pub examples: Vec<String>,
}

/// A capture under way.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Seen>>,
}

impl Capture {
    /// Begins to look at every link of `namespace`; packets between `ends` on the tunnel's ports belong there.
    pub fn begin(namespace: &Namespace, ends: [Ipv4Addr; 2]) -> anyhow::Result<Self> {
        let socket = namespace
            .run(|| {
                socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::EthAll,
                )
            })?
            .map_err(io::Error::from)
            .context("no packets can be captured")?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).map_err(io::Error::from)?;
        // Short, so that the end of the capture is noticed.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000)).map_err(io::Error::from)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || watch(&socket, ends, &stopped))
            .context("no thread can be made")?;
        Ok(Self { stop, thread })
    }

    /// Ends, and tells what was seen.
    pub fn end(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::Release);
        let seen = self
            .thread
            .join()
            .map_err(|_| anyhow::anyhow!("the capture panicked"))?;
        seen.context("packets cannot be captured")
    }
}

// Ends only when the socket is empty: what was sent before the end is counted.
fn watch(socket: &OwnedFd, ends: [Ipv4Addr; 2], stop: &AtomicBool) -> io::Result<Seen> {
    let mut seen = Seen::default();
    let mut buffer = vec![0; 0x1_0100];
    loop {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => seen.count(buffer.get(..length).unwrap_or_default(), ends),
            Err(Errno::EAGAIN) if stop.load(Ordering::Acquire) => return Ok(seen),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Seen {
    fn count(&mut self, frame: &[u8], ends: [Ipv4Addr; 2]) {
        match ethertype(frame) {
            Some(ETHERTYPE_ARP) => self.arp += 1,
            _ if is_tunnel(frame, ends) => self.tunnel += 1,
            _ => {
                self.other += 1;
                if self.examples.len() < EXAMPLES {
                    self.examples.push(describe(frame));
                }
            }
        }
    }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    let bytes = frame.get(ETHERNET_HEADER_LEN - 2..ETHERNET_HEADER_LEN)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn is_tunnel(frame: &[u8], ends: [Ipv4Addr; 2]) -> bool {
    let Some(packet) = frame.get(ETHERNET_HEADER_LEN..) else {
        return false;
    };
    let Ok(header) = IpHeader::decode(packet) else {
        return false;
    };
    let between = [[ends[0], ends[1]], [ends[1], ends[0]]]
        .iter()
        .any(|[from, to]| header.source == IpAddr::V4(*from) && header.destination == IpAddr::V4(*to));
    between
        && header.protocol == ip::UDP
        && header.ports(packet).is_some_and(|(source, destination)| {
            TUNNEL_PORTS.contains(&source) && TUNNEL_PORTS.contains(&destination)
        })
}

fn describe(frame: &[u8]) -> String {
    let kind = ethertype(frame);
    let packet = frame.get(ETHERNET_HEADER_LEN..).unwrap_or_default();
    match (kind, IpHeader::decode(packet)) {
        (Some(ETHERTYPE_IPV4 | ETHERTYPE_IPV6), Ok(header)) => {
            let ports = header
                .ports(packet)
                .map(|(from, to)| format!(", {from} to {to}"))
                .unwrap_or_default();
            format!(
                "{} to {}, protocol {}{ports}",
                header.source, header.destination, header.protocol
            )
        }
        (kind, _) => format!("{} bytes of type {:#06x}", frame.len(), kind.unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    const RIGHT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);

    fn frame(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, ports: [u16; 2]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ETHERTYPE_IPV4.to_be_bytes());
        frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(ports.into_iter().flat_map(u16::to_be_bytes));
        frame.extend([0, 8, 0, 0]);
        frame
    }

    #[test]
    fn only_tunnel_ports_between_the_two_ends_belong() {
        for (frame, expected) in [
            (frame(LEFT, RIGHT, ip::UDP, [4500, 4500]), true),
            (frame(RIGHT, LEFT, ip::UDP, [500, 500]), true),
            (frame(LEFT, RIGHT, ip::UDP, [4500, 53]), false),
            (frame(LEFT, RIGHT, ip::TCP, [4500, 4500]), false),
            (frame(LEFT, LEFT, ip::UDP, [4500, 4500]), false),
            (
                frame(Ipv4Addr::new(10, 1, 0, 4), RIGHT, ip::UDP, [4500, 4500]),
                false,
            ),
        ] {
            let mut seen = Seen::default();
            seen.count(&frame, [LEFT, RIGHT]);
            assert_eq!(
                (seen.tunnel, seen.other),
                (u64::from(expected), u64::from(!expected))
            );
        }
    }

    #[test]
    fn half_a_frame_is_something_else() {
        let whole = frame(LEFT, RIGHT, ip::UDP, [4500, 4500]);
        for length in 0..whole.len() {
            let mut seen = Seen::default();
            seen.count(&whole[..length], [LEFT, RIGHT]);
            assert_eq!(seen.other, 1, "{length}");
        }
    }

    #[test]
    fn sees_what_is_sent() {
        let here = Namespace::current().unwrap();
        let capture = Capture::begin(&here, [LEFT, RIGHT]).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.send_to(b"x", address).unwrap();
        assert!(capture.end().unwrap().other > 0);
    }
}

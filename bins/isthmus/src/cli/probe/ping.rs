//! ICMP echo (RFC 792) from inside a namespace.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use isthmus_netlink::namespace::Namespace;
use isthmus_runtime::random;
use isthmus_wire::checksum;
use isthmus_wire::ip::IpHeader;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const HEADER_LEN: usize = 8;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends echo requests to one address.
#[derive(Debug)]
pub struct Pinger {
    socket: OwnedFd,
    target: Ipv4Addr,
    identifier: u16,
    size: usize,
}

impl Pinger {
    /// Opens a socket in `namespace`; each request will carry `size` bytes of data.
    pub fn open(namespace: &Namespace, target: Ipv4Addr, size: usize) -> anyhow::Result<Self> {
        Ok(Self {
            socket: icmp_socket(namespace)?,
            target,
            identifier: u16::from_be_bytes(random::bytes()),
            size,
        })
    }

    /// Identifies our requests among others'.
    pub const fn identifier(&self) -> u16 {
        self.identifier
    }

    /// Sends request number `sequence` and waits for its answer; none if it does not come within `patience`.
    pub fn once(&self, sequence: u16, patience: Duration) -> anyhow::Result<Option<Duration>> {
        let begin = Instant::now();
        let request = self.send(sequence)?;
        let answer = receive(&self.socket, begin + patience, |echo| {
            (echo.kind == ECHO_REPLY
                && echo.source == self.target
                && echo.identifier == self.identifier
                && echo.sequence == sequence
                && echo.data == &request[HEADER_LEN..])
                .then_some(())
        })?;
        Ok(answer.map(|()| begin.elapsed()))
    }

    /// Sends a request every `interval` until any of them is answered, or until `deadline`.
    pub fn until_answered(&self, interval: Duration, deadline: Instant) -> anyhow::Result<Awaited> {
        let mut sent = Vec::new();
        loop {
            let now = Instant::now();
            sent.push(now);
            let next = (now + interval).min(deadline);
            self.send((sent.len() % 0x1_0000) as u16)?;
            let answered = receive(&self.socket, next, |echo| {
                (echo.kind == ECHO_REPLY && echo.source == self.target && echo.identifier == self.identifier)
                    .then(Instant::now)
            })?;
            if answered.is_some() || next == deadline {
                return Ok(Awaited { sent, answered });
            }
        }
    }

    // A request that finds no way at the moment counts as lost.
    fn send(&self, sequence: u16) -> anyhow::Result<Vec<u8>> {
        let request = self.request(sequence);
        let target = SockaddrIn::from(SocketAddrV4::new(self.target, 0));
        match sendto(self.socket.as_raw_fd(), &request, &target, MsgFlags::empty()) {
            Ok(_)
            | Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EPERM | Errno::ENOBUFS) => {
                Ok(request)
            }
            Err(error) => Err(io::Error::from(error)).context("an echo request cannot be sent"),
        }
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
        packet.extend(self.identifier.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend((0..self.size).map(|index| (index % 251) as u8));
        let checksum = checksum::of(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&checksum);
        packet
    }
}

/// Hears the echo requests that arrive in a namespace.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Opens a socket in `namespace`.
    pub fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        icmp_socket(namespace).map(Self)
    }

    /// Source address of the next request with this identifier; none if none arrived within `patience`.
    pub fn source_of(&self, identifier: u16, patience: Duration) -> anyhow::Result<Option<Ipv4Addr>> {
        receive(&self.0, Instant::now() + patience, |echo| {
            (echo.kind == ECHO_REQUEST && echo.identifier == identifier).then_some(echo.source)
        })
    }
}

/// What came of waiting for an answer.
#[derive(Debug)]
pub struct Awaited {
    /// When each request was sent.
    pub sent: Vec<Instant>,
    /// When the first answer came, if any.
    pub answered: Option<Instant>,
}

/// What came of a series of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// Requests.
    pub sent: u16,
    /// Answers.
    pub answered: u16,
    /// Median time of those answered.
    pub median: Duration,
    /// Longest time of those answered.
    pub longest: Duration,
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sent, {} answered", self.sent, self.answered)?;
        if self.answered > 0 {
            let (median, longest) = (milliseconds(self.median), milliseconds(self.longest));
            write!(f, ", median {median:.2} ms, longest {longest:.2} ms")?;
        }
        Ok(())
    }
}

/// Sends `count` requests, the next one `interval` after the one before.
pub fn series(pinger: &Pinger, count: u16, interval: Duration) -> anyhow::Result<Series> {
    let mut times = Vec::new();
    for sequence in 0..count {
        let begin = Instant::now();
        times.extend(pinger.once(sequence, PATIENCE)?);
        if sequence + 1 < count {
            thread::sleep(interval.saturating_sub(begin.elapsed()));
        }
    }
    times.sort_unstable();
    Ok(Series {
        sent: count,
        answered: times.len() as u16,
        median: times.get(times.len() / 2).copied().unwrap_or_default(),
        longest: times.last().copied().unwrap_or_default(),
    })
}

struct Echo<'a> {
    source: Ipv4Addr,
    kind: u8,
    identifier: u16,
    sequence: u16,
    data: &'a [u8],
}

impl<'a> Echo<'a> {
    // A raw socket hands over the IP header too.
    fn decode(packet: &'a [u8]) -> Option<Self> {
        let header = IpHeader::decode(packet).ok()?;
        let IpAddr::V4(source) = header.source else {
            return None;
        };
        let message = packet.get(header.header_len..header.total_len)?;
        let (head, data) = message.split_first_chunk::<HEADER_LEN>()?;
        Some(Self {
            source,
            kind: head[0],
            identifier: u16::from_be_bytes([head[4], head[5]]),
            sequence: u16::from_be_bytes([head[6], head[7]]),
            data,
        })
    }
}

fn icmp_socket(namespace: &Namespace) -> anyhow::Result<OwnedFd> {
    namespace
        .run(|| {
            socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Icmp,
            )
        })?
        .map_err(io::Error::from)
        .context("no ICMP socket can be opened")
}

// The first message that `wanted` makes something of.
fn receive<T>(
    socket: &OwnedFd,
    deadline: Instant,
    mut wanted: impl FnMut(&Echo<'_>) -> Option<T>,
) -> anyhow::Result<Option<T>> {
    let mut buffer = vec![0; 0x1_0000];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // Zero would mean to wait for ever.
        let limit = TimeVal::new(left.as_secs() as i64, i64::from(left.subsec_micros().max(1)));
        setsockopt(socket, sockopt::ReceiveTimeout, &limit).map_err(io::Error::from)?;
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => {
                if let Some(found) = buffer
                    .get(..length)
                    .and_then(Echo::decode)
                    .and_then(|echo| wanted(&echo))
                {
                    return Ok(Some(found));
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(io::Error::from(error)).context("echo replies cannot be received"),
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_answers_and_sees_the_source() {
        let here = Namespace::current().unwrap();
        let pinger = Pinger::open(&here, Ipv4Addr::LOCALHOST, 1400).unwrap();
        let listener = Listener::open(&here).unwrap();
        assert!(pinger.once(7, Duration::from_secs(5)).unwrap().is_some());
        let source = listener
            .source_of(pinger.identifier(), Duration::from_secs(5))
            .unwrap();
        assert_eq!(source, Some(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn silence_is_no_answer() {
        let here = Namespace::current().unwrap();
        let listener = Listener::open(&here).unwrap();
        assert_eq!(listener.source_of(1, Duration::from_millis(20)).unwrap(), None);
    }

    #[test]
    fn series_without_answers_has_no_times() {
        let none = Series {
            sent: 3,
            answered: 0,
            median: Duration::ZERO,
            longest: Duration::ZERO,
        };
        assert_eq!(none.to_string(), "3 sent, 0 answered");
    }
}

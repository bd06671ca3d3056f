//! Echo requests (RFC 792, RFC 4443) at a fixed pace with an exact account of every one.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::node::Node;
use crate::patience::{eventually, stretched};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const MAGIC: &[u8; 8] = b"isthmus!";
const HEADER: usize = 8;
/// Bytes of an echo message: header, magic, stream number, sequence number of 64 bits, filling as `ping` has it.
const MESSAGE: usize = 64;
/// How long an answer may take before its request counts as lost.
const LAST_ANSWER: Duration = Duration::from_secs(2);

static NEXT_STREAM: AtomicU32 = AtomicU32::new(1);

/// The account of a stream of echo requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PingCount {
    /// Requests, also those that the kernel refused to send.
    pub sent: u64,
    /// Requests that were answered.
    pub received: u64,
    /// Answers beyond the first of a request.
    pub duplicates: u64,
    /// Requests that the kernel refused to send.
    pub refused: u64,
    /// Sequence numbers, from 0, of the first requests without an answer (at most 32).
    pub first_lost: Vec<u64>,
    /// Longest time between two answers.
    pub longest_silence: Duration,
    /// Median time from request to answer.
    pub median_round_trip: Duration,
    /// Longest time from request to answer.
    pub longest_round_trip: Duration,
}

impl PingCount {
    /// Requests without an answer.
    pub const fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

/// A stream of echo requests that runs until it is finished or dropped.
#[derive(Debug)]
pub struct Ping {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<PingCount>>>,
}

impl Ping {
    /// Starts sending to `destination` every `interval`. A sender that was held up does not catch up by a burst.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(from: &Node, destination: impl Into<IpAddr>, interval: Duration) -> Result<Self> {
        Self::spawn(from, destination.into(), interval, u64::MAX)
    }

    /// Sends exactly `count` requests and waits for their answers.
    ///
    /// # Errors
    /// When the socket cannot be made or read.
    pub fn exactly(
        from: &Node,
        destination: impl Into<IpAddr>,
        interval: Duration,
        count: u64,
    ) -> Result<PingCount> {
        Self::spawn(from, destination.into(), interval, count)?.join()
    }

    /// Waits until `destination` answers, asking every 10 ms, and tells how long that took.
    ///
    /// # Errors
    /// When there is no answer in the usual time.
    pub fn until_answered(from: &Node, destination: impl Into<IpAddr>) -> Result<Duration> {
        let destination = destination.into();
        let start = Instant::now();
        let what = format!("an echo reply from {destination}");
        eventually(&what, || {
            let socket = from.run(|| open(destination))??;
            socket.set_read_timeout(Some(Duration::from_millis(10)))?;
            let stream = NEXT_STREAM.fetch_add(1, Ordering::Relaxed);
            let target = SocketAddr::new(destination, 0).into();
            socket.send_to(&request(destination, stream, 0), &target)?;
            let asked = Instant::now();
            let mut buffer = [0; 2048];
            while asked.elapsed() < Duration::from_millis(10) {
                match (&socket).read(&mut buffer) {
                    Ok(length) if answered(destination, &buffer[..length], stream).is_some() => return Ok(()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
            bail!("no echo reply")
        })?;
        Ok(start.elapsed())
    }

    /// Number of requests so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until `count` more requests have gone out.
    ///
    /// # Errors
    /// When they do not in the usual time.
    pub fn wait_for_more(&self, count: u64) -> Result<()> {
        let target = self.sent() + count;
        eventually("more echo requests", || {
            if self.sent() < target {
                bail!("{} of {target} sent", self.sent());
            }
            Ok(())
        })
    }

    /// Stops sending, waits for the outstanding answers and yields the account.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn finish(self) -> Result<PingCount> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    fn spawn(from: &Node, destination: IpAddr, interval: Duration, count: u64) -> Result<Self> {
        let socket = from.run(|| open(destination))??;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(1 << 20)?;
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let stream = Stream {
            socket,
            destination,
            interval,
            limit: count,
            number: NEXT_STREAM.fetch_add(1, Ordering::Relaxed),
            departures: Vec::new(),
            answered: Vec::new(),
            round_trips: Vec::new(),
            last_answer: None,
            count: PingCount::default(),
        };
        let thread = thread::Builder::new().name("ping".to_owned()).spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || stream.run(&stop, &sent)
        })?;
        Ok(Self {
            stop,
            sent,
            thread: Some(thread),
        })
    }

    fn join(mut self) -> Result<PingCount> {
        let thread = self.thread.take().expect("joined only here and in drop");
        thread
            .join()
            .unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Stream {
    socket: Socket,
    destination: IpAddr,
    interval: Duration,
    limit: u64,
    number: u32,
    departures: Vec<Instant>,
    answered: Vec<bool>,
    round_trips: Vec<Duration>,
    last_answer: Option<Instant>,
    count: PingCount,
}

impl Stream {
    fn run(mut self, stop: &AtomicBool, sent: &AtomicU64) -> Result<PingCount> {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) && self.count.sent < self.limit {
            let now = Instant::now();
            if now < next {
                self.wait(next - now)?;
                continue;
            }
            self.send(now);
            sent.store(self.count.sent, Ordering::Relaxed);
            next = (next + self.interval).max(now);
        }
        let deadline = Instant::now() + stretched(LAST_ANSWER);
        while self.count.received + self.count.refused < self.count.sent {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            self.wait(deadline - now)?;
        }
        self.round_trips.sort_unstable();
        let mut count = self.count;
        count.first_lost = (0u64..)
            .zip(&self.answered)
            .filter(|(_, answered)| !**answered)
            .map(|(sequence, _)| sequence)
            .take(32)
            .collect();
        count.median_round_trip = self
            .round_trips
            .get(self.round_trips.len() / 2)
            .copied()
            .unwrap_or_default();
        count.longest_round_trip = self.round_trips.last().copied().unwrap_or_default();
        Ok(count)
    }

    fn send(&mut self, now: Instant) {
        let message = request(self.destination, self.number, self.count.sent);
        let target = SocketAddr::new(self.destination, 0).into();
        if self.socket.send_to(&message, &target).is_err() {
            self.count.refused += 1;
        }
        self.count.sent += 1;
        self.departures.push(now);
        self.answered.push(false);
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut ready, Some(TimeSpec::from_duration(limit)), None)?;
        let mut buffer = [0; 2048];
        loop {
            match (&self.socket).read(&mut buffer) {
                Ok(length) => {
                    if let Some(sequence) = answered(self.destination, &buffer[..length], self.number) {
                        self.receive(sequence);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn receive(&mut self, sequence: u64) {
        let now = Instant::now();
        let index = usize::try_from(sequence).unwrap_or(usize::MAX);
        let Some(answered) = self.answered.get_mut(index) else {
            return;
        };
        if *answered {
            self.count.duplicates += 1;
            return;
        }
        *answered = true;
        self.count.received += 1;
        self.round_trips.push(now - self.departures[index]);
        if let Some(last) = self.last_answer.replace(now) {
            self.count.longest_silence = self.count.longest_silence.max(now - last);
        }
    }
}

fn open(destination: IpAddr) -> Result<Socket> {
    let (domain, protocol) = match destination {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    Ok(Socket::new(domain, Type::RAW, Some(protocol))?)
}

/// The kernel fills in the checksum of ICMPv6, which covers addresses (RFC 3542 section 3.1).
fn request(destination: IpAddr, stream: u32, sequence: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    message[0] = match destination {
        IpAddr::V4(_) => ECHO_REQUEST,
        IpAddr::V6(_) => ECHO_REQUEST_V6,
    };
    message[4..6].copy_from_slice(&stream.to_be_bytes()[2..]);
    message[6..8].copy_from_slice(&sequence.to_be_bytes()[6..]);
    message[HEADER..16].copy_from_slice(MAGIC);
    message[16..20].copy_from_slice(&stream.to_be_bytes());
    message[20..24].copy_from_slice(&std::process::id().to_be_bytes());
    message[24..32].copy_from_slice(&sequence.to_be_bytes());
    let checksum = internet_checksum(&message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    message
}

/// Sequence number of the request that the packet answers, if it answers one of `stream`. The kernel delivers IPv4
/// packets with their header, IPv6 ones without.
fn answered(destination: IpAddr, packet: &[u8], stream: u32) -> Option<u64> {
    let (header, reply) = match destination {
        IpAddr::V4(_) => (usize::from(packet.first()? & 0x0f) * 4, ECHO_REPLY),
        IpAddr::V6(_) => (0, ECHO_REPLY_V6),
    };
    let message = packet.get(header..)?;
    let ours = message.len() == MESSAGE
        && message[0] == reply
        && message[HEADER..16] == *MAGIC
        && message[16..20] == stream.to_be_bytes()
        && message[20..24] == std::process::id().to_be_bytes();
    if !ours {
        return None;
    }
    Some(u64::from_be_bytes(message[24..32].try_into().ok()?))
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

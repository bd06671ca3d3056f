//! The IPv4 packets that come into a namespace, as they are.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::node::Node;

/// `ETH_P_IP`: a packet socket of one protocol sees what arrives, and not what leaves.
const IPV4: u16 = 0x0800;
const LONGEST: usize = 65_535;
/// How long the end may go unnoticed.
const LOOKING: Duration = Duration::from_millis(20);

/// Every IPv4 packet that arrives in a namespace on any of its interfaces, from the IP header on, in order.
#[derive(Debug)]
pub struct Capture {
    ended: Arc<AtomicBool>,
    reader: Option<JoinHandle<Result<Vec<Vec<u8>>>>>,
}

impl Capture {
    /// Starts to collect.
    ///
    /// # Errors
    /// When the kernel refuses the socket, for lack of privilege above all.
    pub fn start(node: &Node) -> Result<Self> {
        let protocol = Protocol::from(i32::from(IPV4.to_be()));
        let socket = node
            .run(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)))?
            .context("a packet socket")?;
        socket.set_read_timeout(Some(LOOKING))?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let reader = thread::spawn(move || collect(socket, &flag));
        Ok(Self {
            ended,
            reader: Some(reader),
        })
    }

    /// Ends collecting and yields what came.
    ///
    /// # Errors
    /// When the socket failed.
    pub fn finish(mut self) -> Result<Vec<Vec<u8>>> {
        self.ended.store(true, Ordering::Release);
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(packets)) => packets,
            Some(Err(_)) | None => bail!("the thread that collects packets panicked"),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// What has arrived before the end was asked for is in the socket's queue: the queue is read until it is empty.
fn collect(mut socket: Socket, ended: &AtomicBool) -> Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let last = ended.load(Ordering::Acquire);
        match socket.read(&mut buffer) {
            Ok(length) => packets.push(buffer[..length].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if last {
                    return Ok(packets);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("reading packets"),
        }
    }
}

//! Small packets: one sender that never pauses, one receiver that counts what arrives.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use isthmus_netlab::Node;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg, setsockopt, sockopt};

/// Bytes of UDP payload in each packet.
pub const PAYLOAD: usize = 64;
/// Packets in one system call at either end.
const AT_ONCE: usize = 64;
/// Room for packets that wait for the receiver.
const RECEIVE_BUFFER: usize = 32 << 20;
/// How often the receiver looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Sends from `from` to `to`, which holds `address`, as fast as one thread can, and yields how many packets a second
/// arrived within `duration`, after `warm_up`.
///
/// # Errors
/// When a socket cannot be made or used, or nothing arrives.
pub fn flood(
    from: &Node,
    to: &Node,
    address: Ipv4Addr,
    warm_up: Duration,
    duration: Duration,
) -> Result<f64> {
    let receiver = to.run(|| UdpSocket::bind(SocketAddrV4::new(address, 0)))??;
    receiver.set_read_timeout(Some(LOOK))?;
    setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
    let target = receiver.local_addr()?;
    let sender = from.run(|| UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)))??;
    sender.connect(target)?;

    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let arrived = Arc::new(AtomicU64::new(0));
    let receiving = spawn("flood-in", &stop, {
        let arrived = Arc::clone(&arrived);
        move |stop| receive(&receiver, &arrived, stop)
    })?;
    let sending = spawn("flood-out", &stop, move |stop| send(&sender, stop))?;
    thread::sleep(warm_up);
    let (first, start) = (arrived.load(Ordering::Relaxed), Instant::now());
    thread::sleep(duration);
    let (last, end) = (arrived.load(Ordering::Relaxed), Instant::now());
    drop(stop);
    for thread in [sending, receiving] {
        thread
            .join()
            .unwrap_or_else(|payload| std::panic::resume_unwind(payload))?;
    }
    ensure!(last > first, "no packet arrived");
    Ok((last - first) as f64 / (end - start).as_secs_f64())
}

/// Ends both threads, also when an error leaves the function.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn spawn(
    name: &str,
    stop: &Stop,
    work: impl FnOnce(&AtomicBool) -> Result<()> + Send + 'static,
) -> Result<JoinHandle<Result<()>>> {
    let stop = Arc::clone(&stop.0);
    Ok(thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work(&stop))?)
}

fn send(socket: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    let payload = [0x5a; PAYLOAD];
    let messages = [[IoSlice::new(&payload)]; AT_ONCE];
    let addresses = [None::<SockaddrIn>; AT_ONCE];
    while !stop.load(Ordering::Relaxed) {
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(AT_ONCE, None);
        match sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            messages.iter(),
            addresses,
            [],
            MsgFlags::empty(),
        ) {
            // A full queue on the way, or a refusal that another end made: the next may pass.
            Ok(_) | Err(Errno::ENOBUFS | Errno::ECONNREFUSED | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn receive(socket: &UdpSocket, arrived: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut buffers = [[0; 2 * PAYLOAD]; AT_ONCE];
    while !stop.load(Ordering::Relaxed) {
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(AT_ONCE, None);
        let mut slices: Vec<_> = buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        match recvmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices.iter_mut(),
            MsgFlags::MSG_WAITFORONE,
            None,
        ) {
            Ok(messages) => {
                let count = messages.filter(|message| message.bytes == PAYLOAD).count();
                arrived.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

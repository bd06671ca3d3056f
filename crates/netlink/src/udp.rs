//! UDP sockets that move many datagrams per system call, with segmentation offload where the kernel has it.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use crate::fragmentation::{Fragmentation, FragmentationSwitch};

/// Most segments that one send may carry on every kernel that has the offload.
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes that one send may carry.
pub const MAX_SEND_LEN: usize = 65_507;
/// Room that one receive needs.
pub const RECEIVE_LEN: usize = 65_536;

const SOCKET_BUFFER: usize = 8 << 20;
const CONTROL_LEN: usize = 64;

/// A UDP socket bound to one address, without blocking. It belongs to the namespace that it was opened in; several
/// threads may use it at once.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddr,
    segments_out: AtomicBool,
    segments_in: bool,
    fragmentation: FragmentationSwitch,
}

/// What one receive gave: datagrams of equal length but the last, all from one sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes of all datagrams together.
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub segment_len: usize,
    /// The sender.
    pub source: SocketAddr,
    /// Type of service or traffic class of all of them.
    pub traffic_class: u8,
}

/// Datagrams of equal length but the last, back to back.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// All bytes; at most [`MAX_SEND_LEN`].
    pub bytes: &'a [u8],
    /// Bytes of each datagram but the last; at most [`MAX_SEGMENTS`] datagrams.
    pub segment_len: usize,
    /// Type of service or traffic class for all of them.
    pub traffic_class: u8,
}

impl UdpSocket {
    /// Opens a socket in the calling thread's namespace and binds it.
    ///
    /// # Errors
    /// Those of the system, such as the address not being there.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        let domain = match local {
            SocketAddr::V4(_) => Domain::IPV4,
            SocketAddr::V6(_) => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        if local.is_ipv6() {
            socket.set_only_v6(true)?;
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        } else {
            set_option(&socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        }
        enlarge_buffers(&socket)?;
        socket.bind(&local.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(local);
        let segments_in = set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        let segments_out = set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        Ok(Self {
            fd: socket.into(),
            local,
            segments_out: AtomicBool::new(segments_out),
            segments_in,
            fragmentation: FragmentationSwitch::default(),
        })
    }

    /// The address that it is bound to.
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether the kernel joins received datagrams.
    pub const fn joins_received(&self) -> bool {
        self.segments_in
    }

    /// Whether sends still use segmentation offload. Turned off at run time by a route that cannot.
    pub fn cuts_sent(&self) -> bool {
        self.segments_out.load(Ordering::Relaxed)
    }

    /// Turns segmentation offload of sends off.
    pub fn send_without_segmentation(&self) {
        self.segments_out.store(false, Ordering::Relaxed);
    }

    /// Runs `send`, whose datagrams of the batches may be fragmented on the way as `wanted` says. Waits while another thread sends with the
    /// opposite.
    ///
    /// # Errors
    /// Those of `send`, and of the system.
    pub fn with_fragmentation<T>(
        &self,
        wanted: Fragmentation,
        send: impl FnOnce(&Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.fragmentation
            .during(&self.fd, self.local.ip(), wanted, || send(self))
    }

    /// Sends one datagram, in fragments if it is longer than the link.
    ///
    /// # Errors
    /// Those of the system.
    pub fn send_to(&self, bytes: &[u8], remote: SocketAddr) -> io::Result<()> {
        match self.send_message(bytes, None, 0, remote) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self
                .with_fragmentation(Fragmentation::Allowed, |socket| {
                    socket.send_message(bytes, None, 0, remote)
                }),
            sent => sent,
        }
    }

    /// Sends a batch in one call if offload allows, otherwise datagram by datagram. Returns how many datagrams the
    /// kernel did not take.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the socket's buffer is full; nothing of the batch was sent then, or the last
    /// part was not.
    pub fn send_batch(&self, batch: Batch<'_>, remote: SocketAddr) -> io::Result<usize> {
        let Batch {
            bytes,
            segment_len,
            traffic_class,
        } = batch;
        if bytes.len() <= segment_len {
            return match self.send_message(bytes, None, traffic_class, remote) {
                Ok(()) => Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
                Err(_) => Ok(1),
            };
        }
        if self.cuts_sent() {
            let segment = u16::try_from(segment_len).ok();
            match self.send_message(bytes, segment, traffic_class, remote) {
                Ok(()) => return Ok(0),
                // EIO: the device computes no checksums. EINVAL: a segment exceeds the path's MTU.
                Err(error) => match error.raw_os_error() {
                    Some(libc::EIO) => self.send_without_segmentation(),
                    Some(libc::EINVAL | libc::EMSGSIZE) => {}
                    _ if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                    _ => return Ok(bytes.len().div_ceil(segment_len)),
                },
            }
        }
        let mut refused = 0;
        for datagram in bytes.chunks(segment_len) {
            match self.send_message(datagram, None, traffic_class, remote) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => refused += 1,
            }
        }
        Ok(refused)
    }

    /// Receives into `buffer`, which should have [`RECEIVE_LEN`] bytes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing waits; others if the system reports an error about an earlier send.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut control = ControlBuffer::new();
        let mut piece = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        // SAFETY: all bytes zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_name = address.as_mut_ptr().cast();
        message.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN as _;
        // SAFETY: every pointer in `message` is to memory of the given length that outlives the call.
        let received = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        let len = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: the storage was zeroed, and the kernel wrote an address of the socket's family to it.
        let source = unsafe { socket_address(&address.assume_init()) }
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut found = Received {
            len,
            segment_len: len.max(1),
            source,
            traffic_class: 0,
        };
        // SAFETY: `message` was filled by the kernel, so the macros walk within the control buffer; each value is
        // read without assuming alignment, and only after its length was checked.
        unsafe {
            let mut next = libc::CMSG_FIRSTHDR(&raw const message);
            while let Some(header) = next.as_ref() {
                let data = libc::CMSG_DATA(next);
                let room = header.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                match (header.cmsg_level, header.cmsg_type) {
                    (libc::SOL_UDP, libc::UDP_GRO) if room >= 4 => {
                        let size = data.cast::<libc::c_int>().read_unaligned();
                        found.segment_len = usize::try_from(size).unwrap_or(len).max(1);
                    }
                    (libc::IPPROTO_IP, libc::IP_TOS) if room >= 1 => found.traffic_class = data.read(),
                    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) if room >= 4 => {
                        found.traffic_class = data.cast::<libc::c_int>().read_unaligned() as u8;
                    }
                    _ => {}
                }
                next = libc::CMSG_NXTHDR(&raw const message, next);
            }
        }
        Ok(found)
    }

    fn send_message(
        &self,
        bytes: &[u8],
        segment_len: Option<u16>,
        traffic_class: u8,
        remote: SocketAddr,
    ) -> io::Result<()> {
        let mut address = RawAddress::from(remote);
        let mut control = ControlBuffer::new();
        let mut piece = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: all bytes zero is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        let (name, name_len) = address.parts();
        message.msg_name = name;
        message.msg_namelen = name_len;
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        let mut used = 0;
        if let Some(segment_len) = segment_len {
            used += control.put(used, libc::SOL_UDP, libc::UDP_SEGMENT, &segment_len.to_ne_bytes());
        }
        used += control.put_traffic_class(used, remote.ip(), traffic_class);
        if used > 0 {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = used as _;
        }
        // SAFETY: every pointer in `message` is to memory of the given length that outlives the call; the kernel only
        // reads `bytes`.
        let sent = unsafe {
            libc::sendmsg(
                self.fd.as_raw_fd(),
                &raw const message,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Room for control messages, aligned for their headers.
#[repr(align(8))]
pub(crate) struct ControlBuffer([u8; CONTROL_LEN]);

impl ControlBuffer {
    pub(crate) const LEN: usize = CONTROL_LEN;

    pub(crate) const fn new() -> Self {
        Self([0; CONTROL_LEN])
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }

    /// Writes the message with the traffic class of a packet to `remote` at `at`, if it is not zero, and returns the room
    /// that it takes.
    pub(crate) fn put_traffic_class(&mut self, at: usize, remote: IpAddr, traffic_class: u8) -> usize {
        if traffic_class == 0 {
            return 0;
        }
        let (level, kind) = match remote {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        };
        self.put(at, level, kind, &libc::c_int::from(traffic_class).to_ne_bytes())
    }

    /// Writes one message at `at` and returns the room that it takes.
    fn put(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, value: &[u8]) -> usize {
        // SAFETY: these two only compute with lengths.
        let (len, space) = unsafe {
            (
                libc::CMSG_LEN(value.len() as u32) as usize,
                libc::CMSG_SPACE(value.len() as u32) as usize,
            )
        };
        let header_len = len - value.len();
        let room = &mut self.0[at..at + space];
        room[..8].copy_from_slice(&len.to_ne_bytes());
        room[8..12].copy_from_slice(&level.to_ne_bytes());
        room[12..16].copy_from_slice(&kind.to_ne_bytes());
        room[header_len..len].copy_from_slice(value);
        space
    }
}

pub(crate) enum RawAddress {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl RawAddress {
    pub(crate) fn parts(&mut self) -> (*mut libc::c_void, libc::socklen_t) {
        match self {
            Self::V4(address) => (
                (&raw mut *address).cast(),
                mem::size_of::<libc::sockaddr_in>() as libc::socklen_t,
            ),
            Self::V6(address) => (
                (&raw mut *address).cast(),
                mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t,
            ),
        }
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            }),
            SocketAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            }),
        }
    }
}

/// # Safety
/// `storage` holds an address of the family that it names.
pub(crate) unsafe fn socket_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the caller says that it is an IPv4 address; the storage is large and aligned enough.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(address.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the caller says that it is an IPv6 address; the storage is large and aligned enough.
            let address = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            Some(SocketAddr::new(IpAddr::V6(ip), u16::from_be(address.sin6_port)))
        }
        _ => None,
    }
}

/// As root this passes the system's limit; otherwise as much as allowed.
pub(crate) fn enlarge_buffers(socket: &Socket) -> io::Result<()> {
    for (force, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        if set_option(socket, libc::SOL_SOCKET, force, SOCKET_BUFFER as libc::c_int).is_err() {
            set_option(socket, libc::SOL_SOCKET, plain, SOCKET_BUFFER as libc::c_int)?;
        }
    }
    Ok(())
}

pub(crate) fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the kernel reads one `c_int`, which outlives the call; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn wait(socket: &UdpSocket) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        assert_eq!(
            poll(&mut fds, PollTimeout::from(5000u16)).unwrap(),
            1,
            "nothing arrived"
        );
    }

    fn pair(address: &str) -> (UdpSocket, UdpSocket) {
        let local: SocketAddr = address.parse().unwrap();
        (UdpSocket::bind(local).unwrap(), UdpSocket::bind(local).unwrap())
    }

    #[test]
    fn a_batch_arrives_whole_with_its_traffic_class() {
        for (address, cut) in [("127.0.0.1:0", true), ("[::1]:0", true), ("127.0.0.1:0", false)] {
            let (from, to) = pair(address);
            if !cut {
                from.send_without_segmentation();
            }
            assert_eq!(from.cuts_sent(), cut);
            let bytes: Vec<u8> = (0..10_500u32).map(|n| (n / 7) as u8).collect();
            let batch = Batch {
                bytes: &bytes,
                segment_len: 1000,
                traffic_class: 0xb9,
            };
            assert_eq!(from.send_batch(batch, to.local()).unwrap(), 0);
            let mut data = Vec::new();
            let mut buffer = vec![0; RECEIVE_LEN];
            while data.len() < bytes.len() {
                wait(&to);
                let received = to.receive(&mut buffer).unwrap();
                assert_eq!(received.source, from.local());
                assert_eq!(received.traffic_class, 0xb9);
                assert!(received.segment_len == 1000 || received.len == 500);
                data.extend_from_slice(&buffer[..received.len]);
            }
            assert_eq!(data, bytes);
            assert_eq!(
                to.receive(&mut buffer).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
        }
    }

    #[test]
    fn the_largest_batch_of_the_tunnel_fits_one_send() {
        let (from, to) = pair("127.0.0.1:0");
        let bytes = vec![1; 45 * 1436];
        let batch = Batch {
            bytes: &bytes,
            segment_len: 1436,
            traffic_class: 0,
        };
        assert_eq!(from.send_batch(batch, to.local()).unwrap(), 0);
        let mut buffer = vec![0; RECEIVE_LEN];
        wait(&to);
        let received = to.receive(&mut buffer).unwrap();
        assert_eq!((received.len, received.segment_len), (bytes.len(), 1436));
    }

    #[test]
    fn an_address_that_is_not_here_cannot_be_bound() {
        assert!(UdpSocket::bind("192.0.2.77:0".parse().unwrap()).is_err());
    }
}

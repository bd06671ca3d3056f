//! Raw sockets: native ESP (IP protocol 50, RFC 4303) in batches, and the ICMP messages that tell of a smaller path.

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use crate::fragmentation::{Fragmentation, FragmentationSwitch};
use crate::udp::{Batch, ControlBuffer, RawAddress, enlarge_buffers, set_option, socket_address};

/// Most packets that one receive gives.
pub const MAX_RECEIVED: usize = 16;
/// Room for each packet of one receive; longer ones are lost.
pub const SLOT_LEN: usize = 4096;

/// Most packets that one system call sends.
const MAX_SENT: usize = 64;
const ICMP_FILTER: libc::c_int = 1;
const ICMPV6_FILTER: libc::c_int = 1;
const DESTINATION_UNREACHABLE: u32 = 3;
const PACKET_TOO_BIG: usize = 2;

/// A raw socket for ESP at one address, without blocking. While it is open the kernel does not answer ESP packets with
/// "protocol unreachable".
#[derive(Debug)]
pub struct EspSocket {
    fd: OwnedFd,
    local: IpAddr,
    fragmentation: FragmentationSwitch,
}

/// A packet of one receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where in the buffer the ESP header is.
    pub start: usize,
    /// Bytes from there.
    pub len: usize,
    /// The sender.
    pub source: IpAddr,
    /// Type of service or traffic class.
    pub traffic_class: u8,
}

impl Packet {
    /// No packet, to fill an array with.
    pub const NONE: Self = Self {
        start: 0,
        len: 0,
        source: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        traffic_class: 0,
    };
}

impl EspSocket {
    /// Opens a socket in the calling thread's namespace for packets to and from `local`.
    ///
    /// # Errors
    /// Those of the system, such as the address not being there.
    pub fn bind(local: IpAddr) -> io::Result<Self> {
        let socket = raw_socket(local, libc::IPPROTO_ESP)?;
        if local.is_ipv6() {
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        }
        enlarge_buffers(&socket)?;
        socket.bind(&SocketAddr::new(local, 0).into())?;
        Ok(Self {
            fd: socket.into(),
            local,
            fragmentation: FragmentationSwitch::default(),
        })
    }

    /// The address that it is bound to.
    pub const fn local(&self) -> IpAddr {
        self.local
    }

    /// Runs `send`, whose packets may be fragmented on the way as `wanted` says. Waits while another thread sends with the
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
            .during(&self.fd, self.local, wanted, || send(self))
    }

    /// Sends the ESP packets of a batch. Returns how many the kernel did not take.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the socket's buffer is full; some packets of the batch may have been sent then.
    pub fn send_batch(&self, batch: Batch<'_>, remote: IpAddr) -> io::Result<usize> {
        let mut address = RawAddress::from(SocketAddr::new(remote, 0));
        let (name, name_len) = address.parts();
        let mut control = ControlBuffer::new();
        let used = control.put_traffic_class(0, remote, batch.traffic_class);
        let mut refused = 0;
        for part in batch.bytes.chunks(batch.segment_len.max(1) * MAX_SENT) {
            let mut pieces = [libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            }; MAX_SENT];
            // SAFETY: all bytes zero is a valid `mmsghdr`.
            let mut messages: [libc::mmsghdr; MAX_SENT] = unsafe { mem::zeroed() };
            let mut count = 0;
            for (packet, (piece, message)) in part
                .chunks(batch.segment_len.max(1))
                .zip(pieces.iter_mut().zip(&mut messages))
            {
                piece.iov_base = packet.as_ptr().cast_mut().cast();
                piece.iov_len = packet.len();
                let header = &mut message.msg_hdr;
                header.msg_name = name;
                header.msg_namelen = name_len;
                header.msg_iov = &raw mut *piece;
                header.msg_iovlen = 1;
                if used > 0 {
                    header.msg_control = control.as_mut_ptr();
                    header.msg_controllen = used as _;
                }
                count += 1;
            }
            refused += self.send_all(&mut messages[..count])?;
        }
        Ok(refused)
    }

    fn send_all(&self, messages: &mut [libc::mmsghdr]) -> io::Result<usize> {
        let (mut done, mut refused) = (0, 0);
        while done < messages.len() {
            let rest = &mut messages[done..];
            // SAFETY: every pointer in the messages is to memory of the given length that outlives the call, as its
            // only caller makes them; the kernel only reads what they point to.
            let sent = unsafe {
                libc::sendmmsg(
                    self.fd.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) if sent > 0 => done += sent,
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return Err(error);
                    }
                    // The first of the rest was refused.
                    done += 1;
                    refused += 1;
                }
            }
        }
        Ok(refused)
    }

    /// Receives up to [`MAX_RECEIVED`] packets into `buffer`, each into its own [`SLOT_LEN`] bytes, and says where they
    /// are. Returns how many.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing waits.
    pub fn receive(&self, buffer: &mut [u8], found: &mut [Packet; MAX_RECEIVED]) -> io::Result<usize> {
        let mut addresses = [MaybeUninit::<libc::sockaddr_storage>::zeroed(); MAX_RECEIVED];
        let mut controls = [const { ControlBuffer::new() }; MAX_RECEIVED];
        let mut pieces = [libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        }; MAX_RECEIVED];
        // SAFETY: all bytes zero is a valid `mmsghdr`.
        let mut messages: [libc::mmsghdr; MAX_RECEIVED] = unsafe { mem::zeroed() };
        let slots = buffer.chunks_exact_mut(SLOT_LEN).take(MAX_RECEIVED);
        let mut count = 0;
        for (index, slot) in slots.enumerate() {
            pieces[index].iov_base = slot.as_mut_ptr().cast();
            pieces[index].iov_len = slot.len();
            let header = &mut messages[index].msg_hdr;
            header.msg_name = addresses[index].as_mut_ptr().cast();
            header.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
            header.msg_control = controls[index].as_mut_ptr();
            header.msg_controllen = ControlBuffer::LEN as _;
            count += 1;
        }
        // SAFETY: every pointer in the messages is to memory of the given length that outlives the call.
        let received = unsafe {
            libc::recvmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let mut kept = 0;
        for index in 0..received {
            let message = &messages[index];
            // SAFETY: the storage was zeroed, and the kernel wrote an address of the socket's family to it.
            let source = unsafe { socket_address(&addresses[index].assume_init()) };
            let slot = index * SLOT_LEN;
            let len = message.msg_len as usize;
            let bytes = &buffer[slot..slot + len.min(SLOT_LEN)];
            let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let (Some(source), false) = (source, truncated) else {
                continue;
            };
            // An IPv4 raw socket gives the IP header too, an IPv6 one does not.
            let (header_len, traffic_class) = match source.ip() {
                IpAddr::V4(_) => match bytes {
                    [first, tos, ..] => (usize::from(first & 0x0f) * 4, *tos),
                    _ => continue,
                },
                // SAFETY: the kernel filled the message's control buffer, which still lives.
                IpAddr::V6(_) => (0, unsafe { traffic_class_of(&message.msg_hdr) }),
            };
            let Some(rest) = bytes.len().checked_sub(header_len) else {
                continue;
            };
            found[kept] = Packet {
                start: slot + header_len,
                len: rest,
                source: source.ip(),
                traffic_class,
            };
            kept += 1;
        }
        Ok(kept)
    }
}

impl AsFd for EspSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A raw socket that hears the ICMP messages to one address that can tell of a smaller path: "destination unreachable"
/// (RFC 792), "packet too big" (RFC 4443). They are not authenticated.
#[derive(Debug)]
pub struct IcmpSocket {
    fd: OwnedFd,
    local: IpAddr,
}

impl IcmpSocket {
    /// Opens a socket in the calling thread's namespace for messages to `local`.
    ///
    /// # Errors
    /// Those of the system, such as the address not being there.
    pub fn bind(local: IpAddr) -> io::Result<Self> {
        let socket = match local {
            IpAddr::V4(_) => {
                let socket = raw_socket(local, libc::IPPROTO_ICMP)?;
                let filter = !(1u32 << DESTINATION_UNREACHABLE);
                set_bytes(&socket, libc::SOL_RAW, ICMP_FILTER, &filter.to_ne_bytes())?;
                socket
            }
            IpAddr::V6(_) => {
                let socket = raw_socket(local, libc::IPPROTO_ICMPV6)?;
                let mut filter = [0xffff_ffff_u32; 8];
                filter[PACKET_TOO_BIG >> 5] &= !(1 << (PACKET_TOO_BIG & 31));
                let bytes: Vec<u8> = filter.iter().flat_map(|word| word.to_ne_bytes()).collect();
                set_bytes(&socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &bytes)?;
                socket
            }
        };
        socket.bind(&SocketAddr::new(local, 0).into())?;
        Ok(Self {
            fd: socket.into(),
            local,
        })
    }

    /// Receives one message into `buffer`: what is returned begins with the ICMP header.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing waits.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let len = nix::unistd::read(&self.fd, buffer)?;
        let message = &buffer[..len];
        let header_len = match (self.local, message) {
            (IpAddr::V4(_), [first, ..]) => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        Ok(message.get(header_len..).unwrap_or_default())
    }
}

impl AsFd for IcmpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Longest packet of the interface of the calling thread's namespace that has the address `address`, bytes.
pub fn link_mtu(address: IpAddr) -> Option<u16> {
    let interface = nix::ifaddrs::getifaddrs().ok()?.find(|found| {
        let own = found.address.as_ref();
        let ip = own.and_then(|own| match (own.as_sockaddr_in(), own.as_sockaddr_in6()) {
            (Some(v4), _) => Some(IpAddr::V4(v4.ip())),
            (None, Some(v6)) => Some(IpAddr::V6(v6.ip())),
            (None, None) => None,
        });
        ip == Some(address)
    })?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), None).ok()?;
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let name = interface.interface_name.as_bytes();
    if name.len() >= libc::IFNAMSIZ {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the kernel reads and writes one `ifreq`, which outlives the call; the descriptor is open.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if result < 0 {
        return None;
    }
    // SAFETY: this request fills the member for the MTU.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Some(u16::try_from(mtu).unwrap_or(if mtu < 0 { 0 } else { u16::MAX }))
}

fn raw_socket(local: IpAddr, protocol: libc::c_int) -> io::Result<Socket> {
    let domain = match local {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    Socket::new(
        domain,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::from(protocol)),
    )
}

fn set_bytes(socket: &Socket, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    // SAFETY: the kernel reads the bytes of `value`, which outlive the call; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// # Safety
/// The kernel filled `message`, and its control buffer still lives.
unsafe fn traffic_class_of(message: &libc::msghdr) -> u8 {
    // SAFETY: the macros walk within the control buffer that the kernel filled; the value is read without assuming
    // alignment, and only after its length was checked.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(message);
        while let Some(header) = next.as_ref() {
            let room = header.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
            if (header.cmsg_level, header.cmsg_type) == (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) && room >= 4 {
                return libc::CMSG_DATA(next).cast::<libc::c_int>().read_unaligned() as u8;
            }
            next = libc::CMSG_NXTHDR(message, next);
        }
    }
    0
}

#[cfg(test)]
mod tests;

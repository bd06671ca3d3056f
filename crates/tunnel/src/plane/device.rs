//! What a gateway moves packets with: its TUN device and the sockets of its addresses, in its namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};

use isthmus_netlink::fragmentation::Fragmentation;
use isthmus_netlink::link::LinkWatch;
use isthmus_netlink::namespace::{Namespace, NamespaceError, NamespaceId};
use isthmus_netlink::raw::{self, EspSocket, IcmpSocket};
use isthmus_netlink::tun::{Tun, TunError};
use isthmus_netlink::udp::{Batch, UdpSocket};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::outer::{OuterHeader, is_native};
use super::{IKE_PORT, NAT_PORT};

/// How long a full socket is waited for before its packets are dropped, in milliseconds.
const PATIENCE: u16 = 200;
/// Longest packet of the links between gateways, bytes, where the link of ours does not say less.
const LINK_MTU: u16 = 1500;

/// Most addresses of a gateway: one of each IP version.
pub(super) const MAX_ADDRESSES: usize = 2;

/// A TUN device, and the sockets of each address of the gateway.
#[derive(Debug)]
pub struct Device {
    pub(super) epoch: u64,
    pub(super) tun: Tun,
    outsides: Vec<Outside>,
    namespace: NamespaceId,
    link_mtu: u16,
    /// The name of the TUN device's namespace when it was opened.
    place: String,
}

/// An address of the gateway: the sockets of ports 500 and 4500, and those for native ESP and for news of the path.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) address: IpAddr,
    pub(super) ike: UdpSocket,
    pub(super) nat: UdpSocket,
    pub(super) native: EspSocket,
    pub(super) icmp: IcmpSocket,
}

impl Outside {
    fn open(address: IpAddr) -> Result<Self, DeviceError> {
        let bind = |port| {
            let address = SocketAddr::new(address, port);
            UdpSocket::bind(address).map_err(|source| DeviceError::Socket { address, source })
        };
        let refused = |source| DeviceError::Socket {
            address: SocketAddr::new(address, 0),
            source,
        };
        Ok(Self {
            address,
            ike: bind(IKE_PORT)?,
            nat: bind(NAT_PORT)?,
            native: EspSocket::bind(address).map_err(refused)?,
            icmp: IcmpSocket::bind(address).map_err(refused)?,
        })
    }
}

/// What a gateway's devices wait for.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The namespace is not there or cannot be entered.
    #[error("namespace {name}")]
    Namespace {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: NamespaceError,
    },
    /// The address is not there or its port is taken.
    #[error("address {address}")]
    Socket {
        /// The address and port.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The TUN device is not there or someone else holds it.
    #[error("TUN device {}", .source.name)]
    Tun {
        /// Why.
        #[source]
        source: TunError,
    },
}

impl Device {
    /// Opens everything in the namespace `namespace`, with sockets at `addresses`: one of each IP version at most, the
    /// others are left out. `epoch` comes back when the device is lost.
    ///
    /// # Errors
    /// [`DeviceError`]: what is missing.
    pub fn open(namespace: &str, tun: &str, addresses: &[IpAddr], epoch: u64) -> Result<Self, DeviceError> {
        let entered = |source| DeviceError::Namespace {
            name: namespace.to_owned(),
            source,
        };
        let place = Namespace::open(namespace).map_err(entered)?;
        let id = place.id().map_err(entered)?;
        place
            .run(|| {
                let tun = Tun::attach(tun).map_err(|source| DeviceError::Tun { source })?;
                let mut outsides: Vec<Outside> = Vec::with_capacity(MAX_ADDRESSES);
                for address in addresses {
                    if outsides
                        .iter()
                        .all(|known| known.address.is_ipv4() != address.is_ipv4())
                    {
                        outsides.push(Outside::open(*address)?);
                    }
                }
                let link_mtu = addresses.iter().filter_map(|address| raw::link_mtu(*address));
                Ok(Self {
                    epoch,
                    tun,
                    outsides,
                    namespace: id,
                    place: namespace.to_owned(),
                    link_mtu: link_mtu.fold(LINK_MTU, u16::min),
                })
            })
            .map_err(entered)?
    }

    /// Which attachment this is.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Largest outer packet that leaves here, bytes.
    pub const fn link_mtu(&self) -> u16 {
        self.link_mtu
    }

    /// A look at the TUN device from the side of those that send to it.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn watch_link(&self) -> io::Result<LinkWatch> {
        Namespace::open(&self.place)
            .and_then(|namespace| namespace.run(|| LinkWatch::open(self.tun.name())))
            .map_err(io::Error::other)?
    }

    /// The addresses that it has sockets at.
    pub(super) fn outsides(&self) -> &[Outside] {
        &self.outsides
    }

    /// The sockets that reach `remote`, if it has an address of its IP version.
    fn outside_to(&self, remote: SocketAddr) -> io::Result<&Outside> {
        self.outsides
            .iter()
            .find(|outside| outside.address.is_ipv4() == remote.is_ipv4())
            .ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
    }

    /// Sends ESP packets of equal length but the last, back to back, as `outer` says. Returns how many the kernel did
    /// not take.
    pub(super) fn send_esp(&self, batch: Batch<'_>, outer: OuterHeader) -> usize {
        let lost = match self.try_send_esp(batch, outer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_writable(outer);
                self.try_send_esp(batch, outer)
            }
            result => result,
        };
        lost.unwrap_or_else(|_| batch.bytes.len().div_ceil(batch.segment_len.max(1)))
    }

    fn try_send_esp(&self, batch: Batch<'_>, outer: OuterHeader) -> io::Result<usize> {
        let fragmentation = if outer.may_fragment {
            Fragmentation::Allowed
        } else {
            Fragmentation::Forbidden
        };
        let outside = self.outside_to(outer.remote)?;
        if is_native(outer.remote) {
            outside.native.with_fragmentation(fragmentation, |socket| {
                socket.send_batch(batch, outer.remote.ip())
            })
        } else {
            outside
                .nat
                .with_fragmentation(fragmentation, |socket| socket.send_batch(batch, outer.remote))
        }
    }

    fn wait_writable(&self, outer: OuterHeader) {
        use std::os::fd::AsFd;

        let Ok(outside) = self.outside_to(outer.remote) else {
            return;
        };
        let fd = if is_native(outer.remote) {
            outside.native.as_fd()
        } else {
            outside.nat.as_fd()
        };
        // Whatever the answer, the send that follows tells.
        let _ = poll(
            &mut [PollFd::new(fd, PollFlags::POLLOUT)],
            PollTimeout::from(PATIENCE),
        );
    }

    /// Whether the namespace that now has the name `name` is the one that this device is in.
    pub fn is_in(&self, name: &str) -> bool {
        Namespace::open(name)
            .and_then(|namespace| namespace.id())
            .is_ok_and(|id| id == self.namespace)
    }

    /// Sends an IKE message from `local_port`, with the marker that port 4500 asks for.
    ///
    /// # Errors
    /// Those of the system.
    pub fn send_ike(&self, local_port: u16, remote: SocketAddr, message: &[u8]) -> io::Result<()> {
        let outside = self.outside_to(remote)?;
        if local_port == NAT_PORT {
            let mut marked = Vec::with_capacity(4 + message.len());
            marked.extend_from_slice(&[0; 4]);
            marked.extend_from_slice(message);
            outside.nat.send_to(&marked, remote)
        } else {
            outside.ike.send_to(message, remote)
        }
    }

    /// Sends a NAT keepalive (RFC 3948 section 4).
    ///
    /// # Errors
    /// Those of the system.
    pub fn send_keepalive(&self, remote: SocketAddr) -> io::Result<()> {
        self.outside_to(remote)?.nat.send_to(&[0xff], remote)
    }
}

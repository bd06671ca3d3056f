//! What a gateway moves packets with: its TUN device and its two UDP sockets, in its namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};

use isthmus_netlink::namespace::{Namespace, NamespaceError, NamespaceId};
use isthmus_netlink::tun::{Tun, TunError};
use isthmus_netlink::udp::UdpSocket;

use super::{IKE_PORT, NAT_PORT};

/// A TUN device and the sockets of ports 500 and 4500.
#[derive(Debug)]
pub struct Device {
    pub(super) epoch: u64,
    pub(super) tun: Tun,
    pub(super) ike: UdpSocket,
    pub(super) nat: UdpSocket,
    namespace: NamespaceId,
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
    /// Opens everything in the namespace `namespace`. `epoch` comes back when the device is lost.
    ///
    /// # Errors
    /// [`DeviceError`]: what is missing.
    pub fn open(namespace: &str, tun: &str, address: IpAddr, epoch: u64) -> Result<Self, DeviceError> {
        let entered = |source| DeviceError::Namespace {
            name: namespace.to_owned(),
            source,
        };
        let place = Namespace::open(namespace).map_err(entered)?;
        let id = place.id().map_err(entered)?;
        place
            .run(|| {
                let tun = Tun::attach(tun).map_err(|source| DeviceError::Tun { source })?;
                let bind = |port| {
                    let address = SocketAddr::new(address, port);
                    UdpSocket::bind(address).map_err(|source| DeviceError::Socket { address, source })
                };
                Ok(Self {
                    epoch,
                    tun,
                    ike: bind(IKE_PORT)?,
                    nat: bind(NAT_PORT)?,
                    namespace: id,
                })
            })
            .map_err(entered)?
    }

    /// Which attachment this is.
    pub const fn epoch(&self) -> u64 {
        self.epoch
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
        if local_port == NAT_PORT {
            let mut marked = Vec::with_capacity(4 + message.len());
            marked.extend_from_slice(&[0; 4]);
            marked.extend_from_slice(message);
            self.nat.send_to(&marked, remote)
        } else {
            self.ike.send_to(message, remote)
        }
    }

    /// Sends a NAT keepalive (RFC 3948 section 4).
    ///
    /// # Errors
    /// Those of the system.
    pub fn send_keepalive(&self, remote: SocketAddr) -> io::Result<()> {
        self.nat.send_to(&[0xff], remote)
    }
}

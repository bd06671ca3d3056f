//! TUN devices with segmentation offload: super-packets of up to 64 KiB in one read or write.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc;

/// Bytes of the `virtio_net_hdr` before each packet.
pub const VNET_HEADER_LEN: usize = 10;
/// Room that one read needs: the header, and the longest packet.
pub const READ_LEN: usize = VNET_HEADER_LEN + 65_536;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// An attached TUN device, without blocking. It belongs to the namespace that it was attached in.
///
/// Reads and writes carry one packet each, with a [`VNET_HEADER_LEN`]-byte header that tells of checksum and
/// segmentation offload. One thread may read while another writes.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    udp_segmentation: bool,
}

/// Why a TUN device could not be made, attached or removed.
#[derive(Debug, thiserror::Error)]
#[error("{step} the TUN device {name} failed")]
pub struct TunError {
    /// Name of the device.
    pub name: String,
    /// What was being done.
    pub step: &'static str,
    /// The system's answer.
    #[source]
    pub source: io::Error,
}

impl TunError {
    /// Whether the device does not exist (yet), or another process holds it.
    pub fn may_pass(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::ENODEV | libc::ENOENT | libc::EBUSY | libc::ENXIO)
        )
    }
}

impl Tun {
    /// Attaches to the existing persistent device `name` of the calling thread's namespace, and turns on every
    /// offload that the kernel has.
    ///
    /// # Errors
    /// [`TunError`]; with [`TunError::may_pass`] if there is no such device or it is in use.
    pub fn attach(name: &str) -> Result<Self, TunError> {
        // Attaching to a name that does not exist would make a device that vanishes with us.
        if nix::net::if_::if_nametoindex(name).is_err() {
            return Err(TunError {
                name: name.to_owned(),
                step: "finding",
                source: io::Error::from_raw_os_error(libc::ENODEV),
            });
        }
        let file = set_interface(name)?;
        let basic = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        let full = basic | libc::TUN_F_USO4 | libc::TUN_F_USO6;
        let udp_segmentation = control(&file, libc::TUNSETOFFLOAD, full).is_ok();
        if !udp_segmentation {
            control(&file, libc::TUNSETOFFLOAD, basic)
                .map_err(|source| failed(name, "setting the offloads of", source))?;
        }
        Ok(Self {
            file,
            name: name.to_owned(),
            udp_segmentation,
        })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the kernel cuts and joins UDP datagrams too (Linux 6.2).
    pub const fn has_udp_segmentation(&self) -> bool {
        self.udp_segmentation
    }

    /// Reads one packet with its header.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if none waits; others if the device is gone or down.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet, given in pieces that begin with its header.
    ///
    /// # Errors
    /// Those of the kernel, which refuses headers that contradict the packet, and every packet while the device is
    /// down.
    pub fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(pieces).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn set_interface(name: &str) -> Result<File, TunError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE)
        .map_err(|source| failed(name, "opening the driver for", source))?;
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(|byte| byte == 0 || byte == b'%') {
        return Err(failed(name, "naming", io::Error::from_raw_os_error(libc::EINVAL)));
    }
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: the kernel reads and writes one `ifreq`, which outlives the call; the descriptor is open.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(failed(name, "attaching to", io::Error::last_os_error()));
    }
    Ok(file)
}

fn control(file: &File, request: libc::Ioctl, value: libc::c_uint) -> io::Result<()> {
    // SAFETY: these requests of the TUN driver take a number by value; the descriptor is open.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, libc::c_ulong::from(value)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn failed(name: &str, step: &'static str, source: io::Error) -> TunError {
    TunError {
        name: name.to_owned(),
        step,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Layer, create_persistent};
    use crate::namespace;

    struct Scratch(String);

    impl Scratch {
        fn new(mark: &str) -> Self {
            let name = format!("esptun-{mark}-{}", std::process::id());
            namespace::create(&name).unwrap();
            Self(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = namespace::remove(&self.0);
        }
    }

    #[test]
    fn a_persistent_device_waits_for_its_owner_and_outlives_it() {
        let scratch = Scratch::new("keep");
        namespace::run(&scratch.0, || {
            assert!(Tun::attach("tunnel0").unwrap_err().may_pass());
            create_persistent("tunnel0", Layer::Ip).unwrap();
            let tun = Tun::attach("tunnel0").unwrap();
            assert_eq!(tun.name(), "tunnel0");
            assert!(Tun::attach("tunnel0").unwrap_err().may_pass(), "a second owner");
            assert!(tun.read(&mut [0; 100]).is_err());
            drop(tun);
            assert!(Tun::attach("tunnel0").is_ok());
        })
        .unwrap();
    }

    #[test]
    fn impossible_names_and_other_interfaces_are_refused() {
        let scratch = Scratch::new("names");
        namespace::run(&scratch.0, || {
            for name in ["", "a-name-that-is-too-long", "with%d", "lo"] {
                assert!(Tun::attach(name).is_err(), "{name:?}");
            }
        })
        .unwrap();
    }

    /// IPv4 and UDP headers before `payload`, from 192.0.2.2 to 192.0.2.1 port 9: as the device takes them when it is
    /// to cut the payload into datagrams of `piece` bytes.
    fn joined_datagrams(payload: &[u8], piece: u16) -> Vec<u8> {
        let length = (8 + payload.len()) as u16;
        let mut packet = vec![1, 5];
        for half in [28, piece, 20, 6] {
            packet.extend(half.to_ne_bytes());
        }
        let ip = packet.len();
        packet.extend([0x45, 0]);
        packet.extend((20 + length).to_be_bytes());
        packet.extend([0, 1, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 2, 192, 0, 2, 1]);
        let sum = words(&packet[ip..]);
        packet[ip + 10..ip + 12].copy_from_slice(&(!fold(sum)).to_be_bytes());
        let pseudo = words(&packet[ip + 12..]) + 17 + u32::from(length);
        packet.extend([0, 7, 0, 9]);
        packet.extend(length.to_be_bytes());
        packet.extend(fold(pseudo).to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }

    fn words(bytes: &[u8]) -> u32 {
        bytes
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum()
    }

    fn fold(mut sum: u32) -> u16 {
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn joined_datagrams_arrive_as_they_were() {
        let scratch = Scratch::new("joined");
        namespace::run(&scratch.0, || {
            create_persistent("tunnel0", Layer::Ip).unwrap();
            for line in ["address add 192.0.2.1/24 dev tunnel0", "link set tunnel0 up"] {
                let status = std::process::Command::new("ip").args(line.split(' ')).status();
                assert!(status.unwrap().success(), "{line}");
            }
            let socket = std::net::UdpSocket::bind("192.0.2.1:9").unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_secs(5)))
                .unwrap();
            let tun = Tun::attach("tunnel0").unwrap();
            assert!(tun.has_udp_segmentation());
            // With a last datagram that is shorter, as long as the others, and with as many as one write may hold.
            for (piece, length) in [(64, 64 * 9 + 5), (64, 64 * 10), (64, 64 * 64), (1400, 1400 * 46)] {
                let payload: Vec<u8> = (0..length).map(|n: u32| (n * 7 / 3) as u8).collect();
                let packet = joined_datagrams(&payload, piece as u16);
                tun.write(&[IoSlice::new(&packet)]).unwrap();
                for expected in payload.chunks(piece) {
                    let mut buffer = [0; 2000];
                    let (found, from) = socket.recv_from(&mut buffer).unwrap();
                    assert_eq!(from, "192.0.2.2:7".parse().unwrap());
                    assert_eq!(&buffer[..found], expected, "{length} bytes by {piece}");
                }
            }
        })
        .unwrap();
    }
}

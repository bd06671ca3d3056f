//! Persistent TUN and TAP devices in the namespace that the calling thread is in.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Layer that a device carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Ethernet frames: a TAP.
    Ethernet,
    /// IP packets: a TUN.
    Ip,
}

const IFNAMSIZ: usize = 16;
const IFF_TUN: u16 = 0x0001;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

// struct ifreq of netdevice(7), as far as TUNSETIFF reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; IFNAMSIZ],
    flags: u16,
    padding: [u8; 22],
}

nix::ioctl_write_ptr_bad!(
    /// `TUNSETIFF`: attaches the descriptor to a device and makes it if needed.
    tun_set_interface,
    nix::request_code_write!(b'T', 202, size_of::<i32>()),
    InterfaceRequest
);
nix::ioctl_write_int_bad!(
    /// `TUNSETPERSIST`: whether the device stays when the descriptor is closed.
    tun_set_persist,
    nix::request_code_write!(b'T', 203, size_of::<i32>())
);

/// Makes a device that stays when nobody has it open, able to carry virtio headers. One of that name and layer that
/// exists already is kept.
///
/// # Errors
/// Those of the kernel: no `/dev/net/tun`, a name in use by another kind of link, a name that is too long.
pub fn create_persistent(name: &str, layer: Layer) -> io::Result<()> {
    create_prepared(name, layer, || Ok(()))
}

/// As [`create_persistent`], with `prepare` done while the device would still vanish with this process: a device that
/// stays has been prepared.
///
/// # Errors
/// Those of [`create_persistent`], and that of `prepare`.
pub fn create_prepared(name: &str, layer: Layer, prepare: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let file = open(name, layer)?;
    prepare()?;
    // SAFETY: the descriptor is open and attached to the device; the argument is a plain integer.
    unsafe { tun_set_persist(file.as_raw_fd(), 1) }?;
    Ok(())
}

/// Opens a device, made now if there is none of that name; it then goes when it is closed. Each read and write carries
/// one packet or frame behind a virtio header of 10 bytes.
///
/// # Errors
/// Those of [`create_persistent`], and [`io::ErrorKind::ResourceBusy`] if somebody else has it open.
pub fn open(name: &str, layer: Layer) -> io::Result<File> {
    if name.is_empty() || name.len() >= IFNAMSIZ {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the device name is empty or too long",
        ));
    }
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let kind = match layer {
        Layer::Ethernet => IFF_TAP,
        Layer::Ip => IFF_TUN,
    };
    let mut request = InterfaceRequest {
        name: [0; IFNAMSIZ],
        flags: kind | IFF_NO_PI | IFF_VNET_HDR,
        padding: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the descriptor is open, and the request is a whole `struct ifreq` that outlives the call.
    unsafe { tun_set_interface(file.as_raw_fd(), &raw const request) }?;
    Ok(file)
}

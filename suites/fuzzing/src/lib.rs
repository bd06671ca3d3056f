//! Bodies of the fuzz targets: everything that reads what strangers, peers or other processes send.
//!
//! Each body takes arbitrary bytes and panics if a law does not hold. `fuzz/` hands them to libFuzzer, one line per
//! target; the tests here replay what was found: `fuzz/corpus` and `fuzz/crashes`.

mod certificate;
mod codec;
mod contract;
mod esp;
mod input;
mod packet;
mod peer;
mod peer_v1;
mod stranger;

pub use certificate::certificates;
pub use codec::{ike_message, isakmp_message};
pub use contract::tunnel_request;
pub use esp::{esp_open, offload};
pub use packet::packets;
pub use peer::ike_peer;
pub use peer_v1::isakmp_peer;
pub use stranger::{ike_stranger, isakmp_stranger};

/// A target: its name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("certificates", certificates),
    ("esp_open", esp_open),
    ("ike_message", ike_message),
    ("ike_peer", ike_peer),
    ("ike_stranger", ike_stranger),
    ("isakmp_message", isakmp_message),
    ("isakmp_peer", isakmp_peer),
    ("isakmp_stranger", isakmp_stranger),
    ("offload", offload),
    ("packets", packets),
    ("tunnel_request", tunnel_request),
];

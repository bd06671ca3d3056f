//! The vocabulary every Isthmus crate shares: resource ids, addresses, names, time, secrets and algorithm names.
//!
//! This crate knows no other crate of ours, does no I/O and reads no clock.

pub mod algorithm;
pub mod cidr;
pub mod counter;
pub mod id;
pub mod name;
pub mod secret;
pub mod time;
pub mod tunnel;

pub use algorithm::{
    AdditionalKeyExchange, Cipher, DhGroup, Encryption, EspProposal, IkeProposal, IkeVersion, Integrity, Prf,
};
pub use cidr::{Cidr, CidrError};
pub use counter::{Generation, Revision};
pub use id::*;
pub use name::{HostName, NameError, Realm, RegionName, ResourceName, ZoneName};
pub use secret::Secret;
pub use time::Timestamp;
pub use tunnel::{CertificateOptions, DontFragment, DscpPolicy, SelectorLayout, TunnelOptions};

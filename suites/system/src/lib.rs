//! The whole of Isthmus under test: the real binary with all its processes, driven through its public API only.
//!
//! [`System`] is one installation in a realm and a state directory of its own; [`Pair`] is two VPCs joined by VPN, made
//! through the API. Dropping a system takes it down and checks nothing; [`System::stop`] also checks what is left.

mod outside;
mod pair;
pub mod stranger;
mod system;

pub use outside::{Outside, OutsideCount};
pub use pair::{Pair, Site};
pub use system::System;

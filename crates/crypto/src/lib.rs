//! Cryptographic suites over library primitives; the only crate that names a backend.
//!
//! It knows no message and no SA. Every key lives in memory that is erased when dropped.

pub mod certificate;
pub mod cipher;
pub mod dh;
pub mod kem;
pub mod prf;
pub mod random;
pub mod seal;
pub mod signature;
mod stack;
pub mod suite;

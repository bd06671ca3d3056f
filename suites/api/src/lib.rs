//! The HTTP API under test: the real server on a real store, in this process, with nobody but the test playing hosts.
//!
//! [`Server`] is one running server with a database of its own; [`Client`] speaks HTTP to it and shows answers as they
//! came; [`World`] is a small network made through the API.

mod client;
mod server;
mod world;

pub use client::{Client, Reply};
pub use server::{Account, Server};
pub use world::World;

/// A date at which connections are nested.
pub const NESTED: &str = "2026-10-06";

/// The date of the first VPN example, at which connections are flat.
pub const FLAT: &str = "2020-02-14";

/// The key of every connection that a test makes.
pub const PSK: &str = "Example.Key-1";

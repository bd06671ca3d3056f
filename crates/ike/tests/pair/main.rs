//! Two endpoints on a simulated network: every exchange clean, with each datagram lost in turn, and under many seeds of
//! random faults.

mod anywhere;
mod certificate;
mod collisions;
mod configuration;
mod doctor;
mod establish;
mod faults;
mod forward_secrecy;
mod fragments;
mod hostile;
mod hybrid;
mod liveness;
mod mismatch;
mod nat;
mod rekey;
mod rekeying;
mod reset;
mod v1;

use std::time::Duration;

use isthmus_ike::{ConnectionConfig, ConnectionState, DownReason};
use isthmus_simnet::{Link, Pair, Side};

/// Long enough for anything that ends at all.
const LONG: Duration = Duration::from_secs(120);
/// Enough for everything that was decided to be done, with graces.
const REST: Duration = Duration::from_secs(40);

/// A pair whose tunnel is up and at rest, with traffic.
fn settled(seed: u64, link: Link) -> Pair {
    let mut pair = Pair::new(seed, link);
    pair.connect();
    assert!(
        pair.run_until(LONG, Pair::is_settled),
        "seed {seed}: {:?}",
        pair.discord()
    );
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(1));
    pair
}

/// Both configurations, changed alike.
fn connect_with(pair: &mut Pair, change: impl Fn(Side, &mut ConnectionConfig)) {
    for side in [Side::Left, Side::Right] {
        let mut config = Pair::config(side);
        change(side, &mut config);
        pair.upsert(side, config);
    }
}

fn lost(pair: &Pair) -> u64 {
    pair.peer(Side::Left).lost + pair.peer(Side::Right).lost
}

fn reason(pair: &Pair, side: Side) -> Option<DownReason> {
    match pair.peer(side).endpoint.state(side.connection()) {
        Some(ConnectionState::Down { reason, .. }) => Some(reason),
        Some(ConnectionState::AdminDown | ConnectionState::Up) | None => None,
    }
}

fn child_spi(pair: &Pair, side: Side) -> u32 {
    let status = pair
        .peer(side)
        .endpoint
        .status(side.connection())
        .expect("a connection");
    status.children[0].inbound_spi
}

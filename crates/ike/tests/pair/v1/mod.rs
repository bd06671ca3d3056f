//! The same network, with IKE version 1 at both ends.

mod beginning;
mod establish;
mod hostile;
mod rekey;
mod restart;

use std::time::{Duration, Instant};

use isthmus_ike::{ConnectionConfig, End, EventKind};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{DhGroup, Encryption, IkeProposal, IkeVersion, Integrity, Prf};

use crate::{LONG, connect_with};

pub(crate) fn version_1(_: Side, config: &mut ConnectionConfig) {
    config.version = IkeVersion::V1;
    config.ike_proposals = vec![IkeProposal {
        encryption: vec![Encryption::Aes256Cbc],
        integrity: vec![Integrity::HmacSha2_256_128],
        prf: vec![Prf::HmacSha2_256],
        dh: vec![DhGroup::X25519],
        additional: Vec::new(),
    }];
}

/// When an end was told of each ISAKMP SA that it has had, and who began that.
fn established(pair: &Pair, side: Side) -> Vec<(Instant, End)> {
    let status = pair.peer(side).endpoint.status(side.connection());
    let events = status.expect("a connection").events;
    events
        .iter()
        .filter_map(|event| {
            if let EventKind::IkeEstablished { by, .. } = &event.kind {
                Some((event.at, *by))
            } else {
                None
            }
        })
        .collect()
}

/// A pair with version 1 that nothing was sent on yet, changed alike at both ends.
fn pair_with(seed: u64, link: Link, change: impl Fn(Side, &mut ConnectionConfig)) -> Pair {
    let mut pair = Pair::new(seed, link);
    connect_with(&mut pair, |side, config| {
        version_1(side, config);
        change(side, config);
    });
    pair
}

/// A pair whose tunnel is up and at rest, with traffic.
fn settled_with(seed: u64, change: impl Fn(Side, &mut ConnectionConfig)) -> Pair {
    let mut pair = pair_with(seed, Link::clean(), change);
    assert!(
        pair.run_until(LONG, Pair::is_settled),
        "seed {seed}: {:?}",
        pair.discord()
    );
    pair.set_traffic(true);
    pair.run_for(Duration::from_secs(1));
    pair
}

fn settled(seed: u64) -> Pair {
    settled_with(seed, |_, _| {})
}

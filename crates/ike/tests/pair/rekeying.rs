//! What tests of rekeys do in both versions.

use std::time::Duration;

use isthmus_ike::ChildId;
use isthmus_simnet::{Pair, Side};
use isthmus_types::IkeVersion;

use crate::{LONG, REST, child_spi, lost};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Child,
    Ike,
}

/// Who replaces what at once.
pub(crate) const CASES: [&[(Side, What)]; 9] = [
    &[(Side::Left, What::Child)],
    &[(Side::Right, What::Child)],
    &[(Side::Left, What::Ike)],
    &[(Side::Right, What::Ike)],
    &[(Side::Left, What::Child), (Side::Right, What::Child)],
    &[(Side::Left, What::Ike), (Side::Right, What::Ike)],
    &[(Side::Left, What::Ike), (Side::Right, What::Child)],
    &[(Side::Left, What::Child), (Side::Left, What::Ike)],
    &[
        (Side::Left, What::Child),
        (Side::Right, What::Child),
        (Side::Left, What::Ike),
        (Side::Right, What::Ike),
    ],
];

pub(crate) fn rekey(pair: &mut Pair, side: Side, what: What) {
    let child = in_use(pair, side);
    pair.act(side, |endpoint, now| match what {
        What::Child => endpoint.rekey_child(child, now),
        What::Ike => endpoint.rekey_ike(side.connection(), now),
    });
}

fn in_use(pair: &Pair, side: Side) -> ChildId {
    let status = pair.peer(side).endpoint.status(side.connection());
    status.expect("a connection").children[0].child
}

/// Rekeys on `sides`, waits for rest and checks that the right thing is new.
pub(crate) fn check(mut pair: Pair, sides: &[(Side, What)], label: &str) {
    let before = child_spi(&pair, Side::Left);
    for (side, what) in sides {
        rekey(&mut pair, *side, *what);
    }
    pair.run_for(REST);
    assert!(
        pair.run_until(LONG, Pair::is_settled),
        "{label}: {:?}",
        pair.discord()
    );
    let child_too = sides.iter().any(|(_, what)| matches!(what, What::Child));
    let version = pair.configured(Side::Left).expect("configured").version;
    // In version 1 children are made anew where phases 1 cross.
    let crosses = sides.iter().filter(|(_, what)| matches!(what, What::Ike)).count() > 1;
    if child_too || version == IkeVersion::V2 || !crosses {
        assert_eq!(child_spi(&pair, Side::Left) != before, child_too, "{label}");
    }
    assert_eq!(lost(&pair), 0, "{label}");
    let received = pair.peer(Side::Left).received;
    pair.run_for(Duration::from_secs(1));
    assert!(
        pair.peer(Side::Left).received > received,
        "{label}: traffic has stopped"
    );
}

//! What is left in the memory of the process after an endpoint was closed and dropped: no pre-shared key, no key of an SA.
//!
//! The process is this test's alone, so that whatever is found was left by it.

mod search;

use std::time::Duration;

use isthmus_ike::ChildSa;
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::Secret;

use crate::search::{MASK, Wanted, left_of, search};

fn keys_of(child: &ChildSa) -> [Wanted; 2] {
    [
        Wanted::new("inbound key", &child.inbound.keys.encryption()[..16]),
        Wanted::new("outbound key", &child.outbound.keys.encryption()[..16]),
    ]
}

#[test]
fn nothing_secret_is_left_in_memory_after_close() {
    let masked: Vec<u8> = b"a key that stands nowhere else, 7391"
        .iter()
        .map(|byte| byte ^ MASK)
        .collect();
    let reveal = || -> String { masked.iter().map(|byte| char::from(byte ^ MASK)).collect() };
    let mut pair = Pair::new(7, Link::clean());
    for side in [Side::Left, Side::Right] {
        let mut config = Pair::config(side);
        config.psk = Secret::new(reveal());
        pair.upsert(side, config);
    }
    assert!(pair.run_until(Duration::from_secs(10), Pair::is_settled));
    let mut wanted = vec![Wanted {
        what: "pre-shared key",
        masked: masked.clone(),
    }];
    let child = pair.peer(Side::Left).sending_child().expect("it is settled");
    wanted.extend(keys_of(&child.sa));

    let before = search(&wanted);
    for (wanted, times) in wanted.iter().zip(&before) {
        assert!(
            *times > 0,
            "the search does not even find the {} in use",
            wanted.what
        );
    }
    for side in [Side::Left, Side::Right] {
        pair.act(side, isthmus_ike::Endpoint::close);
    }
    pair.run_for(Duration::from_secs(60));
    assert!(pair.peer(Side::Left).endpoint.is_idle() && pair.peer(Side::Right).endpoint.is_idle());
    drop(pair);
    let left = left_of(&wanted);
    assert!(left.is_empty(), "{left:?}; while in use: {before:?}");
}

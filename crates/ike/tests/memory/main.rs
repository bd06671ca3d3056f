//! What is left in the memory of the process after an endpoint was closed and dropped: no pre-shared key, no key of an SA.
//!
//! The process is this test's alone, so that whatever is found was left by it.

mod search;

use std::time::Duration;

use isthmus_crypto::dh::PrivateKey;
use isthmus_ike::ChildSa;
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{DhGroup, Secret};

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

#[test]
fn no_secret_of_a_key_exchange_is_left_on_the_stack() {
    for group in [
        DhGroup::Modp1024,
        DhGroup::Modp2048,
        DhGroup::Modp8192,
        DhGroup::Ecp256,
        DhGroup::X25519,
    ] {
        let ours = PrivateKey::generate(group).expect("a key");
        let theirs = PrivateKey::generate(group).expect("a key");
        let secret = ours.agree(theirs.public()).expect("a secret");
        let (first, last) = (&secret[..16], &secret[secret.len() - 16..]);
        let backwards = |bytes: &[u8]| {
            let mut wanted = Wanted::new("secret, lowest byte first", bytes);
            wanted.masked.reverse();
            wanted
        };
        let wanted = [
            Wanted::new("begin of the secret", first),
            Wanted::new("end of the secret", last),
            backwards(first),
            backwards(last),
        ];
        assert!(search(&wanted[..2]).iter().all(|times| *times > 0), "{group}");
        drop((ours, theirs, secret));
        let left = left_of(&wanted);
        assert!(left.is_empty(), "{group}: {left:?}");
    }
}

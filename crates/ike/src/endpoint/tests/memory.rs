//! What is left in the memory of the process when an IKE SA is gone: none of its keys, which nobody outside ever sees.

#[path = "../../../tests/memory/search.rs"]
mod search;

use isthmus_types::Integrity;

use super::*;
use crate::keys::IkeKeys;
use search::{Wanted, left_of, search};

/// Shorter keys are not looked for: one may stand somewhere by chance.
const LONG_ENOUGH: usize = 16;

fn wanted(secrets: &[(&'static str, &[u8])]) -> Vec<Wanted> {
    let long = secrets.iter().filter(|(_, secret)| secret.len() >= LONG_ENOUGH);
    long.map(|(what, secret)| Wanted::new(what, secret)).collect()
}

fn keys_of(keys: &IkeKeys) -> Vec<Wanted> {
    wanted(&[
        ("SK_d", &keys.derive),
        ("SK_ai", keys.initiator.integrity()),
        ("SK_ar", keys.responder.integrity()),
        ("SK_ei", keys.initiator.encryption()),
        ("SK_er", keys.responder.encryption()),
        ("SK_pi", &keys.prove_initiator),
        ("SK_pr", &keys.prove_responder),
    ])
}

/// All are found while they are in use, and none when both ends have closed and are gone.
fn check(mut ends: Ends, wanted: &mut Vec<Wanted>, after: impl FnOnce(&mut Ends) -> Vec<Wanted>) {
    for (wanted, times) in wanted.iter().zip(search(wanted)) {
        assert!(times > 0, "the search does not even find {} in use", wanted.what);
    }
    wanted.extend(after(&mut ends));
    ends.left.close(ends.now);
    ends.right.close(ends.now);
    ends.exchange();
    ends.pass(Duration::from_secs(60));
    assert!(ends.left.is_idle() && ends.right.is_idle());
    drop(ends);
    let left = left_of(wanted);
    assert!(left.is_empty(), "{left:?}");
}

/// The handshake as far as both ends have the keys.
fn with_keys(change: impl Fn(&mut ConnectionConfig)) -> Ends {
    let mut ends = Ends::new();
    let mut configs = [config(LEFT), config(RIGHT)];
    configs.iter_mut().for_each(change);
    let [left, right] = configs;
    ends.right.upsert_connection(right, ends.now);
    ends.left.upsert_connection(left, ends.now);
    let first = ends.left.poll_transmit().expect("a first message");
    ends.deliver_right(&first);
    let answer = ends.right.poll_transmit().expect("an answer");
    ends.deliver_left(&answer);
    ends
}

#[test]
fn no_key_of_an_ike_sa_is_left_in_memory_when_it_is_gone_nor_of_the_one_before_it() {
    for with_integrity in [false, true] {
        let mut ends = with_keys(|config| {
            if with_integrity {
                config.ike_proposals[0].encryption = vec![Encryption::Aes256Cbc];
                config.ike_proposals[0].integrity = vec![Integrity::HmacSha2_256_128];
            }
        });
        let State::AuthSent(auth) = &only_sa(&mut ends.left).state else {
            panic!("IKE_AUTH is sent");
        };
        let mut wanted = keys_of(&auth.keys);
        assert_eq!(wanted.len(), if with_integrity { 7 } else { 5 });
        check(ends, &mut wanted, |ends| {
            ends.exchange();
            assert_eq!(ends.left.state(connection()), Some(ConnectionState::Up));
            ends.left.rekey_ike(connection(), ends.now);
            ends.exchange();
            ends.pass(Duration::from_secs(20));
            vec![Wanted::new(
                "SK_d of the next one",
                &only_established(&mut ends.left).derive,
            )]
        });
    }
}

#[test]
fn no_key_of_an_isakmp_sa_is_left_in_memory_when_it_is_gone() {
    let mut ends = with_keys(|config| {
        config.version = IkeVersion::V1;
        config.ike_proposals[0].encryption = vec![Encryption::Aes256Cbc];
        config.ike_proposals[0].integrity = vec![Integrity::HmacSha2_256_128];
    });
    ends.exchange();
    assert_eq!(ends.left.state(connection()), Some(ConnectionState::Up));
    let secrets = ends.left.v1.secrets();
    assert_eq!(secrets.len(), 4);
    let mut wanted = wanted(&secrets);
    drop(secrets);
    check(ends, &mut wanted, |ends| {
        ends.left.rekey_ike(connection(), ends.now);
        ends.exchange();
        ends.pass(Duration::from_secs(20));
        Vec::new()
    });
}

//! What is left in the memory of the process after an endpoint was closed and dropped: no pre-shared key, no key of an SA.
//!
//! The process is this test's alone, so that whatever is found was left by it.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the memory of the process is a file to it"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use isthmus_ike::ChildSa;
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::Secret;

/// Masks what is looked for, so that the wanted list is no finding itself.
const MASK: u8 = 0x5a;

/// A secret that stands in memory in masked form only.
struct Wanted {
    what: &'static str,
    masked: Vec<u8>,
}

impl Wanted {
    fn new(what: &'static str, secret: &[u8]) -> Self {
        Self {
            what,
            masked: secret.iter().map(|byte| byte ^ MASK).collect(),
        }
    }

    fn times_in(&self, bytes: &[u8]) -> usize {
        let first = self.masked[0] ^ MASK;
        bytes
            .windows(self.masked.len())
            .filter(|window| {
                window[0] == first
                    && window
                        .iter()
                        .zip(&self.masked)
                        .all(|(byte, masked)| byte ^ MASK == *masked)
            })
            .count()
    }
}

/// How often each of `wanted` stands in a writable part of this process's memory.
fn search(wanted: &[Wanted]) -> Vec<usize> {
    let memory = File::open("/proc/self/mem").expect("our own memory");
    let maps = fs::read_to_string("/proc/self/maps").expect("our own memory");
    let mut found = vec![0; wanted.len()];
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(access)) = (words.next(), words.next()) else {
            continue;
        };
        let Some((from, to)) = range.split_once('-') else {
            continue;
        };
        if !access.starts_with("rw") {
            continue;
        }
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (from, to) = (address(from), address(to));
        let mut bytes = vec![0; usize::try_from(to - from).expect("it is in memory")];
        // What cannot be read, such as a guard page, holds nothing.
        let Ok(read) = memory.read_at(&mut bytes, from) else {
            continue;
        };
        for (wanted, found) in wanted.iter().zip(&mut found) {
            *found += wanted.times_in(&bytes[..read]);
        }
        // The copy is no finding either.
        bytes.fill(0);
    }
    found
}

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
    let after = search(&wanted);
    let left: Vec<String> = wanted
        .iter()
        .zip(&after)
        .filter(|(_, times)| **times > 0)
        .map(|(wanted, times)| format!("{} {times} times", wanted.what))
        .collect();
    assert!(left.is_empty(), "{left:?}; while in use: {before:?}");
}

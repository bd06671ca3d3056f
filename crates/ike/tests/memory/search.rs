//! A search of this process's memory.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the memory of the process is a file to it"
)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

/// Masks what is looked for, so that the wanted list is no finding itself.
pub(crate) const MASK: u8 = 0x5a;

/// A secret that stands in memory in masked form only.
pub(crate) struct Wanted {
    pub(crate) what: &'static str,
    pub(crate) masked: Vec<u8>,
}

impl Wanted {
    pub(crate) fn new(what: &'static str, secret: &[u8]) -> Self {
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
pub(crate) fn search(wanted: &[Wanted]) -> Vec<usize> {
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

/// Those that still stand in memory, in words.
pub(crate) fn left_of(wanted: &[Wanted]) -> Vec<String> {
    wanted
        .iter()
        .zip(search(wanted))
        .filter(|(_, times)| *times > 0)
        .map(|(wanted, times)| format!("{} {times} times", wanted.what))
        .collect()
}

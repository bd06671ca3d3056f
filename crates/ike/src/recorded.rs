//! Tunnels between two daemons of strongSwan, recorded with the secrets that these logged: what we derive, open and verify
//! must be the same to the last byte. `crates/netlab/examples/record.rs` makes such recordings.

mod v2;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{RefUnwindSafe, catch_unwind};

use isthmus_crypto::suite::CipherSuite;
use isthmus_types::{DhGroup, Encryption, Integrity, Prf, Secret};

use crate::algorithm::IkeSuite;

const NON_ESP_MARKER: [u8; 4] = [0; 4];
const NAT_PORT: &str = ":4500";

/// One recorded tunnel.
pub(crate) struct Recording {
    pub(crate) suite: IkeSuite,
    pub(crate) child: CipherSuite,
    pub(crate) psk: Secret,
    /// The messages of IKE, in order.
    pub(crate) messages: Vec<Datagram>,
    /// SPIs of each Child SA that the initiator receives on and sends with.
    pub(crate) children: Vec<(u32, u32)>,
    logged: BTreeMap<String, VecDeque<Vec<u8>>>,
}

/// One recorded message, without the marker before it.
#[derive(Clone)]
pub(crate) struct Datagram {
    pub(crate) from_initiator: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Recording {
    pub(crate) fn read(text: &str) -> Self {
        let mut facts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').expect("a word, then values");
            facts.entry(word).or_default().push(rest);
        }
        let fact = |word: &str| facts[word][0];
        let initiator = fact("initiator");
        let mut logged: BTreeMap<String, VecDeque<Vec<u8>>> = BTreeMap::new();
        for line in &facts["log"] {
            let (label, value) = line.split_once(' ').expect("a label and a value");
            logged
                .entry(label.to_owned())
                .or_default()
                .push_back(bytes(value));
        }
        let words: Vec<&str> = fact("ike").split('-').collect();
        Self {
            suite: IkeSuite {
                cipher: cipher(&words),
                prf: found(&words, Prf::from_word).expect("a PRF"),
                dh: found(&words, DhGroup::from_word).expect("a group"),
                additional: Default::default(),
            },
            child: cipher(&fact("esp").split('-').collect::<Vec<_>>()),
            psk: Secret::new(fact("psk").to_owned()),
            messages: facts["packet"]
                .iter()
                .filter_map(|line| message(line, initiator))
                .collect(),
            children: facts["child"].iter().map(|line| spis(line)).collect(),
            logged,
        }
    }

    /// The next value that was logged under a word.
    pub(crate) fn logged(&mut self, word: &str) -> Vec<u8> {
        self.logged
            .get_mut(word)
            .and_then(VecDeque::pop_front)
            .unwrap_or_else(|| panic!("no more {word:?} in the recording"))
    }

    /// The same if there is one before anything of the next exchange.
    pub(crate) fn logged_if_any(&mut self, word: &str) -> Option<Vec<u8>> {
        self.logged.get_mut(word).and_then(VecDeque::pop_front)
    }

    /// What was logged and has not been compared.
    pub(crate) fn left_over(&self) -> Vec<&str> {
        let left = self.logged.iter().filter(|(_, values)| !values.is_empty());
        left.map(|(word, _)| word.as_str()).collect()
    }
}

/// Makes sure that `replay` panics on every recording that differs from `text` in one digit of a value that was logged.
pub(crate) fn refuses_other_logs(text: &str, replay: impl Fn(&str) + RefUnwindSafe) {
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("log "))
    {
        let (kept, last) = line.split_at(line.len() - 1);
        let other = format!("{kept}{}", if last == "0" { "1" } else { "0" });
        let mut lines = lines.clone();
        lines[at] = &other;
        let outcome = catch_unwind(|| replay(&lines.join("\n")));
        assert!(outcome.is_err(), "nobody noticed a change of {line:?}");
    }
}

fn message(line: &str, initiator: &str) -> Option<Datagram> {
    let words: Vec<&str> = line.split(' ').collect();
    let payload = bytes(words[2]);
    let bytes = if words[0].ends_with(NAT_PORT) {
        payload.strip_prefix(&NON_ESP_MARKER)?.to_vec()
    } else {
        payload
    };
    Some(Datagram {
        from_initiator: words[0].starts_with(initiator),
        bytes,
    })
}

fn spis(line: &str) -> (u32, u32) {
    let (inbound, outbound) = line.split_once(' ').expect("two SPIs");
    let spi = |text| u32::from_str_radix(text, 16).expect("an SPI");
    (spi(inbound), spi(outbound))
}

fn cipher(words: &[&str]) -> CipherSuite {
    let encryption = found(words, Encryption::from_word).expect("a cipher");
    CipherSuite::new(encryption, found(words, Integrity::from_word)).expect("they go together")
}

fn found<T>(words: &[&str], of_word: impl Fn(&str) -> Option<T>) -> Option<T> {
    words.iter().find_map(|word| of_word(word))
}

fn bytes(text: &str) -> Vec<u8> {
    assert!(
        text.len().is_multiple_of(2) && text.is_ascii(),
        "{text:?} is no hexadecimal"
    );
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

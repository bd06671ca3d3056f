//! What one end does while the other does something to the same SAs (RFC 7296 section 2.25): every combination, begun at
//! several moments of each other's flight, with each datagram in turn lost, late, or late together with the next one. The
//! exchanges that make an SA also with several rounds: a wrong guess of the group, and additional key exchanges.

use std::time::Duration;

use isthmus_ike::{ChildId, ConnectionConfig};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::{AdditionalKeyExchange, DhGroup, SelectorLayout};

use crate::{LONG, REST, connect_with, lost};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    CreateChild,
    DeleteChild,
    DeleteIke,
    RekeyChild,
    RekeyIke,
}

impl What {
    /// Whether the child that was in use stays as it is. Where a range is added, all are made anew.
    fn keeps_child(self) -> bool {
        matches!(self, Self::RekeyIke)
    }

    /// Whether there is always a child to send on at both ends. The first one for a range may be used by the end that
    /// answers before its answer has arrived.
    fn makes_before_it_breaks(self) -> bool {
        matches!(self, Self::RekeyChild | Self::RekeyIke)
    }
}

const ROWS: [(What, What); 14] = [
    (What::RekeyChild, What::RekeyChild),
    (What::RekeyChild, What::DeleteChild),
    (What::RekeyChild, What::RekeyIke),
    (What::RekeyChild, What::DeleteIke),
    (What::RekeyIke, What::RekeyIke),
    (What::RekeyIke, What::CreateChild),
    (What::RekeyIke, What::DeleteChild),
    (What::RekeyIke, What::DeleteIke),
    (What::DeleteChild, What::DeleteChild),
    (What::DeleteChild, What::CreateChild),
    (What::DeleteIke, What::DeleteIke),
    (What::DeleteIke, What::CreateChild),
    (What::DeleteIke, What::DeleteChild),
    (What::CreateChild, What::CreateChild),
];
/// Those in which the rounds of an exchange that makes an SA meet something.
const ROWS_OF_ROUNDS: [(What, What); 6] = [
    (What::RekeyChild, What::RekeyChild),
    (What::RekeyChild, What::DeleteChild),
    (What::RekeyChild, What::RekeyIke),
    (What::RekeyIke, What::RekeyIke),
    (What::RekeyIke, What::CreateChild),
    (What::CreateChild, What::CreateChild),
];
/// From the first end's beginning to the second's; a flight takes 5 ms.
const OFFSETS: [u64; 3] = [0, 3, 8];
/// The same where an exchange that makes an SA takes longer.
const OFFSETS_OF_ROUNDS: [u64; 3] = [0, 8, 13];

/// What exchanges that make an SA are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rounds {
    /// Request and answer.
    One,
    /// The first request has a group that the other end does not like best: it answers with INVALID_KE_PAYLOAD.
    GroupGuessedWrong,
    /// IKE_FOLLOWUP_KE comes after it.
    AdditionalExchange,
}

impl Rounds {
    fn configure(self, side: Side, config: &mut ConnectionConfig) {
        match self {
            Self::One => {}
            Self::GroupGuessedWrong => {
                let mut groups = vec![DhGroup::X25519, DhGroup::Ecp256];
                if side == Side::Right {
                    groups.reverse();
                }
                config.ike_proposals[0].dh.clone_from(&groups);
                config.esp_proposals[0].pfs = groups;
            }
            Self::AdditionalExchange => {
                let additional = vec![AdditionalKeyExchange::MlKem768];
                config.ike_proposals[0].additional.clone_from(&additional);
                config.esp_proposals[0].pfs = vec![DhGroup::X25519];
                config.esp_proposals[0].additional = additional;
            }
        }
    }

    /// Moments at which the second end begins.
    fn offsets(self) -> &'static [u64] {
        match self {
            Self::One => &OFFSETS,
            Self::GroupGuessedWrong | Self::AdditionalExchange => &OFFSETS_OF_ROUNDS,
        }
    }

    /// Datagrams after the beginning that are treated ill, each in turn.
    const fn datagrams(self) -> usize {
        match self {
            Self::One => 8,
            Self::GroupGuessedWrong | Self::AdditionalExchange => 10,
        }
    }

    /// How a request that only they have looks in the journal, and how often it must be there when two children are rekeyed.
    const fn sign(self) -> (&'static str, usize) {
        match self {
            Self::One => ("request 36/", 2),
            Self::GroupGuessedWrong => ("request 36/", 4),
            Self::AdditionalExchange => ("request 44/", 1),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    Lost(usize),
    /// The datagram arrives when the other end has long gone on, but before it is sent again.
    Late(usize),
    /// Request and answer arrive when both were sent again.
    BothLate(usize),
}

impl Fault {
    fn all(datagrams: usize) -> impl Iterator<Item = Self> {
        let each = (0..datagrams)
            .flat_map(|number| [Self::Lost(number), Self::Late(number), Self::BothLate(number)]);
        std::iter::once(Self::None).chain(each)
    }

    /// The network with it, when `sent` datagrams were sent before.
    fn link(self, sent: usize) -> Link {
        match self {
            Self::None => Link::clean(),
            Self::Lost(number) => Link::losing(sent + number),
            Self::Late(number) => Link {
                late: Some((sent + number..=sent + number, Duration::from_millis(120))),
                ..Link::clean()
            },
            Self::BothLate(number) => Link {
                late: Some((sent + number..=sent + number + 1, Duration::from_millis(1_800))),
                ..Link::clean()
            },
        }
    }
}

fn children(pair: &Pair, side: Side) -> Vec<(ChildId, u32)> {
    let status = pair.peer(side).endpoint.status(side.connection());
    let children = status.expect("a connection").children;
    children
        .iter()
        .map(|child| (child.child, child.inbound_spi))
        .collect()
}

struct Case {
    pair: Pair,
    configs: [ConnectionConfig; 2],
    /// The child that both ends are about, at each end.
    child: [(ChildId, u32); 2],
}

impl Case {
    fn new(seed: u64, rounds: Rounds) -> Self {
        let mut pair = Pair::new(seed, Link::clean());
        connect_with(&mut pair, |side, config| {
            config.options.selectors = SelectorLayout::PerPair;
            rounds.configure(side, config);
        });
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        pair.set_traffic(true);
        pair.run_for(Duration::from_millis(200));
        let configs =
            [Side::Left, Side::Right].map(|side| pair.configured(side).expect("configured").clone());
        let child = [Side::Left, Side::Right].map(|side| children(&pair, side)[0]);
        Self { pair, configs, child }
    }

    fn begin(&mut self, side: Side, what: What) {
        let (child, _) = self.child[side as usize];
        match what {
            What::CreateChild => self.add_range(side),
            What::DeleteChild => self
                .pair
                .act(side, |endpoint, now| endpoint.delete_child(child, now)),
            What::DeleteIke => {
                self.configs[side as usize].reset_count += 1;
                self.upsert(side);
            }
            What::RekeyChild => self
                .pair
                .act(side, |endpoint, now| endpoint.rekey_child(child, now)),
            What::RekeyIke => self
                .pair
                .act(side, |endpoint, now| endpoint.rekey_ike(side.connection(), now)),
        }
    }

    fn add_range(&mut self, first: Side) {
        let range = "10.3.0.0/16".parse().expect("a constant range");
        for side in [first, first.other()] {
            let config = &mut self.configs[side as usize];
            let ranges = match side {
                Side::Left => &mut config.local_cidrs,
                Side::Right => &mut config.peer_cidrs,
            };
            if !ranges.contains(&range) {
                ranges.push(range);
                self.upsert(side);
            }
        }
    }

    fn upsert(&mut self, side: Side) {
        self.pair.upsert(side, self.configs[side as usize].clone());
    }

    /// What is wrong when all has come to rest.
    fn fault(&mut self, row: (What, What)) -> Option<String> {
        self.pair.run_for(REST);
        if !self.pair.run_until(LONG, Pair::is_settled) {
            return Some(format!("{:?}", self.pair.discord()));
        }
        let news = !(row.0.keeps_child() && row.1.keeps_child());
        let adds = row.0 == What::CreateChild || row.1 == What::CreateChild;
        for side in [Side::Left, Side::Right] {
            let (_, spi) = self.child[side as usize];
            let left = children(&self.pair, side);
            if left.len() != 1 + usize::from(adds) {
                return Some(format!("{side:?} has children {left:?}"));
            }
            if left.iter().any(|(_, other)| *other == spi) == news {
                return Some(format!("{side:?}: child {spi:08x} among {left:?}"));
            }
            let held = self.pair.peer(side).endpoint.footprint();
            if (held.ike_sas, held.ike_spis, held.esp_spis) != (1, 1, left.len()) {
                return Some(format!("{side:?} holds {held:?}"));
            }
        }
        let lost = lost(&self.pair);
        let smooth = row.0.makes_before_it_breaks() && row.1.makes_before_it_breaks();
        (smooth && lost != 0).then(|| format!("{lost} packets lost"))
    }
}

/// Rows are about what is done, so who does which is tried both ways.
fn check(row: (What, What), rounds: Rounds) {
    let mut faults = Vec::new();
    let mut count = 0;
    for first in [Side::Left, Side::Right] {
        for offset in rounds.offsets() {
            for fault in Fault::all(rounds.datagrams()) {
                let mut case = Case::new(count, rounds);
                count += 1;
                case.pair.link = fault.link(case.pair.sent);
                case.pair.journal = Some(Vec::new());
                case.begin(first, row.0);
                case.pair.run_for(Duration::from_millis(*offset));
                case.begin(first.other(), row.1);
                if let Some(what) = case.fault(row) {
                    faults.push(format!("{first:?} first, {offset} ms, {fault:?}: {what}"));
                }
                if row == (What::RekeyChild, What::RekeyChild) && *offset == 0 && matches!(fault, Fault::None)
                {
                    let (sign, times) = rounds.sign();
                    let journal = case.pair.journal.take().expect("it is kept");
                    let seen = journal.iter().filter(|line| line.contains(sign)).count();
                    assert!(
                        seen >= times,
                        "{rounds:?}: {sign} {seen} times\n{}",
                        journal.join("\n")
                    );
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{row:?}, {rounds:?}: {} of {count} fail\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn whatever_both_ends_do_at_once_leaves_the_same_sas_at_both() {
    for row in ROWS {
        check(row, Rounds::One);
    }
}

#[test]
fn so_it_does_where_the_group_is_guessed_wrong() {
    for row in ROWS_OF_ROUNDS {
        check(row, Rounds::GroupGuessedWrong);
    }
}

#[test]
fn so_it_does_where_additional_key_exchanges_follow() {
    for row in ROWS_OF_ROUNDS {
        check(row, Rounds::AdditionalExchange);
    }
}

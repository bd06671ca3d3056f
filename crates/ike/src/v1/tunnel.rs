//! The Child SAs of a connection. They outlive the ISAKMP SA that they were made under.

use std::time::{Duration, Instant};

use isthmus_types::{Cidr, DhGroup};

use crate::algorithm::EspSuite;
use crate::channel::Role;
use crate::config::ConnectionConfig;
use crate::event::ChildId;
use crate::sa::SaId;
use crate::selector::{Selector, Traffic};

/// How long a child stays that the peer says it has lost, if nothing comes on it.
const DOUBT: Duration = Duration::from_secs(10);
/// What comes on it so soon after may have been on the way.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// One range on our side and one on the peer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) local: Selector,
    pub(super) remote: Selector,
}

/// A pair of ESP SAs.
pub(super) struct Child {
    pub(super) id: ChildId,
    pub(super) pair: Pair,
    pub(super) suite: EspSuite,
    pub(super) inbound_spi: u32,
    pub(super) outbound_spi: u32,
    pub(super) begun_by: Role,
    pub(super) nonce_min: Vec<u8>,
    /// Whether the peer has it too.
    pub(super) ready: bool,
    /// Whether the shell was told to wait before it sends.
    pub(super) waits: bool,
    /// Those that it replaces: they were there when its exchange began.
    pub(super) replaces: Vec<ChildId>,
    pub(super) installed_at: Instant,
    pub(super) rekey_at: Option<Instant>,
    pub(super) expire_at: Instant,
    pub(super) outdated: bool,
    /// Another one is in use for the pair; this one goes then if that still holds.
    pub(super) superseded_at: Option<Instant>,
    /// Nothing is sent on it any more, and it will not come back into use.
    pub(super) leaves: bool,
    /// When the peer said that it has lost everything: it goes soon then, unless the peer sends on it all the same.
    pub(super) doubted_at: Option<Instant>,
    /// It is to be replaced before an ISAKMP SA goes, as it may go with that.
    pub(super) hangs: bool,
    /// The ISAKMP SA that it was made under.
    pub(super) made_under: SaId,
}

/// What a connection has of phase 2.
#[derive(Default)]
pub(super) struct Tunnel {
    pub(super) children: Vec<Child>,
    /// The peer decides as we do which of two Child SAs that were made at once stays.
    pub(super) nonce_rule: bool,
    /// Which group of the configuration the next quick mode uses: the next one after a refusal.
    pub(super) group_turn: usize,
    /// What the peer refused with since it last accepted a quick mode of ours.
    pub(super) refused_groups: Vec<Option<DhGroup>>,
    /// Which pair comes first when Child SAs are missing: another one after a refusal.
    pub(super) pair_turn: usize,
    /// Which part of the offer the next phase 1 makes: the next one after a refusal.
    pub(super) offer_turn: usize,
    /// Inbound SPIs whose delete is sent once more then, as nothing confirms the first.
    pub(super) farewells: Vec<(Instant, u32)>,
}

impl Pair {
    /// Every pair that a connection should have.
    pub(super) fn wanted(config: &ConnectionConfig) -> Vec<Self> {
        let mut pairs: Vec<Self> = Vec::new();
        for local in &config.local_cidrs {
            for remote in &config.peer_cidrs {
                let pair = Self::of(*local, *remote);
                if pair.local.start.is_ipv4() == pair.remote.start.is_ipv4() && !pairs.contains(&pair) {
                    pairs.push(pair);
                }
            }
        }
        pairs
    }

    fn of(local: Cidr, remote: Cidr) -> Self {
        Self {
            local: Selector::of(local),
            remote: Selector::of(remote),
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            local: vec![self.local.clone()],
            remote: vec![self.remote.clone()],
        }
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} === {}", self.local, self.remote)
    }
}

impl Child {
    /// Whether it carries traffic and nothing was decided against it.
    pub(super) const fn is_in_use(&self) -> bool {
        self.ready && self.superseded_at.is_none()
    }

    /// Whether it stays rather than `other`, which was made at the same time for the same pair. If both ends know the rule it is the
    /// one with the higher nonce. Any other peer is taken for one that counts whatever it reads last for the newest, and so
    /// for the one that replaces what is there: that is ours, as its own was there when it read our last message.
    pub(super) fn outlives(&self, other: &Self, nonce_rule: bool) -> bool {
        let is_ours = |child: &Self| child.begun_by == Role::Initiator;
        if nonce_rule {
            self.nonce_min > other.nonce_min
        } else {
            (is_ours(self), self.id) > (is_ours(other), other.id)
        }
    }

    /// Whether the peer seems to have lost it, as it said.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.doubted_at.is_some_and(|at| at + DOUBT <= now)
    }

    pub(super) fn next_timeout(&self) -> Instant {
        let rekey = self
            .rekey_at
            .filter(|_| !self.outdated && self.superseded_at.is_none());
        let doubt = self.doubted_at.map(|at| at + DOUBT);
        [rekey, self.superseded_at, doubt]
            .into_iter()
            .flatten()
            .fold(self.expire_at, Instant::min)
    }
}

impl Tunnel {
    pub(super) fn child(&self, id: ChildId) -> Option<&Child> {
        self.children.iter().find(|child| child.id == id)
    }

    pub(super) fn child_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.children.iter_mut().find(|child| child.id == id)
    }

    /// Takes a child out.
    pub(super) fn take(&mut self, id: ChildId) -> Option<Child> {
        let place = self.children.iter().position(|child| child.id == id)?;
        Some(self.children.remove(place))
    }

    /// The peer sends on a child that it said it had lost: so it has the others, too.
    pub(super) fn trust(&mut self, now: Instant) {
        for child in &mut self.children {
            child.doubted_at = child.doubted_at.filter(|at| now < *at + ON_THE_WAY);
        }
    }

    /// The children of a pair that are in use.
    pub(super) fn in_use<'a>(&'a self, pair: &'a Pair) -> impl Iterator<Item = &'a Child> {
        self.children
            .iter()
            .filter(move |child| child.pair == *pair && child.is_in_use())
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let farewells = self.farewells.iter().map(|(at, _)| *at);
        self.children
            .iter()
            .map(Child::next_timeout)
            .chain(farewells)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use isthmus_crypto::suite::CipherSuite;
    use isthmus_types::Encryption;

    use super::*;
    use crate::algorithm::SequenceNumbers;

    fn child(id: u64, begun_by: Role, nonce: u8) -> Child {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let now = Instant::now();
        let range = Selector::of("10.0.0.0/8".parse().expect("a range"));
        Child {
            id: ChildId(id),
            pair: Pair {
                local: range.clone(),
                remote: range,
            },
            suite: EspSuite {
                cipher: CipherSuite::new(Encryption::Aes128Gcm16, None).expect("a suite"),
                pfs: None,
                sequence_numbers: SequenceNumbers::Short,
                additional: crate::algorithm::AdditionalKeyExchanges::default(),
            },
            inbound_spi: 256,
            outbound_spi: 256,
            begun_by,
            nonce_min: vec![nonce],
            ready: true,
            waits: false,
            replaces: Vec::new(),
            installed_at: now,
            rekey_at: None,
            expire_at: now,
            outdated: false,
            superseded_at: None,
            leaves: false,
            doubted_at: None,
            hangs: false,
            made_under: SaId(0),
        }
    }

    #[test]
    fn of_two_that_cross_the_nonce_decides_where_both_know_that_and_ours_stays_elsewhere() {
        let (ours, theirs) = (child(1, Role::Initiator, 1), child(2, Role::Responder, 2));
        assert!(theirs.outlives(&ours, true) && !ours.outlives(&theirs, true));
        assert!(ours.outlives(&theirs, false) && !theirs.outlives(&ours, false));
        let newer = child(3, Role::Responder, 0);
        assert!(newer.outlives(&theirs, false));
    }
}

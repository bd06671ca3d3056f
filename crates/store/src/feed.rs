//! Which VPCs changed lately.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use isthmus_types::{Revision, VpcId};

/// VPCs whose plans may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedVpcs {
    /// More changes than are remembered: look at every VPC.
    Everything,
    /// These and no others.
    Some(BTreeSet<VpcId>),
}

/// Remembers the VPCs of the latest revisions.
#[derive(Debug)]
pub(crate) struct Feed {
    capacity: usize,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// Changes up to and including this revision are forgotten.
    forgotten: Revision,
    newest: Revision,
    entries: VecDeque<(Revision, BTreeSet<VpcId>)>,
}

impl Feed {
    pub(crate) fn new(start: Revision, capacity: usize) -> Self {
        Self {
            capacity,
            ring: Mutex::new(Ring {
                forgotten: start,
                newest: start,
                entries: VecDeque::new(),
            }),
        }
    }

    // Every change of the ring is a push or a pop, after which it is whole.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, revision: Revision, vpcs: BTreeSet<VpcId>) {
        let mut ring = self.ring();
        ring.newest = revision;
        // Revisions without VPCs need no entry.
        if !vpcs.is_empty() {
            ring.entries.push_back((revision, vpcs));
        }
        while ring.entries.len() > self.capacity {
            if let Some((revision, _)) = ring.entries.pop_front() {
                ring.forgotten = revision;
            }
        }
    }

    /// The state was read anew: nothing is known of what led to it.
    pub(crate) fn restart(&self, revision: Revision) {
        let mut ring = self.ring();
        ring.entries.clear();
        ring.forgotten = revision;
        ring.newest = revision;
    }

    pub(crate) fn since(&self, revision: Revision) -> ChangedVpcs {
        let ring = self.ring();
        if revision < ring.forgotten || revision > ring.newest {
            return ChangedVpcs::Everything;
        }
        ChangedVpcs::Some(
            ring.entries
                .iter()
                .rev()
                .take_while(|(changed, _)| *changed > revision)
                .flat_map(|(_, vpcs)| vpcs.iter().copied())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::ResourceBits;

    use super::*;

    fn vpcs(numbers: &[u128]) -> BTreeSet<VpcId> {
        numbers
            .iter()
            .map(|number| VpcId(ResourceBits::from_random(*number)))
            .collect()
    }

    #[test]
    fn changes_are_joined_until_they_are_forgotten() {
        let feed = Feed::new(Revision(5), 2);
        assert_eq!(feed.since(Revision(4)), ChangedVpcs::Everything);
        assert_eq!(feed.since(Revision(5)), ChangedVpcs::Some(vpcs(&[])));
        feed.push(Revision(6), vpcs(&[1]));
        feed.push(Revision(7), vpcs(&[]));
        feed.push(Revision(8), vpcs(&[1, 2]));
        assert_eq!(feed.since(Revision(5)), ChangedVpcs::Some(vpcs(&[1, 2])));
        assert_eq!(feed.since(Revision(8)), ChangedVpcs::Some(vpcs(&[])));
        feed.push(Revision(9), vpcs(&[3]));
        assert_eq!(feed.since(Revision(5)), ChangedVpcs::Everything);
        assert_eq!(feed.since(Revision(6)), ChangedVpcs::Some(vpcs(&[1, 2, 3])));
        assert_eq!(feed.since(Revision(10)), ChangedVpcs::Everything);
        feed.restart(Revision(20));
        assert_eq!(feed.since(Revision(9)), ChangedVpcs::Everything);
        assert_eq!(feed.since(Revision(20)), ChangedVpcs::Some(vpcs(&[])));
    }
}

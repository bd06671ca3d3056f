//! The window that refuses packets seen before (RFC 4303 section 3.4.3), as a ring of words (RFC 6479).

/// Fewest packets that a window covers.
pub const MIN_WINDOW: u32 = 64;

/// Which sequence numbers were seen.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    top: u64,
    size: u64,
    words: Box<[u64]>,
}

/// A sequence number that must not be accepted: zero, seen before, or older than the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay;

impl ReplayWindow {
    /// A window of at least `packets` packets, rounded up to a multiple of 64.
    pub fn new(packets: u32) -> Self {
        let size = u64::from(packets.max(MIN_WINDOW)).next_multiple_of(64);
        let words = (size / 64 + 1).next_power_of_two();
        Self {
            top: 0,
            size,
            words: vec![0; usize::try_from(words).unwrap_or(usize::MAX)].into_boxed_slice(),
        }
    }

    /// Whether `sequence` may be new. Cheap: to be asked before any cryptography.
    ///
    /// # Errors
    /// [`Replay`].
    pub fn check(&self, sequence: u64) -> Result<(), Replay> {
        if sequence > self.top {
            return Ok(());
        }
        if sequence == 0 || self.top - sequence >= self.size {
            return Err(Replay);
        }
        if self.words[self.word_of(sequence)] & bit_of(sequence) == 0 {
            Ok(())
        } else {
            Err(Replay)
        }
    }

    /// Marks an authenticated `sequence` as seen, and says whether it is the newest so far.
    ///
    /// # Errors
    /// [`Replay`], as [`ReplayWindow::check`].
    pub fn mark(&mut self, sequence: u64) -> Result<bool, Replay> {
        self.check(sequence)?;
        let newest = sequence > self.top;
        if newest {
            let (old, new) = (self.top / 64, sequence / 64);
            let cleared = (new - old).min(self.words.len() as u64);
            for step in 0..cleared {
                let index = self.word_of((new - step) * 64);
                self.words[index] = 0;
            }
            self.top = sequence;
        }
        let index = self.word_of(sequence);
        self.words[index] |= bit_of(sequence);
        Ok(newest)
    }

    /// The newest sequence number seen.
    pub const fn top(&self) -> u64 {
        self.top
    }

    fn word_of(&self, sequence: u64) -> usize {
        (sequence / 64) as usize & (self.words.len() - 1)
    }
}

const fn bit_of(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    struct Naive {
        seen: BTreeSet<u64>,
        size: u64,
    }

    impl Naive {
        fn mark(&mut self, sequence: u64) -> Result<bool, Replay> {
            let top = self.seen.last().copied().unwrap_or(0);
            if sequence == 0 || sequence + self.size <= top || self.seen.contains(&sequence) {
                return Err(Replay);
            }
            self.seen.insert(sequence);
            Ok(sequence > top)
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_all_numbers_seen(
            size in 1u32..400,
            jumps in proptest::collection::vec((any::<bool>(), 0u64..300, 0u32..40), 1..400),
        ) {
            let mut window = ReplayWindow::new(size);
            let mut naive = Naive { seen: BTreeSet::new(), size: window.size };
            let mut at = 1u64;
            for (forward, step, scale) in jumps {
                let step = if scale == 39 { step << 20 } else { step };
                at = if forward { at + step } else { at.saturating_sub(step) };
                let checked = window.check(at);
                let expected = naive.mark(at);
                prop_assert_eq!(checked.is_ok(), expected.is_ok());
                prop_assert_eq!(window.mark(at), expected);
            }
        }
    }

    #[test]
    fn the_edge_of_the_window_is_exact() {
        let mut window = ReplayWindow::new(1024);
        assert_eq!(window.mark(5000), Ok(true));
        assert_eq!(window.mark(5000), Err(Replay));
        assert_eq!(window.mark(5000 - 1023), Ok(false));
        assert_eq!(window.mark(5000 - 1024), Err(Replay));
        assert_eq!(window.mark(0), Err(Replay));
    }

    #[test]
    fn a_check_alone_moves_nothing() {
        let mut window = ReplayWindow::new(64);
        assert_eq!(window.check(u64::from(u32::MAX)), Ok(()));
        assert_eq!(window.mark(1), Ok(true));
        assert_eq!(window.top(), 1);
    }
}

//! The window that refuses packets seen before (RFC 4303 section 3.4.3), as a ring of words (RFC 6479).

/// Fewest packets that a window covers.
pub const MIN_WINDOW: u32 = 64;
/// Most packets that a window needs to cover: senders with many cores reorder no further.
pub const MAX_WINDOW: u32 = 4096;

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

    /// The 64-bit sequence number whose low half is `low`: the one that lies in the window, or else ahead of it
    /// (RFC 4303 appendix A2.2).
    pub fn expand(&self, low: u32) -> u64 {
        let (top_high, top_low) = ((self.top >> 32) as u32, self.top as u32);
        let bottom = (self.top as u32).wrapping_sub(self.size as u32 - 1);
        let spans_two = u64::from(top_low) < self.size - 1;
        let high = match (spans_two, low >= bottom) {
            (false, true) | (true, false) => top_high,
            (false, false) => top_high.wrapping_add(1),
            // Before the first window there is nothing.
            (true, true) => top_high.saturating_sub(1),
        };
        u64::from(high) << 32 | u64::from(low)
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

    proptest! {
        #[test]
        fn low_halves_stand_for_what_was_sent(
            size in 64u32..=4096,
            start in prop_oneof![0u64..10, 0xffff_ff00u64..0x1_0000_0100, 0x5_ffff_0000u64..0x6_0001_0000],
            steps in proptest::collection::vec((0u64..5000, 0u64..6000, any::<bool>()), 1..200),
        ) {
            let mut window = ReplayWindow::new(size);
            let mut naive = Naive { seen: BTreeSet::new(), size: u64::from(size).next_multiple_of(64) };
            let first = start.max(1);
            // A receiver counts from zero: let it follow to where the history begins.
            let stops = (0x7000_0000..first).step_by(0x7000_0000).chain([first]);
            for at in stops {
                prop_assert_eq!(window.expand(at as u32), at);
                prop_assert_eq!(window.mark(at), naive.mark(at));
            }
            let mut sent = first;
            for (ahead, behind, jump) in steps {
                sent += if jump { ahead + 0x4000_0000 } else { ahead };
                let at = sent.saturating_sub(behind % naive.size).max(1);
                let top = window.top();
                if at + naive.size > top {
                    prop_assert_eq!(window.expand(at as u32), at, "with {} on top", top);
                }
                let expanded = window.expand(at as u32);
                if expanded == at {
                    prop_assert_eq!(window.mark(expanded), naive.mark(at));
                }
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

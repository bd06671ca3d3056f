//! Whether the next packet comes so soon that sleeping until then is not worth it.

use std::time::{Duration, Instant};

/// Which way the last packet went before a thread had nothing to do.
#[derive(Clone, Copy)]
pub(super) enum Last {
    Inbound,
    Outbound,
}

/// How often it came true that a packet was soon followed by another, such as a request by its answer. Where it mostly
/// does, the thread that drives both directions keeps looking for a moment: then nobody has to wake it, which costs the
/// one who does as much time as the one who is woken.
pub(super) struct Answers {
    // By the direction of the packet before.
    scores: [u8; 2],
    // Time that may be spent on looking, and until when it is reckoned.
    credit: Duration,
    reckoned: Instant,
}

impl Answers {
    /// Soon is within this time.
    pub(super) const SOON: Duration = Duration::from_micros(80);
    const MOST: u8 = 16;
    const LIKELY: u8 = 8;
    const MISSED: u8 = 4;
    /// Looking takes at most this part of the time of a core.
    const PART: u32 = 8;
    const MOST_CREDIT: Duration = Duration::from_millis(1);

    pub(super) fn new(now: Instant) -> Self {
        Self {
            scores: [0; 2],
            credit: Duration::ZERO,
            reckoned: now,
        }
    }

    /// Whether to look for the next packet at `now`, up to [`Answers::SOON`], instead of going to sleep.
    pub(super) fn is_worth_looking(&mut self, last: Last, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.reckoned) / Self::PART;
        self.credit = (self.credit + earned).min(Self::MOST_CREDIT);
        self.reckoned = now;
        self.scores[last as usize] >= Self::LIKELY && self.credit >= Self::SOON
    }

    /// Takes note that a packet came after `waited`, of which `looked` went into looking for it.
    pub(super) fn note(&mut self, last: Last, waited: Duration, looked: Duration) {
        self.credit = self.credit.saturating_sub(looked);
        let score = &mut self.scores[last as usize];
        *score = if waited < Self::SOON {
            (*score + 1).min(Self::MOST)
        } else {
            score.saturating_sub(Self::MISSED)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits once at `now`, where the next packet comes after `answer`; tells whether it was worth looking.
    fn wait_once(answers: &mut Answers, last: Last, now: Instant, answer: Duration) -> bool {
        let looks = answers.is_worth_looking(last, now);
        let looked = if looks {
            answer.min(Answers::SOON)
        } else {
            Duration::ZERO
        };
        answers.note(last, answer, looked);
        looks
    }

    #[test]
    fn what_is_mostly_answered_soon_is_worth_looking_for_and_nothing_else() {
        let (soon, late) = (Answers::SOON / 2, Duration::from_millis(1));
        let mut now = Instant::now();
        let mut answers = Answers::new(now);
        let mut looked = [0; 2];
        for _ in 0..100 {
            // A request that is answered, and a pause until the next.
            looked[0] += u32::from(wait_once(&mut answers, Last::Outbound, now, soon));
            now += soon;
            looked[1] += u32::from(wait_once(&mut answers, Last::Inbound, now, late));
            now += late;
        }
        assert_eq!(looked, [100 - u32::from(Answers::LIKELY), 0]);
        // Answers that stay out end it at once or soon.
        let still = (0..100).filter(|_| {
            now += late;
            wait_once(&mut answers, Last::Outbound, now, late)
        });
        assert!(still.count() <= usize::from((Answers::MOST - Answers::LIKELY) / Answers::MISSED) + 1);
    }

    #[test]
    fn looking_takes_a_bounded_part_of_the_time() {
        let start = Instant::now();
        let mut answers = Answers::new(start);
        let answer = Answers::SOON / 2;
        let mut looked = Duration::ZERO;
        let mut now = start;
        while now < start + Duration::from_secs(1) {
            if wait_once(&mut answers, Last::Outbound, now, answer) {
                looked += answer;
            }
            now += answer;
        }
        assert!(looked > Duration::from_secs(1) / Answers::PART / 2, "{looked:?}");
        assert!(
            looked <= Duration::from_secs(1) / Answers::PART + Answers::MOST_CREDIT,
            "{looked:?}"
        );
    }
}

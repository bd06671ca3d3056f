//! Which Child SAs a connection should have (RFC 7296 section 2.9, RFC 9611), and what the peer has shown to accept.

use std::time::{Duration, Instant};

use isthmus_types::SelectorLayout;
use isthmus_wire::ike::NotifyType;

use crate::config::ConnectionConfig;
use crate::selector::{self, Selector, Traffic};

/// Most Child SAs in use for the same traffic.
pub(crate) const MAX_LANES: u8 = 16;
/// Pause before a range that was refused is asked for again while others are carried; it doubles up to 16 times that.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// A Child SA to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) traffic: Traffic,
    /// Which of several for the same traffic.
    pub(crate) lane: u8,
}

/// What a connection wants and what it learnt of its peer.
#[derive(Debug)]
pub(crate) struct Demand {
    whole: Traffic,
    /// Every pair of a local and a remote range of one family.
    pairs: Vec<Traffic>,
    layout: SelectorLayout,
    lanes: u8,
    /// The peer takes one pair at a time.
    pairwise: bool,
    /// The peer said that what it left out may be asked for (ADDITIONAL_TS_POSSIBLE).
    more_possible: bool,
    /// The peer knows Child SAs for the same traffic, and has not refused another one.
    peer_takes_lanes: bool,
    refused: Vec<RefusedPair>,
}

#[derive(Debug)]
struct RefusedPair {
    traffic: Traffic,
    failures: u32,
    ask_again: Instant,
}

impl Demand {
    pub(crate) fn new(config: &ConnectionConfig) -> Self {
        let whole = Traffic {
            local: selector::configured(&config.local_cidrs),
            remote: selector::configured(&config.peer_cidrs),
        };
        let pair = |local: &Selector, remote: &Selector| Traffic {
            local: vec![local.clone()],
            remote: vec![remote.clone()],
        };
        let pairs = whole
            .local
            .iter()
            .flat_map(|local| whole.remote.iter().map(move |remote| (local, remote)))
            .filter(|(local, remote)| local.start.is_ipv4() == remote.start.is_ipv4())
            .map(|(local, remote)| pair(local, remote))
            .collect();
        Self {
            whole,
            pairs,
            layout: config.options.selectors,
            lanes: config.options.parallel_child_sas.clamp(1, MAX_LANES),
            pairwise: false,
            more_possible: false,
            peer_takes_lanes: false,
            refused: Vec::new(),
        }
    }

    /// Takes a new configuration. What was learnt of the peer holds as long as the ranges do.
    pub(crate) fn configure(&mut self, config: &ConnectionConfig) {
        let mut new = Self::new(config);
        if new.whole == self.whole && new.layout == self.layout {
            new.pairwise = self.pairwise;
            new.more_possible = self.more_possible;
            new.refused = std::mem::take(&mut self.refused);
        }
        new.peer_takes_lanes = self.peer_takes_lanes;
        *self = new;
    }

    /// All that the configuration asks for.
    pub(crate) const fn whole(&self) -> &Traffic {
        &self.whole
    }

    /// A new IKE SA: what was refused may be asked for again.
    pub(crate) fn begin_anew(&mut self) {
        self.refused.clear();
    }

    /// The child that goes with IKE_AUTH.
    pub(crate) fn first(&self) -> Wanted {
        let traffic = match self.pairs.first() {
            Some(pair) if self.is_pairwise() => pair.clone(),
            Some(_) | None => self.whole.clone(),
        };
        Wanted { traffic, lane: 0 }
    }

    /// Finds ranges that no child carries although the peer could have asked for them, or accepted them, by now: they are
    /// asked for after a pause.
    pub(crate) fn note_missing<'a>(
        &mut self,
        in_use: impl Iterator<Item = &'a Traffic> + Clone,
        now: Instant,
    ) {
        if self.is_pairwise() || self.more_possible || in_use.clone().next().is_none() {
            return;
        }
        let missing: Vec<Traffic> = self
            .pairs
            .iter()
            .filter(|pair| !self.was_refused(pair) && !in_use.clone().any(|traffic| traffic.overlaps(pair)))
            .cloned()
            .collect();
        for pair in missing {
            self.postpone(&pair, now);
        }
    }

    /// The next child to ask for, given the traffic and lanes of those in use.
    pub(crate) fn next<'a>(
        &self,
        in_use: impl Iterator<Item = (&'a Traffic, u8)> + Clone,
        now: Instant,
    ) -> Option<Wanted> {
        if in_use.clone().next().is_none() && !self.is_pairwise() {
            return Some(self.first());
        }
        let missing = self
            .pairs
            .iter()
            .filter(|pair| self.is_pairwise() || self.more_possible || self.was_refused(pair))
            .filter(|pair| !in_use.clone().any(|(traffic, _)| traffic.overlaps(pair)))
            .find(|pair| self.may_ask_for(pair, now));
        if let Some(pair) = missing {
            return Some(Wanted {
                traffic: pair.clone(),
                lane: 0,
            });
        }
        if self.lanes == 1 || !self.peer_takes_lanes {
            return None;
        }
        // A child within a wider one is on its way out at one end or the other: it gets no company.
        let is_within_wider = |traffic: &Traffic| {
            in_use
                .clone()
                .any(|(other, _)| other != traffic && other.covers(traffic))
        };
        let widest = in_use.clone().filter(|(traffic, _)| !is_within_wider(traffic));
        widest.clone().find_map(|(traffic, _)| {
            let mut same = in_use.clone().filter(|(other, _)| *other == traffic);
            (same.clone().count() < usize::from(self.lanes))
                .then(|| (0..MAX_LANES).find(|lane| !same.any(|(_, taken)| taken == *lane)))
                .flatten()
                .map(|lane| Wanted {
                    traffic: traffic.clone(),
                    lane,
                })
        })
    }

    /// The next moment after `now` at which a range may be asked for again.
    pub(crate) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        self.refused
            .iter()
            .map(|refused| refused.ask_again)
            .filter(|at| *at > now)
            .min()
    }

    /// Whether requests say that several children for the same traffic are meant (SA_RESOURCE_INFO).
    pub(crate) const fn wants_lanes(&self) -> bool {
        self.lanes > 1
    }

    /// The peer said whether it knows several children for the same traffic.
    pub(crate) fn note_lanes(&mut self, known: bool) {
        self.peer_takes_lanes = known;
    }

    /// The peer accepted `answered` of `asked`.
    pub(crate) fn note_accepted(&mut self, asked: &Traffic, answered: &Traffic, more_possible: bool) {
        self.refused.retain(|refused| !asked.overlaps(&refused.traffic));
        let is_left_out = |pair: &Traffic| asked.overlaps(pair) && !answered.overlaps(pair);
        if !self.pairs.iter().any(is_left_out) {
            return;
        }
        self.more_possible |= more_possible;
        let single = answered.local.len() == 1 && answered.remote.len() == 1;
        if self.layout == SelectorLayout::Automatic && single {
            self.pairwise = true;
        }
    }

    /// The peer refused a child for `asked`. True if another way is tried at once, so that there is nothing to report.
    pub(crate) fn note_refused(
        &mut self,
        asked: &Traffic,
        lane: u8,
        notify: NotifyType,
        others_in_use: bool,
        now: Instant,
    ) -> bool {
        if lane > 0 {
            self.peer_takes_lanes = false;
            return true;
        }
        let about_selectors = matches!(
            notify,
            NotifyType::SINGLE_PAIR_REQUIRED | NotifyType::TS_UNACCEPTABLE
        );
        let several = asked.local.len() > 1 || asked.remote.len() > 1;
        if several {
            if about_selectors && self.layout == SelectorLayout::Automatic && self.pairs.len() > 1 {
                self.pairwise = true;
                return true;
            }
            return false;
        }
        if !self.is_pairwise() && !self.more_possible && !self.was_refused(asked) {
            return false;
        }
        self.postpone(asked, now);
        if !others_in_use && self.refused.len() == self.pairs.len() {
            // No pair goes by itself: all together may yet.
            self.refused.clear();
            self.pairwise = false;
            return false;
        }
        // The next pair, without a pause.
        self.refused.len() < self.pairs.len() && !others_in_use
    }

    fn postpone(&mut self, pair: &Traffic, now: Instant) {
        let place = match self.refused.iter().position(|refused| refused.traffic == *pair) {
            Some(place) => place,
            None => {
                self.refused.push(RefusedPair {
                    traffic: pair.clone(),
                    failures: 0,
                    ask_again: now,
                });
                self.refused.len() - 1
            }
        };
        if let Some(refused) = self.refused.get_mut(place) {
            refused.ask_again = now + REFUSED_PAUSE * (1 << refused.failures.min(4));
            refused.failures += 1;
        }
    }

    fn is_pairwise(&self) -> bool {
        match self.layout {
            SelectorLayout::Automatic => self.pairwise,
            SelectorLayout::PerPair => true,
            SelectorLayout::Together => false,
        }
    }

    fn was_refused(&self, pair: &Traffic) -> bool {
        self.refused.iter().any(|refused| refused.traffic == *pair)
    }

    fn may_ask_for(&self, pair: &Traffic, now: Instant) -> bool {
        !self
            .refused
            .iter()
            .any(|refused| refused.traffic == *pair && refused.ask_again > now)
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::Cidr;

    use super::*;

    fn demand(layout: SelectorLayout, lanes: u8) -> Demand {
        let cidr = |text: &str| Selector::of(text.parse::<Cidr>().unwrap());
        let whole = Traffic {
            local: vec![cidr("10.1.0.0/24"), cidr("10.1.1.0/24")],
            remote: vec![cidr("10.2.0.0/24")],
        };
        let pairs = whole
            .local
            .iter()
            .map(|local| Traffic {
                local: vec![local.clone()],
                remote: whole.remote.clone(),
            })
            .collect();
        Demand {
            whole,
            pairs,
            layout,
            lanes,
            pairwise: false,
            more_possible: false,
            peer_takes_lanes: false,
            refused: Vec::new(),
        }
    }

    fn wanted(demand: &Demand, in_use: &[(&Traffic, u8)], now: Instant) -> Option<String> {
        let wanted = demand.next(in_use.iter().copied(), now)?;
        Some(format!("{} {}", wanted.traffic, wanted.lane))
    }

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        Instant::now()
    }

    const WHOLE: &str = "10.1.0.0/24, 10.1.1.0/24 === 10.2.0.0/24 0";
    const FIRST: &str = "10.1.0.0/24 === 10.2.0.0/24 0";
    const SECOND: &str = "10.1.1.0/24 === 10.2.0.0/24 0";

    #[test]
    fn a_peer_that_takes_single_pairs_is_asked_for_one_after_the_other() {
        for notify in [NotifyType::SINGLE_PAIR_REQUIRED, NotifyType::TS_UNACCEPTABLE] {
            let (mut demand, now) = (demand(SelectorLayout::Automatic, 1), start());
            assert_eq!(wanted(&demand, &[], now).unwrap(), WHOLE);
            let whole = demand.whole.clone();
            assert!(demand.note_refused(&whole, 0, notify, false, now));
            assert_eq!(wanted(&demand, &[], now).unwrap(), FIRST);
            let first = demand.pairs[0].clone();
            demand.note_accepted(&first, &first, false);
            assert_eq!(wanted(&demand, &[(&first, 0)], now).unwrap(), SECOND);
            // Remembered by the next IKE SA.
            demand.begin_anew();
            assert_eq!(demand.first().traffic, first);
        }
    }

    #[test]
    fn an_answer_with_a_single_pair_leads_to_the_others_and_together_means_together() {
        for (layout, expected) in [
            (SelectorLayout::Automatic, Some(SECOND.to_owned())),
            (SelectorLayout::Together, None),
        ] {
            let (mut demand, now) = (demand(layout, 1), start());
            let (whole, first) = (demand.whole.clone(), demand.pairs[0].clone());
            demand.note_accepted(&whole, &first, false);
            assert_eq!(wanted(&demand, &[(&first, 0)], now), expected);
            demand.note_missing([&first].into_iter(), now);
            // What was left out is asked for again after a time.
            let later = now + Duration::from_secs(31);
            assert_eq!(wanted(&demand, &[(&first, 0)], later).unwrap(), SECOND);
        }
    }

    #[test]
    fn a_pair_that_is_refused_is_asked_for_less_and_less_and_the_others_stay() {
        let (mut demand, now) = (demand(SelectorLayout::PerPair, 1), start());
        let (first, second) = (demand.pairs[0].clone(), demand.pairs[1].clone());
        let notify = NotifyType::TS_UNACCEPTABLE;
        assert!(!demand.note_refused(&second, 0, notify, true, now));
        assert_eq!(wanted(&demand, &[(&first, 0)], now), None);
        let later = now + Duration::from_secs(31);
        assert_eq!(wanted(&demand, &[(&first, 0)], later).unwrap(), SECOND);
        demand.note_refused(&second, 0, notify, true, later);
        let later_still = later + Duration::from_secs(31);
        assert_eq!(wanted(&demand, &[(&first, 0)], later_still), None);
    }

    #[test]
    fn lanes_are_filled_until_the_peer_refuses_one() {
        let (mut demand, now) = (demand(SelectorLayout::Together, 3), start());
        let whole = demand.whole.clone();
        assert_eq!(wanted(&demand, &[(&whole, 0)], now), None, "the peer knows none");
        demand.note_lanes(true);
        let in_use = [(&whole, 0), (&whole, 2)];
        assert!(wanted(&demand, &in_use, now).unwrap().ends_with(" 1"));
        assert!(demand.note_refused(&whole, 1, NotifyType::TS_MAX_QUEUE, true, now));
        assert_eq!(wanted(&demand, &in_use, now), None);
    }

    #[test]
    fn a_child_within_a_wider_one_gets_no_others_beside_it() {
        let (mut demand, now) = (demand(SelectorLayout::Automatic, 2), start());
        let (whole, first) = (demand.whole.clone(), demand.pairs[0].clone());
        demand.note_lanes(true);
        let in_use = [(&first, 0), (&whole, 0), (&whole, 1)];
        assert_eq!(wanted(&demand, &in_use, now), None);
        assert!(wanted(&demand, &in_use[..2], now).unwrap().ends_with(" 1"));
    }
}

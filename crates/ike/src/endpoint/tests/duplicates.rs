//! Two Child SAs for the same traffic, of which the peer, which knows no rule for that, would keep both.

use super::*;
use crate::child::ChildPhase;
use crate::demand::Wanted;
use crate::event::ChildId;

/// Inbound SPIs of the children that nothing was decided against.
fn in_use(endpoint: &mut Endpoint) -> Vec<ChildId> {
    let children = &only_established(endpoint).children;
    let in_use = children.iter().filter(|child| child.is_in_use());
    in_use.map(|child| child.id).collect()
}

/// The right end asks for a second child for the same traffic, which it counts to another lane without saying so: it sees no
/// duplicate. Which child has the lower nonce follows from `seed`.
fn with_second_child(seed: u8) -> Ends {
    let mut ends = Ends::seeded([seed, 2]);
    ends.bring_up();
    let lane_one = only_established(&mut ends.right);
    let traffic = lane_one.children[0].traffic.clone();
    lane_one.children[0].lane = 1;
    let sa = only_sa(&mut ends.right).id;
    ends.right.with_established(sa, ends.now, |established| {
        established.wants.child = Some(Wanted { traffic, lane: 0 });
    });
    ends.exchange();
    assert_eq!(only_established(&mut ends.right).children.len(), 2);
    ends
}

#[test]
fn of_two_children_that_a_peer_would_keep_one_goes_whichever_end_made_it() {
    let mut survivors = [0, 0];
    for seed in 0..8 {
        let mut ends = with_second_child(seed);
        let first = only_established(&mut ends.left).children[0].id;
        ends.pass(Duration::from_secs(20));
        let left = in_use(&mut ends.left);
        assert_eq!(left.len(), 1, "seed {seed}");
        assert_eq!(only_established(&mut ends.left).children.len(), 1, "seed {seed}");
        assert_eq!(only_established(&mut ends.right).children.len(), 1, "seed {seed}");
        survivors[usize::from(left[0] == first)] += 1;
    }
    assert!(survivors.iter().all(|count| *count > 0), "{survivors:?}");
}

#[test]
fn a_redundant_child_is_deleted_only_when_the_other_one_has_had_time_to_come_into_use() {
    for seed in 0..8 {
        let mut ends = with_second_child(seed);
        let both = |ends: &mut Ends| {
            let children = &only_established(&mut ends.left).children;
            let stays = |child: &&crate::child::Child| {
                !matches!(child.phase, ChildPhase::Condemned | ChildPhase::Deleting)
            };
            children.iter().filter(stays).count() == 2
        };
        assert!(both(&mut ends), "seed {seed}: at once");
        ends.pass(Duration::from_secs(3));
        assert!(both(&mut ends), "seed {seed}: after a while");
    }
}

#[test]
fn a_second_child_that_the_peer_makes_long_after_the_first_takes_its_place() {
    for seed in 0..8 {
        let mut ends = Ends::seeded([seed, 2]);
        ends.bring_up();
        ends.pass(Duration::from_secs(60));
        let first = only_established(&mut ends.left).children[0].id;
        let lane_one = only_established(&mut ends.right);
        let traffic = lane_one.children[0].traffic.clone();
        lane_one.children[0].lane = 1;
        let sa = only_sa(&mut ends.right).id;
        ends.right.with_established(sa, ends.now, |established| {
            established.wants.child = Some(Wanted { traffic, lane: 0 });
        });
        ends.exchange();
        ends.pass(Duration::from_secs(20));
        let left = in_use(&mut ends.left);
        assert!(left.len() == 1 && left[0] != first, "seed {seed}: {left:?}");
    }
}

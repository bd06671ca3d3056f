//! Several Child SAs for the same traffic: no lane is without one that sends while they are replaced.

use std::collections::BTreeMap;

use super::*;
use crate::event::{ChildId, OutboundUse};

const LANES: u8 = 3;

/// Who sends in each lane, as the events say.
#[derive(Default)]
struct Senders {
    lanes: BTreeMap<ChildId, u8>,
    sending: Vec<ChildId>,
    begun: usize,
}

impl Senders {
    /// Follows what happened at an end. Once all lanes are filled none may be empty between two events.
    fn follow(&mut self, endpoint: &mut Endpoint) {
        while let Some(event) = endpoint.poll_event() {
            match event {
                Event::ChildInstalled(child) => {
                    self.lanes.insert(child.child, child.lane);
                    if child.outbound_use == OutboundUse::Now {
                        self.begin(child.child);
                    }
                }
                Event::ChildOutboundReady { child, .. } => self.begin(child),
                Event::ChildRetired { child, .. } | Event::ChildRemoved { child, .. } => {
                    self.sending.retain(|other| *other != child);
                }
                Event::IkeKeysAgreed(_)
                | Event::ConnectionStateChanged { .. }
                | Event::PeerMoved { .. }
                | Event::ResolvePeer { .. }
                | Event::SpiClosed { .. }
                | Event::SpiOpened { .. } => {}
            }
            if self.begun >= LANES.into() {
                for lane in 0..LANES {
                    let count = self
                        .sending
                        .iter()
                        .filter(|child| self.lanes[child] == lane)
                        .count();
                    assert!(count > 0, "nobody sends in lane {lane}");
                }
            }
        }
    }

    fn begin(&mut self, child: ChildId) {
        self.sending.push(child);
        self.begun += 1;
    }
}

#[test]
fn no_lane_is_without_a_sender_while_its_child_is_replaced_from_either_end() {
    let mut ends = Ends::new();
    let [mut left, mut right] = [config(LEFT), config(RIGHT)];
    for config in [&mut left, &mut right] {
        config.options.parallel_child_sas = LANES;
    }
    ends.right.upsert_connection(right, ends.now);
    ends.left.upsert_connection(left, ends.now);
    ends.exchange();
    let mut senders = [Senders::default(), Senders::default()];
    for round in 0..6 {
        // What waits for the peer's next request may send after a while.
        ends.pass(Duration::from_secs(3));
        senders[0].follow(&mut ends.left);
        senders[1].follow(&mut ends.right);
        let initiator = if round % 2 == 0 {
            &mut ends.left
        } else {
            &mut ends.right
        };
        let children: Vec<ChildId> = only_established(initiator)
            .children
            .iter()
            .map(|child| child.id)
            .collect();
        assert_eq!(children.len(), usize::from(LANES));
        for child in children {
            initiator.rekey_child(child, ends.now);
        }
        ends.exchange();
        senders[0].follow(&mut ends.left);
        senders[1].follow(&mut ends.right);
    }
    assert!(senders.iter().all(|end| end.begun >= 6 * usize::from(LANES)));
}

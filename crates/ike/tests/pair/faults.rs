use std::time::Duration;

use isthmus_simnet::{Link, Pair, Side};

use crate::{LONG, connect_with};

/// Everything at once on a bad network; then the network heals and the ends must come to rest.
#[test]
fn the_ends_agree_again_after_any_faults() {
    for seed in 0..150 {
        let mut pair = Pair::new(seed, Link::hostile());
        connect_with(&mut pair, |_, config| {
            config.ike_lifetime_seconds = 40;
            config.esp_lifetime_seconds = 15;
        });
        pair.set_traffic(true);
        pair.run_for(Duration::from_secs(180));
        pair.link = Link::clean();
        pair.run_for(Duration::from_secs(60));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}; left {:?}, right {:?}",
            pair.discord(),
            pair.peer(Side::Left).endpoint.status(Side::Left.connection()),
            pair.peer(Side::Right).endpoint.status(Side::Right.connection()),
        );
        let received = pair.peer(Side::Left).received;
        pair.run_for(Duration::from_secs(1));
        assert!(
            pair.peer(Side::Left).received > received,
            "seed {seed}: no traffic"
        );
    }
}

#[test]
fn simultaneous_rekeys_under_faults_leave_one_of_each() {
    for seed in 0..150 {
        let mut pair = crate::settled(seed, Link::clean());
        pair.link = Link::hostile();
        for _ in 0..4 {
            for side in [Side::Left, Side::Right] {
                let child = pair.peer(side).sending_child().map(|child| child.sa.child);
                pair.act(side, |endpoint, now| {
                    if seed % 3 != 0
                        && let Some(child) = child
                    {
                        endpoint.rekey_child(child, now);
                    }
                    if seed % 3 != 1 {
                        endpoint.rekey_ike(side.connection(), now);
                    }
                });
            }
            pair.run_for(Duration::from_secs(5));
        }
        pair.link = Link::clean();
        pair.run_for(Duration::from_secs(60));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
    }
}

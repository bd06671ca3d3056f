use std::time::Duration;

use isthmus_ike::{ConnectionConfig, IkeIdentity};
use isthmus_simnet::{Link, Pair, Side};
use isthmus_types::DhGroup;

use crate::{LONG, REST, connect_with, lost};

/// Identities and public values so long that IKE_AUTH and CREATE_CHILD_SA need fragments both ways.
fn long_messages(side: Side, config: &mut ConnectionConfig) {
    let name = |side: Side| IkeIdentity::Fqdn(format!("{side:?}").repeat(200));
    config.local_identity = name(side);
    config.peer_identity = name(side.other());
    config.ike_proposals[0].dh = vec![DhGroup::Modp2048];
    config.esp_proposals[0].pfs = vec![DhGroup::Modp4096];
    config.options.fragment_size = 576;
}

fn up(seed: u64, link: Link) -> Pair {
    let mut pair = Pair::new(seed, link);
    connect_with(&mut pair, long_messages);
    assert!(
        pair.run_until(LONG, Pair::is_settled),
        "seed {seed}: {:?}",
        pair.discord()
    );
    pair
}

#[test]
fn long_messages_go_in_fragments_where_both_ends_take_them() {
    let fragmented = up(1, Link::clean()).sent;
    for without in [Side::Left, Side::Right] {
        let mut pair = Pair::new(1, Link::clean());
        connect_with(&mut pair, |side, config| {
            long_messages(side, config);
            if side == without {
                config.options.fragment_size = 0;
            }
        });
        assert!(pair.run_until(LONG, Pair::is_settled), "{:?}", pair.discord());
        assert!(pair.sent + 4 <= fragmented, "{} and {fragmented}", pair.sent);
    }
}

#[test]
fn the_loss_of_any_one_fragment_is_overcome() {
    let all = up(1, Link::clean()).sent;
    for number in 0..all {
        let pair = up(1, Link::losing(number));
        assert!(pair.sent > 0, "without {number}");
    }
}

#[test]
fn rekeys_in_fragments_survive_the_loss_of_each_and_lose_no_packet() {
    for ike in [false, true] {
        for number in 0..18 {
            let mut pair = up(number, Link::clean());
            pair.set_traffic(true);
            pair.run_for(Duration::from_secs(1));
            pair.link.lose_number = Some(pair.sent + usize::try_from(number).unwrap());
            let child = pair.peer(Side::Left).sending_child().unwrap().sa.child;
            pair.act(Side::Left, |endpoint, now| {
                if ike {
                    endpoint.rekey_ike(Side::Left.connection(), now);
                } else {
                    endpoint.rekey_child(child, now);
                }
            });
            pair.run_for(REST);
            assert!(
                pair.run_until(LONG, Pair::is_settled),
                "without {number}: {:?}",
                pair.discord()
            );
            assert_eq!(lost(&pair), 0, "without {number}");
        }
    }
}

#[test]
fn fragments_that_are_lost_doubled_and_reordered_do_no_harm() {
    for seed in 0..40 {
        let mut pair = Pair::new(seed, Link::hostile());
        connect_with(&mut pair, |side, config| {
            long_messages(side, config);
            config.esp_lifetime_seconds = 20;
        });
        pair.run_for(Duration::from_secs(90));
        pair.link = Link::clean();
        pair.run_for(Duration::from_secs(60));
        assert!(
            pair.run_until(LONG, Pair::is_settled),
            "seed {seed}: {:?}",
            pair.discord()
        );
    }
}

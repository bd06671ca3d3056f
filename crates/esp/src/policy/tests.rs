use super::*;
use crate::selector::TrafficRange;

const FIRST: ConnectionHandle = ConnectionHandle(7);
const SECOND: ConnectionHandle = ConnectionHandle(8);

fn policy(local: &str, remote: &str) -> Policy {
    Policy {
        local: local.parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

fn selectors(local: &str, remote: &str) -> Selectors {
    Selectors {
        local: vec![TrafficRange::from_cidr(local.parse().unwrap())],
        remote: vec![TrafficRange::from_cidr(remote.parse().unwrap())],
    }
}

fn route(database: &OutboundDatabase<u32>, source: [u8; 4], destination: [u8; 4]) -> Verdict {
    let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend([0, 1, 0, 2, 0, 8, 0, 0]);
    database.route(&IpHeader::decode(&packet).unwrap(), &packet)
}

fn sealing_sa(database: &mut OutboundDatabase<u32>, source: [u8; 4], destination: [u8; 4]) -> u32 {
    let Verdict::Seal(handle) = route(database, source, destination) else {
        panic!("not sealed");
    };
    *database.sa(handle).unwrap().1
}

#[test]
fn the_longest_prefix_wins_and_nothing_passes_without_a_policy() {
    let mut database = OutboundDatabase::new();
    let none = Verdict::Drop(DropReason::NoPolicy, None);
    assert_eq!(route(&database, [10, 1, 0, 1], [10, 2, 0, 1]), none);
    database.set_connection(FIRST, &[policy("10.1.0.0/16", "0.0.0.0/0")], Admission::Open);
    database.set_connection(SECOND, &[policy("10.1.0.0/16", "10.2.0.0/16")], Admission::Open);
    assert_eq!(
        route(&database, [10, 1, 0, 1], [10, 2, 0, 1]),
        Verdict::Acquire(SECOND)
    );
    assert_eq!(
        route(&database, [10, 1, 0, 1], [10, 3, 0, 1]),
        Verdict::Acquire(FIRST)
    );
    assert_eq!(route(&database, [10, 9, 0, 1], [10, 2, 0, 1]), none);
    database.remove_connection(FIRST);
    assert_eq!(route(&database, [10, 1, 0, 1], [10, 3, 0, 1]), none);
    assert_eq!(
        route(&database, [10, 1, 0, 1], [10, 2, 0, 1]),
        Verdict::Acquire(SECOND)
    );
}

#[test]
fn a_connection_that_is_shut_drops_even_with_an_sa() {
    let mut database = OutboundDatabase::new();
    let policies = [policy("10.1.0.0/16", "10.2.0.0/16")];
    database.set_connection(FIRST, &policies, Admission::Open);
    database.insert_sa(FIRST, 0, selectors("10.1.0.0/16", "10.2.0.0/16"), 1);
    assert_eq!(sealing_sa(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 1);
    database.set_connection(FIRST, &policies, Admission::Shut);
    assert_eq!(
        route(&database, [10, 1, 0, 1], [10, 2, 0, 1]),
        Verdict::Drop(DropReason::AdminDown, Some(FIRST))
    );
}

#[test]
fn the_newest_sa_whose_selectors_fit_takes_the_packet() {
    let mut database = OutboundDatabase::new();
    database.set_connection(FIRST, &[policy("10.1.0.0/16", "10.2.0.0/16")], Admission::Open);
    database.insert_sa(FIRST, 0, selectors("10.1.0.0/24", "10.2.0.0/16"), 1);
    database.insert_sa(FIRST, 0, selectors("10.1.0.0/24", "10.2.0.0/16"), 2);
    database.insert_sa(FIRST, 0, selectors("10.1.1.0/24", "10.2.0.0/16"), 3);
    assert_eq!(sealing_sa(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 2);
    assert_eq!(sealing_sa(&mut database, [10, 1, 1, 1], [10, 2, 0, 1]), 3);
    assert_eq!(
        route(&database, [10, 1, 2, 1], [10, 2, 0, 1]),
        Verdict::Acquire(FIRST)
    );
    assert_eq!(database.remove_sa(FIRST, |sa| *sa == 2), Some(2));
    assert_eq!(sealing_sa(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 1);
    assert_eq!(database.contexts(FIRST).count(), 2);
}

#[test]
fn an_icmp_error_follows_the_flow_that_it_is_about() {
    let mut database: OutboundDatabase<u32> = OutboundDatabase::new();
    database.set_connection(FIRST, &[policy("10.1.0.0/16", "10.2.0.0/16")], Admission::Open);
    let mut packet = vec![0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 192, 0, 2, 1, 10, 2, 0, 1];
    packet.extend([11, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend([
        0x45, 0, 0, 99, 0, 1, 0, 0, 64, 17, 0, 0, 10, 2, 0, 1, 10, 1, 0, 1, 0, 1, 0, 2, 0, 8, 0, 0,
    ]);
    let header = IpHeader::decode(&packet).unwrap();
    assert_eq!(database.route(&header, &packet), Verdict::Acquire(FIRST));
}

#[test]
fn sas_for_different_ranges_are_in_use_side_by_side_and_each_is_replaced_on_its_own() {
    let mut database = OutboundDatabase::new();
    let policies = [
        policy("10.1.0.0/16", "10.2.0.0/16"),
        policy("10.1.0.0/16", "10.3.0.0/16"),
    ];
    database.set_connection(FIRST, &policies, Admission::Open);
    database.insert_sa(FIRST, 0, selectors("10.1.0.0/16", "10.2.0.0/16"), 1);
    assert_eq!(
        route(&database, [10, 1, 0, 1], [10, 3, 0, 1]),
        Verdict::Acquire(FIRST)
    );
    database.insert_sa(FIRST, 0, selectors("10.1.0.0/16", "10.3.0.0/16"), 2);
    database.insert_sa(FIRST, 0, selectors("10.1.0.0/16", "10.2.0.0/16"), 3);
    assert_eq!(sealing_sa(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 3);
    assert_eq!(sealing_sa(&mut database, [10, 1, 0, 1], [10, 3, 0, 1]), 2);
    database.remove_sa(FIRST, |sa| *sa == 1);
    assert_eq!(sealing_sa(&mut database, [10, 1, 0, 1], [10, 3, 0, 1]), 2);
}

/// Which SA takes each of many flows between two networks.
fn spread(database: &mut OutboundDatabase<u32>) -> Vec<u32> {
    (0..=255u8)
        .map(|host| sealing_sa(database, [10, 1, host / 16, 1], [10, 2, 0, host % 16]))
        .collect()
}

#[test]
fn flows_are_spread_over_lanes_and_move_only_with_their_own() {
    let mut database = OutboundDatabase::new();
    database.set_connection(FIRST, &[policy("10.1.0.0/16", "10.2.0.0/16")], Admission::Open);
    let insert = |database: &mut OutboundDatabase<u32>, lane: u8, sa: u32| {
        database.insert_sa(FIRST, lane, selectors("10.1.0.0/16", "10.2.0.0/16"), sa);
    };
    for lane in 0..4 {
        insert(&mut database, lane, u32::from(lane));
    }
    let before = spread(&mut database);
    for sa in 0..4 {
        let share = before.iter().filter(|taken| **taken == sa).count();
        assert!((32..=96).contains(&share), "{share} of 256 flows on {sa}");
    }
    assert_eq!(before, spread(&mut database), "a flow changed its SA");

    // A replacement takes over exactly the flows of the one before.
    insert(&mut database, 2, 12);
    let replaced = spread(&mut database);
    for (before, after) in before.iter().zip(&replaced) {
        assert_eq!(*after, if *before == 2 { 12 } else { *before });
    }
    database.remove_sa(FIRST, |sa| *sa == 2);
    assert_eq!(replaced, spread(&mut database));

    database.remove_sa(FIRST, |sa| *sa == 3);
    for (before, after) in replaced.iter().zip(spread(&mut database)) {
        assert!(*before == 3 || *before == after, "{before} became {after}");
        assert_ne!(after, 3);
    }
}

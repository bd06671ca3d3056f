use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_types::Encryption;
use zeroize::Zeroizing;

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

fn sa(spi: u32) -> OutboundSa {
    let suite = CipherSuite::new(Encryption::Aes128Gcm16, None).unwrap();
    let keys = KeyMaterial::new(Zeroizing::new(vec![0; 20]), Zeroizing::new(vec![]));
    OutboundSa::new(spi, suite, &keys).unwrap()
}

fn selectors(local: &str, remote: &str) -> Selectors {
    Selectors {
        local: vec![TrafficRange::from_cidr(local.parse().unwrap())],
        remote: vec![TrafficRange::from_cidr(remote.parse().unwrap())],
    }
}

fn route(database: &OutboundDatabase<&str>, source: [u8; 4], destination: [u8; 4]) -> Verdict {
    let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend([0, 1, 0, 2, 0, 8, 0, 0]);
    database.route(&IpHeader::decode(&packet).unwrap(), &packet)
}

fn sealing_spi(database: &mut OutboundDatabase<&str>, source: [u8; 4], destination: [u8; 4]) -> u32 {
    let Verdict::Seal(handle) = route(database, source, destination) else {
        panic!("not sealed");
    };
    database.sa(handle).unwrap().1.spi()
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
    database.insert_sa(FIRST, sa(1), selectors("10.1.0.0/16", "10.2.0.0/16"), "one");
    assert_eq!(sealing_spi(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 1);
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
    database.insert_sa(FIRST, sa(1), selectors("10.1.0.0/24", "10.2.0.0/16"), "old");
    database.insert_sa(FIRST, sa(2), selectors("10.1.0.0/24", "10.2.0.0/16"), "new");
    database.insert_sa(FIRST, sa(3), selectors("10.1.1.0/24", "10.2.0.0/16"), "other");
    assert_eq!(sealing_spi(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 2);
    assert_eq!(sealing_spi(&mut database, [10, 1, 1, 1], [10, 2, 0, 1]), 3);
    assert_eq!(
        route(&database, [10, 1, 2, 1], [10, 2, 0, 1]),
        Verdict::Acquire(FIRST)
    );
    assert_eq!(database.remove_sa(FIRST, |sa, _| sa.spi() == 2), Some("new"));
    assert_eq!(sealing_spi(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 1);
    assert_eq!(database.contexts(FIRST).count(), 2);
}

#[test]
fn an_icmp_error_follows_the_flow_that_it_is_about() {
    let mut database: OutboundDatabase<&str> = OutboundDatabase::new();
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
    database.insert_sa(FIRST, sa(1), selectors("10.1.0.0/16", "10.2.0.0/16"), "one");
    assert_eq!(
        route(&database, [10, 1, 0, 1], [10, 3, 0, 1]),
        Verdict::Acquire(FIRST)
    );
    database.insert_sa(FIRST, sa(2), selectors("10.1.0.0/16", "10.3.0.0/16"), "two");
    database.insert_sa(FIRST, sa(3), selectors("10.1.0.0/16", "10.2.0.0/16"), "three");
    assert_eq!(sealing_spi(&mut database, [10, 1, 0, 1], [10, 2, 0, 1]), 3);
    assert_eq!(sealing_spi(&mut database, [10, 1, 0, 1], [10, 3, 0, 1]), 2);
    database.remove_sa(FIRST, |_, context| *context == "one");
    assert_eq!(sealing_spi(&mut database, [10, 1, 0, 1], [10, 3, 0, 1]), 2);
}

use isthmus_hostplan::diagnosis::{ChildSaReport, FindingReport, FindingSeverity};
use isthmus_hostplan::{AgentCounters, HostReport};
use isthmus_types::{AccountId, ResourceBits, Timestamp};

use super::world::*;
use crate::desk::Desk;

const NOW: Timestamp = Timestamp(10_000);

/// A connection on a gateway, and what the host says of both.
fn lab() -> (World, Desk, HostReport) {
    let mut world = World::new();
    let (_, subnet) = world.vpc(1);
    let gateway = gateway_of(world.apply(create_gateway(subnet)));
    world.apply(create_connection(gateway, 1, 1));
    let (mut desk, unfit) = Desk::new(&world.snapshot);
    assert!(unfit.is_empty());
    let mut host = FakeHost::new();
    if let Some(delta) = desk.delta(host.generation(), NOW) {
        host.take(delta);
    }
    let mut report = host.report();
    let connection = &mut report.connections[0];
    connection.bytes_in = 1_000;
    connection.packets_out = 7;
    connection.drops = vec![("replayed".to_owned(), 3)];
    connection.totals = [
        ("child_installed", 5),
        ("child_replaced", 4),
        ("ike_established", 2),
    ]
    .map(|(word, count)| (word.to_owned(), count))
    .into();
    let child = ChildSaReport {
        inbound_spi: 1,
        outbound_spi: 2,
        suite: String::new(),
        local: vec!["10.1.0.0/24".to_owned()],
        remote: vec!["172.16.1.0/24".to_owned()],
        installed_at: NOW,
        rekey_at: None,
        expires_at: NOW,
        traffic: Default::default(),
    };
    connection.diagnosis.children = vec![child.clone(), child];
    connection.diagnosis.findings = vec![FindingReport {
        code: "lifetime_skew".to_owned(),
        severity: FindingSeverity::Warning,
        field: "ike.lifetime".to_owned(),
        suspects: Vec::new(),
        sentence: "the peer said \"hush\"".to_owned(),
        fix: String::new(),
        ours: String::new(),
        theirs: String::new(),
        first_at: NOW,
        last_at: NOW,
        times: 9,
    }];
    let gateway = &mut report.gateways[0].counters;
    gateway.strangers_refused = 11;
    gateway.half_open = 2;
    let mut agent = AgentCounters::default();
    for micros in [500, 900, 40_000, 60_000_000] {
        agent.passes.add(micros);
    }
    agent.failed_passes = 1;
    report.agent = agent;
    (world, desk, report)
}

/// The value of the series whose line begins with `start` and ends its labels with `end`.
fn value(text: &str, start: &str, end: &str) -> f64 {
    let found: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(start))
        .filter_map(|line| line.strip_prefix(start)?.split_once(end))
        .map(|(_, value)| value)
        .collect();
    let [value] = found[..] else {
        panic!("{start}…{end}: {found:?} in\n{text}")
    };
    value.trim().parse().unwrap()
}

#[test]
fn what_hosts_report_is_shown_under_conventional_names() {
    let (world, mut desk, report) = lab();
    let before = desk.metrics(&world.snapshot, account(), true, NOW).unwrap();
    assert_eq!(value(&before, "isthmus_connection_up{", "}"), 0.0);
    desk.hear(report, NOW);
    let later = Timestamp(NOW.0 + 2_500);
    let text = desk.metrics(&world.snapshot, account(), true, later).unwrap();
    for (start, end, expected) in [
        ("isthmus_connection_up{", "}", 1.0),
        ("isthmus_connection_admin_up{", "}", 1.0),
        ("isthmus_connection_ike_sa_up{", "}", 0.0),
        ("isthmus_connection_child_sas{", "remote=\"172.16.1.0/24\"}", 2.0),
        ("isthmus_connection_received_bytes_total{", "}", 1_000.0),
        ("isthmus_connection_sent_packets_total{", "}", 7.0),
        (
            "isthmus_connection_dropped_packets_total{",
            "reason=\"replayed\"}",
            3.0,
        ),
        ("isthmus_connection_handshakes_total{", "}", 2.0),
        ("isthmus_connection_rekeys_total{", "sa=\"child\"}", 4.0),
        ("isthmus_connection_rekeys_total{", "sa=\"ike\"}", 0.0),
        (
            "isthmus_connection_events_total{",
            "event=\"child_installed\"}",
            5.0,
        ),
        (
            "isthmus_connection_finding{",
            "code=\"lifetime_skew\",field=\"ike.lifetime\",severity=\"warning\"}",
            1.0,
        ),
        ("isthmus_gateway_up{", "}", 1.0),
        ("isthmus_gateway_key_log{", "}", 0.0),
        ("isthmus_gateway_half_open_handshakes{", "}", 2.0),
        (
            "isthmus_gateway_stranger_messages_total{",
            "verdict=\"refused\"}",
            11.0,
        ),
        ("isthmus_agent_failed_passes_total", "", 1.0),
        ("isthmus_agent_silence_seconds", "", 2.5),
        ("isthmus_agent_pass_duration_seconds_count", "", 4.0),
        (
            "isthmus_agent_pass_duration_seconds_bucket{",
            "le=\"0.001\"}",
            2.0,
        ),
        ("isthmus_agent_pass_duration_seconds_bucket{", "le=\"0.05\"}", 3.0),
        ("isthmus_agent_pass_duration_seconds_bucket{", "le=\"30.0\"}", 3.0),
        ("isthmus_agent_pass_duration_seconds_bucket{", "le=\"+Inf\"}", 4.0),
        ("isthmus_store_revision", "", 6.0),
    ] {
        assert_eq!(value(&text, start, end), expected, "{start}…{end} in\n{text}");
    }
    assert!(!text.contains("hush"), "what a peer said is no label");
    assert!(text.ends_with("# EOF\n"));
    let announced: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert!(
        announced.iter().all(|line| line.contains(" isthmus_")),
        "{announced:?}"
    );
}

#[test]
fn an_account_sees_its_own_connections_and_not_the_installation() {
    let (world, mut desk, report) = lab();
    desk.hear(report, NOW);
    let other = AccountId(ResourceBits::from_random(99));
    let text = desk.metrics(&world.snapshot, other, false, NOW).unwrap();
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(series, Vec::<&str>::new());
}

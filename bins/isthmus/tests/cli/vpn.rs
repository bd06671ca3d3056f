//! `vpn doctor`, `vpn peer-config`, `vpn connection options` and `vpn gateway key-log`.

use isthmus_hostplan::diagnosis::{
    ChildSaReport, EventReport, FindingReport, FindingSeverity, IkeSaReport, SaTraffic,
};
use isthmus_hostplan::{
    ConnectionPlan, ConnectionReport, Diagnosis, DownReason, DpdAction, EstablishMode, IkeIdentity,
    PeerEndpoint, TunnelState,
};
use isthmus_peerconfig::{Peering, Vendor};
use isthmus_types::{IkeVersion, ResourceBits, Secret, Timestamp, TunnelOptions, VpnConnectionId};
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Request};
use crate::{connection, isthmus, one_gateway};

const OWN: &str = "/isthmus/v1/vpn_gateways/0717-g/connections/0717-c";

fn id() -> VpnConnectionId {
    VpnConnectionId::from(ResourceBits::from_random(1))
}

fn report(state: TunnelState, diagnosis: Diagnosis) -> ConnectionReport {
    ConnectionReport {
        connection: id(),
        state,
        since: Timestamp(1_000),
        reset_count: 0,
        ike_suite: String::new(),
        esp_suite: String::new(),
        bytes_in: 840,
        bytes_out: 1_680,
        packets_in: 10,
        packets_out: 20,
        drops: vec![("replayed".to_owned(), 2)],
        totals: vec![("ike_established".to_owned(), 1)],
        diagnosis,
    }
}

fn finding(severity: FindingSeverity) -> FindingReport {
    FindingReport {
        code: "no_proposal_in_common".to_owned(),
        severity,
        field: "ike.encryption".to_owned(),
        suspects: vec!["ike.encryption".to_owned(), "ike.version".to_owned()],
        sentence: "the peer takes none of our proposals".to_owned(),
        fix: "offer aes256".to_owned(),
        ours: "aes128".to_owned(),
        theirs: String::new(),
        first_at: Timestamp(1_000),
        last_at: Timestamp(2_000),
        times: 3,
    }
}

fn up() -> ConnectionReport {
    let child = ChildSaReport {
        inbound_spi: 0x1234,
        outbound_spi: 0xabcd,
        suite: "aes256gcm16".to_owned(),
        local: vec!["10.1.0.0/24".to_owned()],
        remote: vec!["10.2.0.0/24".to_owned()],
        installed_at: Timestamp(1_000),
        rekey_at: Some(Timestamp(3_000)),
        expires_at: Timestamp(4_000),
        traffic: SaTraffic {
            bytes_in: 84,
            bytes_out: 168,
            packets_in: 1,
            packets_out: 2,
        },
    };
    let diagnosis = Diagnosis {
        findings: vec![finding(FindingSeverity::Warning)],
        events: vec![EventReport {
            at: Timestamp(0),
            times: 2,
            code: "child_installed".to_owned(),
            sentence: "a Child SA was installed".to_owned(),
        }],
        ike: Some(IkeSaReport {
            version: 2,
            peer: "203.0.113.3:4500".parse().unwrap(),
            suite: "aes256gcm16-prfsha256-x25519-mlkem768".to_owned(),
            nat_here: false,
            nat_there: true,
            established_at: Timestamp(1_000),
            heard_at: Timestamp(2_000),
        }),
        children: vec![child],
    };
    report(TunnelState::Up, diagnosis)
}

fn down() -> ConnectionReport {
    let state = TunnelState::Down {
        reason: DownReason::IkeProposalMismatch,
        detail: "the peer takes none of our proposals: offer aes256".to_owned(),
    };
    let diagnosis = Diagnosis {
        findings: vec![finding(FindingSeverity::Error)],
        ..Diagnosis::default()
    };
    report(state, diagnosis)
}

/// A server whose doctor knows this.
fn doctor(report: Option<ConnectionReport>, heard_ms_ago: u64) -> Fake {
    let known = json!({"report": report, "heard_ms_ago": heard_ms_ago});
    Fake::start(move |request| {
        if request.path == format!("{OWN}/doctor") {
            return Answer::ok(known.clone());
        }
        one_gateway(request)
    })
}

#[test]
fn the_doctor_tells_each_layer_findings_and_events() {
    let run = isthmus(&doctor(Some(up()), 100), &["vpn", "doctor", "to-right"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    for words in [
        "to-right on gw, peer 203.0.113.3\n",
        "  state      up for ",
        "  IKE SA     version 2 with 203.0.113.3:4500, aes256gcm16-prfsha256-x25519-mlkem768, for ",
        "the peer behind translation or forcing encapsulation\n",
        "  child SA   10.1.0.0/24 === 10.2.0.0/24, aes256gcm16, SPIs 00001234 in 0000abcd out, for ",
        "             1 packets in (84 bytes), 2 out (168 bytes)\n",
        "  packets    10 in (840 bytes), 20 out (1680 bytes)\n",
        "  drops      replayed 2\n",
        "  warning ike.encryption: the peer takes none of our proposals\n",
        "    here: aes128; there: not known\n",
        "    may be: ike.encryption, ike.version\n",
        "    fix: offer aes256\n",
        "    seen 3 times, last ",
        "  1970-01-01T00:00:00.000Z  a Child SA was installed (2 times)\n",
    ] {
        assert!(run.out.contains(words), "{words:?} is missing in\n{}", run.out);
    }
}

#[test]
fn the_doctor_ends_in_1_for_what_is_broken_unknown_or_unheard_of() {
    let broken = isthmus(&doctor(Some(down()), 100), &["vpn", "doctor", "to-right"]);
    assert_eq!(broken.code, 1);
    assert!(
        broken
            .out
            .contains(": the peer takes none of our proposals: offer aes256\n")
            && broken.out.contains("  IKE SA     none\n")
            && broken.out.contains("  child SAs  none\n")
            && broken.out.contains("  ERROR ike.encryption: "),
        "{}",
        broken.out
    );
    let unknown = isthmus(&doctor(None, 100), &["vpn", "doctor", "to-right"]);
    assert_eq!(unknown.code, 1);
    assert!(
        unknown
            .out
            .contains("the host has not reported this connection yet")
    );
    let silent = isthmus(&doctor(Some(up()), 90_000), &["vpn", "doctor", "to-right"]);
    assert!(
        silent
            .out
            .contains("the host has not been heard for 90 s: this is what it said last"),
        "{}",
        silent.out
    );
    let switched_off = report(TunnelState::AdminDown, Diagnosis::default());
    let off = isthmus(&doctor(Some(switched_off), 100), &["vpn", "doctor", "to-right"]);
    assert_eq!(off.code, 0, "{}", off.out);
    assert!(off.out.contains("  state      switched off for "));
    let nobody = isthmus(&doctor(None, 0), &["vpn", "doctor", "to-left"]);
    assert_eq!(
        (nobody.code, nobody.err.as_str()),
        (1, "error: there is no VPN connection \"to-left\"\n")
    );
}

#[test]
fn the_doctor_s_json_is_all_that_the_server_knows() {
    for arguments in [
        &["vpn", "doctor", "to-right", "--json"][..],
        &["-o", "json", "vpn", "doctor", "to-right"],
    ] {
        for (known, code) in [(up(), 0), (down(), 1)] {
            let run = isthmus(&doctor(Some(known.clone()), 100), arguments);
            let told: Value = serde_json::from_str(&run.out).unwrap();
            assert_eq!(told, json!({"report": known, "heard_ms_ago": 100}));
            assert_eq!(run.code, code);
        }
    }
}

fn settings(request: &Request) -> Answer {
    if request.path != format!("{OWN}/settings") {
        return one_gateway(request);
    }
    let plan = ConnectionPlan {
        connection: id(),
        name: "to-right".to_owned(),
        admin_up: true,
        reset_count: 0,
        version: IkeVersion::V2,
        peer: PeerEndpoint::Address {
            address: "203.0.113.3".parse().unwrap(),
        },
        local_identity: IkeIdentity::Address("203.0.113.2".parse().unwrap()),
        peer_identity: IkeIdentity::Address("203.0.113.3".parse().unwrap()),
        psk: Secret::new("never-shown".to_owned()),
        establish: EstablishMode::Bidirectional,
        ike_proposals: isthmus_plan::proposal::auto_ike(false),
        esp_proposals: isthmus_plan::proposal::auto_esp(false),
        local_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
        peer_cidrs: vec!["10.2.0.0/24".parse().unwrap()],
        ike_lifetime_seconds: 28_800,
        esp_lifetime_seconds: 3_600,
        dpd_action: DpdAction::Restart,
        dpd_interval_seconds: 2,
        dpd_timeout_seconds: 10,
        force_encapsulation: true,
        options: TunnelOptions::default(),
    };
    let peering = Peering::without_secrets("203.0.113.2".parse().unwrap(), plan);
    Answer::ok(serde_json::to_value(peering).unwrap())
}

#[test]
fn the_other_end_s_configuration_is_printed_for_every_vendor_and_the_key_only_on_request() {
    let fake = Fake::start(settings);
    for vendor in Vendor::ALL {
        let arguments = ["vpn", "peer-config", "to-right", "--for", vendor.word()];
        let run = isthmus(&fake, &arguments);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", vendor.word());
        assert!(run.out.contains("203.0.113.2"), "{}", run.out);
        assert!(
            !run.out.contains("hush") && !run.out.contains("never-shown"),
            "{}",
            run.out
        );
        let run = isthmus(&fake, &[&arguments[..], &["--show-key"]].concat());
        assert!(run.out.contains("hush-hush"), "{}: {}", vendor.word(), run.out);
    }
    let run = isthmus(&fake, &["vpn", "peer-config", "to-right", "--for", "strongswan"]);
    assert!(
        run.out.contains("remote_addrs = 203.0.113.2") && run.out.contains("10.2.0.0/24"),
        "{}",
        run.out
    );
    let wrong = isthmus(&fake, &["vpn", "peer-config", "to-right", "--for", "toaster"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    let missing = isthmus(&fake, &["vpn", "peer-config", "to-right"]);
    assert_eq!(missing.code, 2);
}

fn options(request: &Request) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "PATCH", path) if path == format!("{OWN}/options") => Answer::ok(json!({
            "aggressive_mode": false, "certificate": null, "childless": true, "verify_pfs": false,
            "extended_sequence_numbers": true, "replay_window": 4096, "selectors": "per_pair",
            "parallel_child_sas": 1, "esp_lifetime_bytes": null, "esp_lifetime_packets": 5000,
            "fragment_size": 0, "dscp": "copy", "dont_fragment": "set", "ml_kem": "on",
            "encapsulation": "forced", "local_id": {"kind": "fqdn", "value": "a.example"}, "peer_id": null,
            "peer_location": "anywhere"})),
        ("PATCH", "/isthmus/v1/vpn_gateways/0717-g/options") => {
            Answer::ok(serde_json::from_str(&request.body).unwrap())
        }
        _ => one_gateway(request),
    }
}

#[test]
fn options_are_shown_and_only_what_is_given_is_changed() {
    let fake = Fake::start(options);
    let shown = isthmus(&fake, &["vpn", "connection", "options", "to-right"]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    for words in [
        "proof                      shared key\n",
        "local id                   a.example\n",
        "peer id                    default\n",
        "peer location              anywhere\n",
        "ml-kem                     on\n",
        "selectors                  per-pair\n",
        "lifetime packets           5000\n",
        "fragment size              never\n",
    ] {
        assert!(
            shown.out.contains(words),
            "{words:?} is missing in\n{}",
            shown.out
        );
    }
    assert_eq!(fake.requests().last().unwrap().method, "GET");
    let sent = |arguments: &[&str]| -> Value {
        let run = isthmus(
            &fake,
            &[&["vpn", "connection", "options", "to-right"], arguments].concat(),
        );
        assert_eq!(run.code, 0, "{}", run.err);
        let last = fake.requests().pop().unwrap();
        assert_eq!(last.method, "PATCH");
        serde_json::from_str(&last.body).unwrap()
    };
    assert_eq!(
        sent(&[
            "--childless",
            "on",
            "--mlkem",
            "required",
            "--lifetime-bytes",
            "none",
            "--peer-id",
            "CN=x,O=y"
        ]),
        json!({"childless": true, "ml_kem": "required", "esp_lifetime_bytes": null,
            "peer_id": {"kind": "distinguished_name", "value": "CN=x,O=y"}})
    );
    assert_eq!(sent(&["--no-certificate"]), json!({"certificate": null}));
    assert_eq!(
        sent(&["--peer-location", "anywhere"]),
        json!({"peer_location": "anywhere"})
    );
    let defaults = sent(&["--defaults", "--replay-window", "64"]);
    assert_eq!(defaults["replay_window"], 64);
    assert_eq!(
        defaults
            .as_object()
            .unwrap()
            .values()
            .filter(|value| value.is_null())
            .count(),
        17
    );
    for wrong in [
        &["--childless", "maybe"][..],
        &["--replay-window", "wide"],
        &["--no-certificate", "--authority-file", "x"],
    ] {
        let run = isthmus(
            &fake,
            &[&["vpn", "connection", "options", "to-right"], wrong].concat(),
        );
        assert_eq!(run.code, 2, "{wrong:?}");
    }
    let run = isthmus(
        &fake,
        &[
            "vpn",
            "connection",
            "options",
            "to-right",
            "--private-key-file",
            "/nonexistent",
        ],
    );
    assert_eq!(
        (run.code, run.err.as_str()),
        (
            1,
            "error: /nonexistent cannot be read: No such file or directory (os error 2)\n"
        )
    );
}

#[test]
fn a_private_key_is_sent_from_its_file_and_never_printed() {
    let fake = Fake::start(options);
    let directory = fake.state_dir();
    std::fs::write(directory.join("own.pem"), "the chain").unwrap();
    std::fs::write(directory.join("own.key"), "hush-hush-key").unwrap();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (chain, key) = (path("own.pem"), path("own.key"));
    let arguments = [
        "vpn",
        "connection",
        "options",
        "to-right",
        "--certificate-file",
        &chain,
        "--private-key-file",
        &key,
    ];
    let run = isthmus(&fake, &arguments);
    assert!(run.code == 0 && !run.out.contains("hush") && !run.err.contains("hush"));
    let sent: Value = serde_json::from_str(&fake.requests().last().unwrap().body).unwrap();
    assert_eq!(
        sent,
        json!({"certificate": {"chain": "the chain", "private_key": "hush-hush-key"}})
    );
}

/// A server where a connection is made; `refuse` says whether its options are refused, `keep` whether its deletion is.
fn making(refuse: bool, keep: bool) -> Fake {
    Fake::start(
        move |request| match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/vpn_gateways/0717-g/connections") => {
                Answer::created(connection("0717-c", "van", "down", "203.0.113.3"))
            }
            ("PATCH", path) if path == format!("{OWN}/options") => {
                if refuse {
                    Answer::refused(409, "invalid_state", "peer_id is already that of connection bus")
                } else {
                    options(request)
                }
            }
            ("PATCH", "/v1/vpn_gateways/0717-g/connections/0717-c") => {
                Answer::ok(connection("0717-c", "van", "down", "203.0.113.3"))
            }
            ("DELETE", "/v1/vpn_gateways/0717-g/connections/0717-c") if keep => {
                Answer::refused(500, "internal_error", "the disk is full")
            }
            ("DELETE", "/v1/vpn_gateways/0717-g/connections/0717-c") => Answer::empty(204),
            _ => one_gateway(request),
        },
    )
}

#[test]
fn a_connection_with_a_peer_from_anywhere_is_off_until_that_is_known_and_goes_if_it_is_refused() {
    let ranges = ["--local", "10.1.0.0/24", "--remote", "10.2.0.0/24"];
    let create = |fake: &Fake, more: &[&str]| {
        let verb = ["vpn", "connection", "create", "van", "--gateway", "gw"];
        isthmus(fake, &[&verb, more, &ranges].concat())
    };
    let sent = |fake: &Fake| -> Vec<(String, Value)> {
        let requests = fake.requests();
        let changes = requests
            .iter()
            .filter(|request| request.method != "GET" && request.path != "/identity/token");
        changes
            .map(|request| {
                let body = serde_json::from_str(&request.body).unwrap_or(Value::Null);
                (format!("{} {}", request.method, request.path), body)
            })
            .collect()
    };
    for (identity, kind, value, host) in [
        ("van.example", "fqdn", "van.example", "van.example"),
        (
            "CN=van,O=Example",
            "distinguished_name",
            "CN=van,O=Example",
            "anywhere.invalid",
        ),
        ("keyid:7", "key_id", "7", "anywhere.invalid"),
    ] {
        let fake = making(false, false);
        let run = create(&fake, &["--from-anywhere", identity]);
        assert_eq!(run.code, 0, "{}", run.err);
        let sent = sent(&fake);
        let [made, located, on] = sent.as_slice() else {
            panic!("{sent:?}")
        };
        assert_eq!(made.1["admin_state_up"], false);
        assert_eq!(made.1["peer"]["fqdn"], host);
        assert_eq!(located.0, format!("PATCH {OWN}/options"));
        assert_eq!(
            located.1,
            json!({"peer_id": {"kind": kind, "value": value}, "peer_location": "anywhere"})
        );
        assert_eq!(on.1, json!({"admin_state_up": true}));
    }
    let fake = making(true, false);
    let run = create(&fake, &["--from-anywhere", "van.example"]);
    assert!(
        run.code == 1 && run.err.contains("already that of connection bus"),
        "{}",
        run.err
    );
    let last = sent(&fake).pop().unwrap();
    assert_eq!(last.0, "DELETE /v1/vpn_gateways/0717-g/connections/0717-c");
    // That it could not be taken back does not hide why it should be.
    let run = create(&making(true, true), &["--from-anywhere", "van.example"]);
    for words in [
        "already that of connection bus",
        "the disk is full",
        "van is left behind, switched off",
    ] {
        assert!(run.code == 1 && run.err.contains(words), "{}", run.err);
    }
    let fake = making(false, false);
    for wrong in [
        &[][..],
        &["--from-anywhere", "van.example", "--peer", "198.51.100.7"],
    ] {
        assert_eq!(create(&fake, wrong).code, 2, "{wrong:?}");
    }
    let nameless = create(&fake, &["--from-anywhere", "default"]);
    assert!(nameless.code == 1 && nameless.err.contains("needs an identity of its own"));
}

#[test]
fn the_key_log_is_switched_with_a_warning() {
    let fake = Fake::start(options);
    let on = isthmus(&fake, &["vpn", "gateway", "key-log", "gw", "on"]);
    assert_eq!((on.code, on.out.as_str()), (0, "key log of gw: on\n"));
    assert!(
        on.err.starts_with("warning: ") && on.err.contains("in clear"),
        "{}",
        on.err
    );
    assert_eq!(fake.requests().last().unwrap().body, r#"{"key_log":true}"#);
    let off = isthmus(&fake, &["vpn", "gateway", "key-log", "gw", "off"]);
    assert_eq!(off.out, "key log of gw: off\n");
    assert!(
        off.err.contains("delete it when it is needed no more"),
        "{}",
        off.err
    );
}

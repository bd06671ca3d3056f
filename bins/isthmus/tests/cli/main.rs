//! The verbs against a server that answers by script: exit code, standard output, standard error, and what was sent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stood")]

mod fake;
mod reset;
mod vpn;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use fake::{Answer, Fake, Request};
use serde_json::{Value, json};

/// What a run of the program left behind.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn program(fake: &Fake, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command
        .args(["--state-dir", fake.state_dir().to_str().unwrap()])
        .args(arguments)
        .env_remove("ISTHMUS_PROFILE")
        .stdin(Stdio::null());
    command
}

fn isthmus(fake: &Fake, arguments: &[&str]) -> Run {
    program(fake, arguments).output().unwrap().into()
}

fn vpc(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name, "status": "available", "created_at": "2026-11-21T09:00:00Z", "crn": "crn:x"})
}

fn reference(id: &str, name: &str) -> Value {
    json!({"id": id, "name": name})
}

fn subnet(id: &str, name: &str, vpc: &str, range: &str) -> Value {
    json!({"id": id, "name": name, "status": "available", "ipv4_cidr_block": range,
        "available_ipv4_address_count": 251, "total_ipv4_address_count": 256,
        "vpc": reference(&format!("r006-{vpc}"), vpc), "zone": {"name": "us-south-1"}})
}

fn gateway(id: &str, name: &str, vpc: &str, subnet: &str, address: &str) -> Value {
    json!({"id": id, "name": name, "lifecycle_state": "stable", "health_state": "ok", "health_reasons": [],
        "public_ip": {"address": address}, "vpc": reference(&format!("r006-{vpc}"), vpc),
        "subnet": reference(subnet, subnet), "connections": []})
}

fn connection(id: &str, name: &str, status: &str, peer: &str) -> Value {
    let reasons = if status == "up" {
        json!([])
    } else {
        json!([{"code": "peer_not_responding", "message": format!("No answer from {peer}.")}])
    };
    json!({"id": id, "name": name, "status": status, "status_reasons": reasons, "admin_state_up": true,
        "psk": "hush-hush", "establish_mode": "bidirectional", "local": {"cidrs": ["10.1.0.0/24"]},
        "peer": {"type": "address", "address": peer, "cidrs": ["10.2.0.0/24"]},
        "dead_peer_detection": {"action": "restart", "interval": 2, "timeout": 10}})
}

fn two_vpcs(request: &Request) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/vpcs") => Answer::ok(json!({"vpcs": [vpc("r006-1", "left"), vpc("r006-2", "right")]})),
        _ => Answer::not_found(),
    }
}

#[test]
fn list_is_a_table() {
    let run = isthmus(&Fake::start(two_vpcs), &["vpc", "list"]);
    assert_eq!(
        run.out,
        "VPC    STATUS     CREATED               ID\n\
         left   available  2026-11-21T09:00:00Z  r006-1\n\
         right  available  2026-11-21T09:00:00Z  r006-2\n"
    );
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[test]
fn json_shows_every_property() {
    let run = isthmus(&Fake::start(two_vpcs), &["-o", "json", "vpc", "show", "right"]);
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(found, vpc("r006-2", "right"));
}

#[test]
fn show_takes_names_and_ids() {
    let fake = Fake::start(two_vpcs);
    for wanted in ["right", "r006-2"] {
        let run = isthmus(&fake, &["vpc", "show", wanted]);
        assert_eq!(
            run.out,
            "vpc      right\nstatus   available\ncreated  2026-11-21T09:00:00Z\nid       r006-2\n"
        );
    }
    let run = isthmus(&fake, &["vpc", "show", "middle"]);
    assert_eq!(
        (run.code, run.out.as_str(), run.err.as_str()),
        (1, "", "error: there is no VPC \"middle\"\n")
    );
}

#[test]
fn every_request_carries_version_generation_and_token() {
    let fake = Fake::start(two_vpcs);
    isthmus(&fake, &["vpc", "list"]);
    let requests = fake.requests();
    let [login, list] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(
        (login.method.as_str(), login.path.as_str()),
        ("POST", "/identity/token")
    );
    assert!(
        login
            .body
            .contains("grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey"),
        "{}",
        login.body
    );
    assert!(login.body.contains("apikey=the-key"), "{}", login.body);
    assert!(
        list.query.contains("generation=2") && list.query.contains("version=20"),
        "{}",
        list.query
    );
    assert_eq!(list.authorization, "Bearer token-1");
}

#[test]
fn lists_follow_every_page() {
    let fake = Fake::start(|request| {
        let second = request.query.contains("start=next%2Fpage");
        match (request.path.as_str(), second) {
            ("/v1/subnets", false) => Answer::ok(json!({
                "subnets": [subnet("0717-1", "a", "left", "10.1.0.0/24")],
                "next": {"href": "http://elsewhere/v1/subnets?limit=100&start=next%2Fpage"}})),
            ("/v1/subnets", true) => {
                Answer::ok(json!({"subnets": [subnet("0717-2", "b", "left", "10.1.1.0/24")]}))
            }
            _ => Answer::not_found(),
        }
    });
    let run = isthmus(&fake, &["subnet", "list"]);
    assert_eq!(
        run.out,
        "SUBNET  VPC   ZONE        RANGE        FREE     STATUS     ID\n\
         a       left  us-south-1  10.1.0.0/24  251/256  available  0717-1\n\
         b       left  us-south-1  10.1.1.0/24  251/256  available  0717-2\n"
    );
}

#[test]
fn refusal_shows_message_and_code() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "POST" => Answer::refused(409, "validation_unique_failed", "The name left is taken."),
        _ => Answer::not_found(),
    });
    let run = isthmus(&fake, &["vpc", "create", "left"]);
    assert_eq!(
        (run.code, run.out.as_str(), run.err.as_str()),
        (
            1,
            "",
            "error: The name left is taken. (validation_unique_failed)\n"
        )
    );
}

#[test]
fn expired_token_is_renewed_once() {
    let fake = Fake::start(|request| match request.authorization.as_str() {
        "Bearer token-1" => Answer::refused(401, "not_authorized", "The token has expired."),
        _ => two_vpcs(request),
    });
    let run = isthmus(&fake, &["vpc", "list"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let fake = Fake::start(|_| Answer::refused(401, "not_authorized", "No."));
    let run = isthmus(&fake, &["vpc", "list"]);
    assert_eq!((run.code, run.err.as_str()), (1, "error: No. (not_authorized)\n"));
    assert_eq!(fake.requests().len(), 4);
}

#[test]
fn wrong_usage_ends_in_2() {
    let fake = Fake::start(two_vpcs);
    for arguments in [
        &["vpc", "liszt"][..],
        &["subnet", "create", "left"],
        &["subnet", "create", "left", "--range", "10.1.0.1/24"],
        &[
            "subnet",
            "create",
            "left",
            "--range",
            "10.1.0.0/24",
            "--size",
            "256",
        ],
        &["vpn", "connection", "create", "--psk", "secret"],
        &["instance", "exec", "web"],
    ] {
        let run = isthmus(&fake, arguments);
        assert_eq!(
            (run.code, run.out.as_str()),
            (2, ""),
            "{arguments:?}: {}",
            run.err
        );
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn missing_profile_and_silent_server_say_what_to_do() {
    let fake = Fake::start(two_vpcs);
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_isthmus"))
        .args(["--state-dir", "/nonexistent", "vpc", "list"])
        .output()
        .unwrap();
    let run = Run::from(elsewhere);
    assert_eq!(run.code, 1);
    assert!(
        run.err
            .starts_with("error: there is no profile at /nonexistent/credentials.toml"),
        "{}",
        run.err
    );

    fake.write_profile("http://127.0.0.1:1");
    let run = isthmus(&fake, &["vpc", "list"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err
            .starts_with("error: cannot reach the API at http://127.0.0.1:1"),
        "{}",
        run.err
    );
}

#[test]
fn refused_key_is_told_without_the_key() {
    let fake = Fake::start(two_vpcs);
    fake.refuse_logins();
    let run = isthmus(&fake, &["vpc", "list"]);
    assert_eq!(
        (run.code, run.err.as_str()),
        (
            1,
            "error: logging in failed: Provided API key could not be found.\n"
        )
    );
}

fn one_gateway(request: &Request) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v1/vpn_gateways") => {
            Answer::ok(json!({"vpn_gateways": [gateway("0717-g", "gw", "left", "0717-1", "203.0.113.2")]}))
        }
        ("GET", "/v1/vpn_gateways/0717-g/connections") => {
            Answer::ok(json!({"connections": [connection("0717-c", "to-right", "down", "203.0.113.3")]}))
        }
        ("POST", "/v1/vpn_gateways/0717-g/connections") => {
            Answer::created(connection("0717-c", "to-right", "down", "203.0.113.3"))
        }
        _ => Answer::not_found(),
    }
}

const NEW_CONNECTION: &[&str] = &[
    "vpn",
    "connection",
    "create",
    "to-right",
    "--gateway",
    "gw",
    "--peer",
    "203.0.113.3",
    "--local",
    "10.1.0.0/24",
    "--remote",
    "10.2.0.0/24,10.2.1.0/24",
];

#[test]
fn key_comes_from_standard_input_and_is_not_printed() {
    let fake = Fake::start(one_gateway);
    let arguments = [NEW_CONNECTION, &["--key-file", "-"]].concat();
    let mut child = program(&fake, &arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hush-hush\n").unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(!run.out.contains("hush") && !run.err.contains("hush"));
    let sent: Value = serde_json::from_str(&fake.requests().last().unwrap().body).unwrap();
    assert_eq!(
        sent,
        json!({"name": "to-right", "psk": "hush-hush", "local": {"cidrs": ["10.1.0.0/24"]},
            "peer": {"address": "203.0.113.3", "cidrs": ["10.2.0.0/24", "10.2.1.0/24"]},
            "admin_state_up": true, "establish_mode": "bidirectional"})
    );
}

#[test]
fn key_comes_from_the_environment_or_is_generated() {
    let fake = Fake::start(one_gateway);
    let arguments = [NEW_CONNECTION, &["--key-env", "THE_KEY"]].concat();
    assert!(
        program(&fake, &arguments)
            .env("THE_KEY", "from-env")
            .output()
            .unwrap()
            .status
            .success()
    );
    let sent: Value = serde_json::from_str(&fake.requests().last().unwrap().body).unwrap();
    assert_eq!(sent["psk"], "from-env");

    let run = isthmus(&fake, NEW_CONNECTION);
    let sent: Value = serde_json::from_str(&fake.requests().last().unwrap().body).unwrap();
    let key = sent["psk"].as_str().unwrap();
    assert_eq!(key.len(), 44);
    assert!(
        run.err.contains("isthmus vpn connection show to-right --key"),
        "{}",
        run.err
    );
    assert!(!run.out.contains(key) && !run.err.contains(key));
}

#[test]
fn connection_shows_its_reason_and_its_key_only_on_request() {
    let fake = Fake::start(one_gateway);
    let run = isthmus(&fake, &["vpn", "connection", "show", "to-right"]);
    assert_eq!(
        run.out,
        "connection    to-right\ngateway       gw\nstatus        down\npeer          203.0.113.3\n\
         local ranges  10.1.0.0/24\npeer ranges   10.2.0.0/24\nike policy    auto\nipsec policy  auto\n\
         id            0717-c\nreason        No answer from 203.0.113.3.\n"
    );
    let run = isthmus(&fake, &["-o", "json", "vpn", "connection", "list"]);
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(found[0]["gateway"], json!({"id": "0717-g", "name": "gw"}));
    assert!(found[0].get("psk").is_none());
    let run = isthmus(&fake, &["vpn", "connection", "show", "to-right", "--key"]);
    assert_eq!(run.out, "hush-hush\n");
}

#[test]
fn deletion_waits_until_it_is_gone() {
    let fake = Fake::start(|request| {
        let gone = request
            .earlier
            .iter()
            .filter(|path| path.ends_with("GET /v1/instances/0717_1"))
            .count()
            >= 2;
        let instance = json!({"id": "0717_1", "name": "web", "status": "running", "vpc": reference("r006-1", "left"),
            "zone": {"name": "us-south-1"}, "primary_network_interface": {"primary_ip": {"address": "10.1.0.4"},
            "subnet": reference("0717-1", "tier")}});
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/instances") => Answer::ok(json!({"instances": [instance]})),
            ("DELETE", "/v1/instances/0717_1") => Answer::empty(204),
            ("GET", "/v1/instances/0717_1") if !gone => Answer::ok(instance),
            _ => Answer::not_found(),
        }
    });
    let run = isthmus(&fake, &["instance", "delete", "web"]);
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, "instance web deleted\n"),
        "{}",
        run.err
    );
    assert_eq!(fake.requests().last().unwrap().method, "GET");
}

#[test]
fn status_tells_what_is_amiss() {
    let fake = Fake::start(|request| match request.path.as_str() {
        "/v1/regions" => Answer::ok(json!({"regions": [{"name": "us-south", "status": "available"}]})),
        "/v1/subnets" => Answer::ok(json!({"subnets": []})),
        "/v1/instances" => Answer::ok(json!({"instances": []})),
        "/v1/vpcs" => two_vpcs(request),
        _ => one_gateway(request),
    });
    let run = isthmus(&fake, &["status"]);
    assert_eq!(run.code, 1);
    let lines: Vec<_> = run.out.lines().collect();
    assert!(
        lines[0].starts_with(&format!("API        {}, answers in ", fake.url())),
        "{}",
        lines[0]
    );
    assert_eq!(
        lines[1..],
        [
            "network    2 VPCs, 0 subnets, 0 instances",
            "",
            "VPC   GATEWAY  STATUS     PUBLIC ADDRESS  CONNECTION  STATUS  PEER         REASON",
            "left  gw       available  203.0.113.2     to-right    down    203.0.113.3  No answer from 203.0.113.3.",
        ]
    );
    fake.write_profile("http://127.0.0.1:1");
    let run = isthmus(&fake, &["-o", "json", "status"]);
    let found: Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((run.code, &found["healthy"]), (1, &json!(false)));
}

/// Two VPCs without gateways; connections that are created get this status.
fn joinable(status: &'static str) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| {
        let done = |what: &str| request.earlier.iter().any(|earlier| earlier.starts_with(what));
        let side = if request.body.contains("0717-sl") || request.path.contains("0717-gl") {
            'l'
        } else {
            'r'
        };
        let (name, subnet, address, peer) = match side {
            'l' => ("left-gateway", "0717-sl", "203.0.113.2", "203.0.113.3"),
            _ => ("right-gateway", "0717-sr", "203.0.113.3", "203.0.113.2"),
        };
        let vpc_name = name.trim_end_matches("-gateway");
        let this_gateway = || gateway(&format!("0717-g{side}"), name, vpc_name, subnet, address);
        let this_connection = || connection(&format!("0717-c{side}"), "to-other", status, peer);
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v1/vpcs") => {
                Answer::ok(json!({"vpcs": [vpc("r006-left", "left"), vpc("r006-right", "right")]}))
            }
            ("GET", "/v1/subnets") if request.query.contains("r006-left") => {
                Answer::ok(json!({"subnets": [self::subnet("0717-sl", "a", "left", "10.1.0.0/24")]}))
            }
            ("GET", "/v1/subnets") => {
                Answer::ok(json!({"subnets": [self::subnet("0717-sr", "b", "right", "10.2.0.0/24")]}))
            }
            ("GET", path) if path.ends_with("/address_prefixes") => {
                let cidr = if path.contains("left") {
                    "10.1.0.0/16"
                } else {
                    "10.2.0.0/16"
                };
                Answer::ok(
                    json!({"address_prefixes": [{"id": "r006-p", "name": "p", "cidr": cidr,
                    "zone": {"name": "us-south-1"}, "is_default": true, "has_subnets": true}]}),
                )
            }
            ("GET", "/v1/vpn_gateways") => Answer::ok(json!({"vpn_gateways": []})),
            ("POST", "/v1/vpn_gateways") => Answer::created(this_gateway()),
            ("POST", _) => Answer::created(this_connection()),
            ("DELETE", _) => Answer::empty(202),
            ("GET", path) if done(&format!("DELETE {path}")) => Answer::not_found(),
            ("GET", path) if path.ends_with("/connections") => Answer::ok(json!({"connections": []})),
            ("GET", path) if path.contains("/connections/") => Answer::ok(this_connection()),
            ("GET", _) => Answer::ok(this_gateway()),
            _ => Answer::not_found(),
        }
    }
}

#[test]
fn join_makes_gateways_one_key_and_both_connections() {
    let fake = Fake::start(joinable("up"));
    let run = isthmus(&fake, &["join", "left", "right"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let created: Vec<(String, Value)> = fake
        .requests()
        .into_iter()
        .filter(|request| request.method == "POST" && request.path.starts_with("/v1"))
        .map(|request| (request.path, serde_json::from_str(&request.body).unwrap()))
        .collect();
    let paths: Vec<_> = created.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "/v1/vpn_gateways",
            "/v1/vpn_gateways",
            "/v1/vpn_gateways/0717-gl/connections",
            "/v1/vpn_gateways/0717-gr/connections"
        ]
    );
    let (there, back) = (&created[2].1, &created[3].1);
    assert_eq!(there["psk"], back["psk"]);
    assert_eq!(there["local"]["cidrs"], json!(["10.1.0.0/16"]));
    assert_eq!(
        there["peer"],
        json!({"address": "203.0.113.3", "cidrs": ["10.2.0.0/16"]})
    );
    assert_eq!(
        back["peer"],
        json!({"address": "203.0.113.2", "cidrs": ["10.1.0.0/16"]})
    );
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
    assert!(!run.err.contains(there["psk"].as_str().unwrap()));
}

#[test]
fn failed_join_says_why_and_removes_what_it_made() {
    let fake = Fake::start(joinable("down"));
    let run = isthmus(&fake, &["join", "left", "right", "--timeout", "1"]);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(run.err.contains("left could not be joined"), "{}", run.err);
    assert!(run.err.contains("No answer from 203.0.113.3."), "{}", run.err);
    let removed: Vec<_> = fake
        .requests()
        .into_iter()
        .filter(|request| request.method == "DELETE")
        .map(|request| request.path)
        .collect();
    assert_eq!(
        removed,
        [
            "/v1/vpn_gateways/0717-gr/connections/0717-cr",
            "/v1/vpn_gateways/0717-gl/connections/0717-cl",
            "/v1/vpn_gateways/0717-gr",
            "/v1/vpn_gateways/0717-gl"
        ]
    );
}

#[test]
fn vpc_is_not_joined_to_itself() {
    let run = isthmus(&Fake::start(joinable("up")), &["join", "left", "r006-left"]);
    assert_eq!(
        (run.code, run.err.as_str()),
        (1, "error: a VPC cannot be joined to itself\n")
    );
}

#[test]
fn update_of_a_connection_changes_ranges_and_returns_to_auto() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "PUT" => Answer::empty(201),
        "PATCH" => Answer::ok(connection("0717-c", "to-right", "up", "203.0.113.3")),
        _ => one_gateway(request),
    });
    let arguments = [
        "vpn",
        "connection",
        "update",
        "to-right",
        "--add-remote",
        "10.3.0.0/16",
        "--ike-policy",
        "auto",
        "--admin-state",
        "down",
    ];
    let run = isthmus(&fake, &arguments);
    assert_eq!(run.code, 0, "{}", run.err);
    let requests = fake.requests();
    let sent = |method: &str| requests.iter().find(|request| request.method == method).unwrap();
    assert_eq!(
        sent("PUT").path,
        "/v1/vpn_gateways/0717-g/connections/0717-c/peer/cidrs/10.3.0.0%2F16"
    );
    assert_eq!(
        sent("PATCH").body,
        r#"{"admin_state_up":false,"ike_policy":null}"#
    );
}

#[test]
fn completions_know_the_verbs() {
    let fake = Fake::start(two_vpcs);
    for shell in ["bash", "zsh", "fish"] {
        let run = isthmus(&fake, &["completions", shell]);
        assert_eq!(run.code, 0);
        assert!(run.out.contains("ike-policy"), "{shell}");
    }
    assert!(fake.requests().is_empty());
}

//! Options of tunnels, through the API and the CLI, to the packets: two VPCs joined, then both ends switched to
//! certificates, ML-KEM and childless initiation. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain has failed")]

mod installation;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use installation::{Installation, text};
use isthmus_runtime::Profile;
use isthmus_simnet::pki::{Authority, KeyChoice, gateway};
use serde_json::{Value, json};

impl Installation {
    /// Runs a verb that must succeed; its standard output.
    fn verb(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// What a verb answers as JSON, whatever its exit code.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["-o", "json"], arguments].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{arguments:?}: {error}: {}", text(&output.stderr));
        })
    }

    fn join_two_vpcs(&self) -> [String; 2] {
        for (vpc, number) in [("blue", 1), ("green", 2)] {
            let (prefix, subnet) = (format!("10.{number}.0.0/16"), format!("10.{number}.0.0/24"));
            self.verb(&["vpc", "create", vpc, "--manual-prefixes"]);
            self.verb(&["prefix", "create", vpc, &prefix, "--zone", "us-south-1"]);
            self.verb(&["subnet", "create", vpc, &format!("{vpc}-net"), "--range", &subnet]);
            self.verb(&[
                "instance",
                "create",
                &format!("{vpc}-1"),
                "--subnet",
                &format!("{vpc}-net"),
            ]);
        }
        self.verb(&["join", "blue", "green"]);
        let connections = self.json(&["vpn", "connection", "list"]);
        let mut names: Vec<String> = connections
            .as_array()
            .unwrap()
            .iter()
            .map(|connection| connection["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names.try_into().unwrap()
    }

    /// What a scraper reads that has the API key.
    fn metrics(&self) -> String {
        let profile = Profile::load(&self.layout.credentials()).unwrap().unwrap();
        let address = profile.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let key = profile.api_key.reveal();
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    fn check_metrics(&self) {
        let metrics = self.metrics();
        for series in [
            "isthmus_connection_up{",
            "isthmus_connection_received_packets_total{",
            "isthmus_connection_child_sas{",
            "isthmus_gateway_up{",
            "isthmus_agent_pass_duration_seconds_count",
            "isthmus_store_revision ",
        ] {
            assert!(
                metrics.lines().any(|line| line.starts_with(series)),
                "{series} in\n{metrics}"
            );
        }
    }

    fn pings(&self) {
        for (from, to) in [("blue-1", "green-1"), ("green-1", "blue-1")] {
            self.verb(&["probe", "ping", from, to]);
        }
    }

    /// The doctor's report of a connection, once it fits.
    fn report(&self, connection: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.eventually(what, || {
            let known = self.json(&["vpn", "doctor", connection]);
            fits(&known["report"]).then(|| known["report"].clone())
        })
    }
}

fn is_up(report: &Value) -> bool {
    report["state"]["kind"] == "up"
}

#[test]
fn both_ends_are_switched_to_certificates_ml_kem_and_childless_initiation() {
    let mut lab = Installation::new("to");
    lab.up();
    let names = lab.join_two_vpcs();
    lab.pings();
    let suite = |report: &Value| report["ike_suite"].as_str().unwrap_or_default().to_owned();
    for name in &names {
        let report = lab.report(name, "a tunnel", is_up);
        assert!(!suite(&report).contains("mlkem"), "{report}");
        assert_eq!(
            lab.json(&["vpn", "connection", "options", name])["certificate"],
            Value::Null
        );
    }

    // Both ends, one after the other: at last each demands what the other now does.
    let authority = Authority::root("Root", KeyChoice::P256);
    let directory = lab.directory.path().to_owned();
    let connections = lab.json(&["vpn", "connection", "list"]);
    let gateways = lab.json(&["vpn", "gateway", "list"]);
    fs::write(directory.join("root.pem"), authority.pem()).unwrap();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    for name in &names {
        let of = |list: &Value, field: &str, wanted: &Value| {
            let mut found = list.as_array().unwrap().iter();
            found.find(|item| item[field] == *wanted).unwrap().clone()
        };
        let connection = of(&connections, "name", &json!(name));
        let address = of(&gateways, "id", &connection["gateway"]["id"])["public_ip"]["address"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let own = authority.issue(&gateway(name, address), KeyChoice::P256);
        fs::write(path("own.pem"), &own.certificate).unwrap();
        fs::write(path("own.key"), own.key.reveal()).unwrap();
        let shown = lab.verb(&[
            "vpn",
            "connection",
            "options",
            name,
            "--certificate-file",
            &path("own.pem"),
            "--private-key-file",
            &path("own.key"),
            "--authority-file",
            &path("root.pem"),
            "--mlkem",
            "required",
            "--childless",
            "on",
            "--replay-window",
            "4096",
        ]);
        assert!(
            shown.contains("certificate of") && shown.contains(name) && shown.contains("required"),
            "{shown}"
        );
        assert!(!shown.contains("PRIVATE KEY"));
    }
    for name in &names {
        let report = lab.report(name, "a hybrid tunnel", |report| {
            is_up(report) && suite(report).contains("mlkem")
        });
        assert_eq!(report["diagnosis"]["ike"]["version"], 2, "{report}");
        let told = lab.verb(&["vpn", "doctor", name]);
        assert!(told.contains("mlkem768") && told.contains("child SA "), "{told}");
        let options = lab.json(&["vpn", "connection", "options", name]);
        assert_eq!(options["childless"], true);
        assert_eq!(options["replay_window"], 4096);
        assert!(
            options["certificate"]["holder"]["names"]
                .as_str()
                .unwrap()
                .contains(name.as_str())
        );
        assert!(!options.to_string().contains("PRIVATE KEY"), "{options}");
    }
    lab.pings();

    for name in &names {
        lab.report(name, "packets on a Child SA", |report| {
            let traffic = &report["diagnosis"]["children"][0]["traffic"];
            let counted = |of: &str| traffic[of].as_u64().unwrap_or_default();
            counted("packets_in") > 0 && counted("bytes_out") >= counted("packets_out") * 28
        });
    }

    lab.check_metrics();

    a_certificate_of_another_authority_is_refused(&lab, &names[0]);
    // Back to the key that both still have.
    for name in &names {
        lab.verb(&["vpn", "connection", "options", name, "--defaults"]);
    }
    for name in &names {
        lab.report(name, "a tunnel with the shared key", |report| {
            is_up(report) && !suite(report).contains("mlkem")
        });
    }
    lab.pings();
}

fn a_certificate_of_another_authority_is_refused(lab: &Installation, name: &str) {
    // One end with a certificate of another authority: it comes down, and the doctor says why.
    let stranger = Authority::root("Stranger", KeyChoice::P256);
    let path = lab.directory.path().join("stranger.pem");
    fs::write(&path, stranger.pem()).unwrap();
    let path = path.to_str().unwrap();
    lab.verb(&["vpn", "connection", "options", name, "--authority-file", path]);
    lab.report(name, "a refused certificate", |report| {
        let findings = report["diagnosis"]["findings"].as_array();
        findings
            .into_iter()
            .flatten()
            .any(|finding| finding["code"] == "certificate_refused")
    });
    let doctor = lab.run(&["vpn", "doctor", name]);
    assert_eq!(doctor.status.code(), Some(1), "{}", text(&doctor.stdout));
    // A bad value changes nothing.
    let refused = lab.run(&["vpn", "connection", "options", name, "--replay-window", "5000"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("64 to 4096"));
}

#[test]
fn a_key_log_is_written_while_it_is_on_and_status_warns() {
    let mut lab = Installation::new("kl");
    lab.up();
    let names = lab.join_two_vpcs();
    let connection = lab.json(&["vpn", "connection", "show", &names[0]]);
    let gateway = connection["gateway"]["name"].as_str().unwrap().to_owned();
    let logs = lab.layout.key_log_directory();
    assert!(!logs.exists(), "off unless switched on");
    assert!(!lab.verb(&["status"]).contains("WARNING"));

    let on = lab.run(&["vpn", "gateway", "key-log", &gateway, "on"]);
    assert!(
        on.status.success() && text(&on.stderr).contains("in clear"),
        "{}",
        text(&on.stderr)
    );
    assert!(
        lab.verb(&["status"])
            .contains(&format!("WARNING    {gateway} writes the keys"))
    );
    // New SAs are made when the connection is switched off and on, if the host sees both.
    let switch = |state| lab.verb(&["vpn", "connection", "update", &names[0], "--admin-state", state]);
    switch("down");
    lab.report(&names[0], "the host to have switched it off", |report| {
        report["state"]["kind"] == "admin_down"
    });
    switch("up");
    let table = lab.eventually("logged keys", || {
        let directory = fs::read_dir(&logs).ok()?.next()?.ok()?.path();
        let table = directory.join("ikev2_decryption_table");
        (table.metadata().ok()?.len() > 0).then_some(table)
    });
    assert_eq!(table.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 1, "one gateway alone");

    lab.verb(&["vpn", "gateway", "key-log", &gateway, "off"]);
    assert!(!lab.verb(&["status"]).contains("WARNING"));
    assert!(lab.run(&["down", "--purge"]).status.success());
    assert!(!logs.exists());
}

//! `vpn connection reset`.

use serde_json::json;

use crate::fake::{Answer, Fake, Request};
use crate::{connection, isthmus, one_gateway};

const CONNECTION: &str = "/v1/vpn_gateways/0717-g/connections/0717-c";
const OWN: &str = "/isthmus/v1/vpn_gateways/0717-g/connections/0717-c";

fn shown(status: &str) -> Answer {
    Answer::ok(connection("0717-c", "to-right", status, "203.0.113.3"))
}

/// A server whose host needs to be asked twice; `reason` is why the connection is down then, if it is.
fn resetting(reason: Option<&'static str>) -> Fake {
    Fake::start(move |request: &Request| {
        let method = request.method.as_str();
        let path = request.path.as_str();
        let asked = request
            .earlier
            .iter()
            .filter(|earlier| earlier.ends_with(&format!("GET {CONNECTION}")));
        let done = asked.count() >= 2;
        if (method, path) == ("POST", &format!("{OWN}/reset")) {
            shown("down")
        } else if (method, path) == ("GET", CONNECTION) {
            shown(if done && reason.is_none() { "up" } else { "down" })
        } else if (method, path) == ("GET", &format!("{OWN}/doctor")) {
            let reason = reason.filter(|_| done).unwrap_or("negotiating");
            Answer::ok(json!({"report": {"state": {"kind": "down", "reason": reason, "detail": ""}}}))
        } else {
            one_gateway(request)
        }
    })
}

#[test]
fn a_reset_waits_until_the_connection_is_up_again_or_waits_for_its_peer() {
    for (reason, status, questions) in [(None, "up", 3), (Some("awaiting_peer"), "down", 2)] {
        let fake = resetting(reason);
        let run = isthmus(&fake, &["vpn", "connection", "reset", "to-right"]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
        assert!(
            run.out.contains(&format!("status        {status}\n")),
            "{}",
            run.out
        );
        let requests = fake.requests();
        let sent = requests.iter().filter(|request| request.method == "POST");
        let sent: Vec<_> = sent
            .filter(|request| request.path.starts_with("/isthmus"))
            .map(|request| request.body.as_str())
            .collect();
        assert_eq!(sent, ["{}"]);
        let asked = requests.iter().filter(|request| request.path == CONNECTION);
        assert_eq!(asked.count(), questions);
    }
}

#[test]
fn a_reset_does_not_wait_if_it_is_not_to() {
    let fake = resetting(None);
    let run = isthmus(&fake, &["vpn", "connection", "reset", "to-right", "--no-wait"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert!(run.out.contains("status        down\n"), "{}", run.out);
    assert_eq!(fake.requests().last().unwrap().method, "POST");
}

#[test]
fn a_reset_that_is_refused_says_why() {
    let fake = Fake::start(|request| {
        if request.path.ends_with("/reset") {
            return Answer::refused(409, "invalid_state", "the VPN connection is switched off");
        }
        one_gateway(request)
    });
    let run = isthmus(&fake, &["vpn", "connection", "reset", "to-right"]);
    assert_eq!((run.code, run.out.as_str()), (1, ""));
    assert!(
        run.err.contains("the VPN connection is switched off"),
        "{}",
        run.err
    );
    let missing = isthmus(&fake, &["vpn", "connection", "reset", "to-left"]);
    assert_eq!(
        (missing.code, missing.err.as_str()),
        (1, "error: there is no VPN connection \"to-left\"\n")
    );
    assert_eq!(isthmus(&fake, &["vpn", "connection", "reset"]).code, 2);
}

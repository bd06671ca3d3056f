//! `isthmus vpn doctor`: each layer of a connection with its truth, what is wrong and how to mend it, and what happened last.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use isthmus_hostplan::diagnosis::{ChildSaReport, FindingReport, FindingSeverity, IkeSaReport};
use isthmus_hostplan::{ConnectionReport, PeerEndpoint, TunnelState};
use isthmus_runtime::clock;
use isthmus_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::context::{Context, print};
use super::options::OutputFormat;
use super::output;

/// Options of `vpn doctor`.
#[derive(Debug, Args)]
pub struct Options {
    /// Name or id of the connection.
    connection: String,
    /// The gateway that it is on, if its name alone does not tell.
    #[arg(long)]
    gateway: Option<String>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// What the server knows.
#[derive(Debug, Deserialize, Serialize)]
struct Knowledge {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<PeerEndpoint>,
    report: Option<ConnectionReport>,
    heard_ms_ago: Option<u64>,
}

/// Tells how a connection is. Fails with 1 if it is down though it should not be, or something will soon break it.
pub async fn run(options: Options, context: &Context) -> anyhow::Result<ExitCode> {
    let (gateway, connection) = context
        .connection(&options.connection, options.gateway.as_deref())
        .await?;
    let answer = context
        .client
        .connection_doctor(&gateway.id, &connection.id)
        .await?;
    let knowledge: Knowledge =
        serde_json::from_value(answer).context("the server's answer is not understood")?;
    let text = if options.json || context.output == OutputFormat::Json {
        output::json(&knowledge)?
    } else {
        let mut text = format!(
            "{} on {}, peer {}\n",
            connection.name,
            gateway.name,
            match &knowledge.peer {
                Some(PeerEndpoint::Anywhere) => "anywhere",
                Some(PeerEndpoint::Address { .. } | PeerEndpoint::Name { .. }) | None =>
                    connection.peer.host(),
            }
        );
        render(&mut text, &knowledge, clock::now());
        text
    };
    print(&text)?;
    Ok(if is_healthy(&knowledge) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn is_healthy(knowledge: &Knowledge) -> bool {
    let Some(report) = &knowledge.report else {
        return false;
    };
    let runs = match report.state {
        TunnelState::AdminDown | TunnelState::Up => true,
        TunnelState::Down { .. } => false,
    };
    let grave = |finding: &FindingReport| finding.severity == FindingSeverity::Error;
    runs && !report.diagnosis.findings.iter().any(grave)
}

fn render(text: &mut String, knowledge: &Knowledge, now: Timestamp) {
    if let Some(silence) = knowledge.heard_ms_ago.filter(|silence| *silence > 30_000) {
        let _ = writeln!(
            text,
            "the host has not been heard for {} s: this is what it said last",
            silence / 1000
        );
    }
    let Some(report) = &knowledge.report else {
        text.push_str("the host has not reported this connection yet\n");
        return;
    };
    let diagnosis = &report.diagnosis;
    let since = age(now, report.since);
    match &report.state {
        TunnelState::AdminDown => layer(text, "state", &format!("switched off for {since}")),
        TunnelState::Down { detail, .. } => layer(text, "state", &format!("DOWN for {since}: {detail}")),
        TunnelState::Up => layer(text, "state", &format!("up for {since}")),
    }
    match &diagnosis.ike {
        None => layer(text, "IKE SA", "none"),
        Some(ike) => layer(text, "IKE SA", &ike_words(ike, now)),
    }
    if diagnosis.children.is_empty() {
        layer(text, "child SAs", "none");
    }
    for child in &diagnosis.children {
        layer(text, "child SA", &child_words(child, now));
        let traffic = &child.traffic;
        layer(
            text,
            "",
            &format!(
                "{} packets in ({} bytes), {} out ({} bytes)",
                traffic.packets_in, traffic.bytes_in, traffic.packets_out, traffic.bytes_out
            ),
        );
    }
    layer(
        text,
        "packets",
        &format!(
            "{} in ({} bytes), {} out ({} bytes)",
            report.packets_in, report.bytes_in, report.packets_out, report.bytes_out
        ),
    );
    let drops: Vec<String> = report
        .drops
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    layer(
        text,
        "drops",
        &if drops.is_empty() {
            "none".to_owned()
        } else {
            drops.join(", ")
        },
    );
    findings(text, &diagnosis.findings, now);
    if !diagnosis.events.is_empty() {
        text.push_str("\nlast events\n");
    }
    for event in &diagnosis.events {
        let times = if event.times > 1 {
            format!(" ({} times)", event.times)
        } else {
            String::new()
        };
        let _ = writeln!(text, "  {}  {}{times}", event.at, event.sentence);
    }
}

fn findings(text: &mut String, findings: &[FindingReport], now: Timestamp) {
    text.push_str(if findings.is_empty() {
        "\nnothing was found to be wrong\n"
    } else {
        "\nfindings\n"
    });
    for finding in findings {
        let severity = match finding.severity {
            FindingSeverity::Error => "ERROR",
            FindingSeverity::Info => "info",
            FindingSeverity::Warning => "warning",
        };
        // Some things are about no setting.
        let about = match finding.field.as_str() {
            "none" => String::new(),
            field => format!(" {field}"),
        };
        let _ = writeln!(text, "  {severity}{about}: {}", finding.sentence);
        if !finding.ours.is_empty() || !finding.theirs.is_empty() {
            let known = |value: &str| {
                if value.is_empty() {
                    "not known".to_owned()
                } else {
                    value.to_owned()
                }
            };
            let _ = writeln!(
                text,
                "    here: {}; there: {}",
                known(&finding.ours),
                known(&finding.theirs)
            );
        }
        if finding.suspects.len() > 1 {
            let _ = writeln!(text, "    may be: {}", finding.suspects.join(", "));
        }
        if !finding.fix.is_empty() {
            let _ = writeln!(text, "    fix: {}", finding.fix);
        }
        let _ = writeln!(
            text,
            "    seen {}, last {} ago",
            match finding.times {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            },
            age(now, finding.last_at)
        );
    }
}

fn ike_words(ike: &IkeSaReport, now: Timestamp) -> String {
    let translation = match (ike.nat_here, ike.nat_there) {
        (false, false) => "no translation found",
        (false, true) => "the peer behind translation or forcing encapsulation",
        (true, false) => "we behind translation, or the peer forcing encapsulation",
        (true, true) => "both ends behind translation or forcing encapsulation",
    };
    format!(
        "version {} with {}, {}, for {}, heard {} ago, {translation}",
        ike.version,
        ike.peer,
        ike.suite,
        age(now, ike.established_at),
        age(now, ike.heard_at)
    )
}

fn child_words(child: &ChildSaReport, now: Timestamp) -> String {
    let rekey = child.rekey_at.map_or_else(
        || "replaced by the peer".to_owned(),
        |at| format!("replaced in {}", age(at, now)),
    );
    format!(
        "{} === {}, {}, SPIs {:08x} in {:08x} out, for {}, {rekey}",
        child.local.join(","),
        child.remote.join(","),
        child.suite,
        child.inbound_spi,
        child.outbound_spi,
        age(now, child.installed_at)
    )
}

fn layer(text: &mut String, name: &str, words: &str) {
    let _ = writeln!(text, "  {name:<10} {words}");
}

/// The time between two moments, in words.
fn age(later: Timestamp, earlier: Timestamp) -> String {
    let seconds = later.since(earlier) / 1000;
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use isthmus_hostplan::{Diagnosis, DownReason};
    use isthmus_types::{ResourceBits, VpnConnectionId};

    use super::*;

    fn knowledge(state: TunnelState, severity: Option<FindingSeverity>) -> Knowledge {
        let finding = severity.map(|severity| FindingReport {
            code: "key_mismatch".to_owned(),
            severity,
            field: "psk".to_owned(),
            suspects: vec!["psk".to_owned()],
            sentence: "the peer proved another key".to_owned(),
            fix: "set the same key".to_owned(),
            ours: String::new(),
            theirs: String::new(),
            first_at: Timestamp(1_000),
            last_at: Timestamp(1_000),
            times: 3,
        });
        Knowledge {
            peer: None,
            report: Some(ConnectionReport {
                connection: VpnConnectionId::from(ResourceBits::from_random(1)),
                state,
                since: Timestamp(0),
                reset_count: 0,
                ike_suite: String::new(),
                esp_suite: String::new(),
                bytes_in: 0,
                bytes_out: 0,
                packets_in: 0,
                packets_out: 0,
                drops: vec![("replayed".to_owned(), 2)],
                totals: Vec::new(),
                diagnosis: Diagnosis {
                    findings: finding.into_iter().collect(),
                    ..Diagnosis::default()
                },
            }),
            heard_ms_ago: Some(100),
        }
    }

    #[test]
    fn health_is_neither_down_nor_a_grave_finding() {
        let down = TunnelState::Down {
            reason: DownReason::PeerNotResponding,
            detail: "no answer".to_owned(),
        };
        assert!(is_healthy(&knowledge(TunnelState::Up, None)));
        assert!(is_healthy(&knowledge(
            TunnelState::Up,
            Some(FindingSeverity::Warning)
        )));
        assert!(!is_healthy(&knowledge(
            TunnelState::Up,
            Some(FindingSeverity::Error)
        )));
        assert!(!is_healthy(&knowledge(down, None)));
        assert!(is_healthy(&knowledge(TunnelState::AdminDown, None)));
        let nothing = Knowledge {
            peer: None,
            report: None,
            heard_ms_ago: None,
        };
        assert!(!is_healthy(&nothing));
    }

    #[test]
    fn layers_findings_and_fixes_are_told() {
        let mut text = String::new();
        let known = knowledge(TunnelState::Up, Some(FindingSeverity::Error));
        render(&mut text, &known, Timestamp(61_000));
        assert_eq!(
            text,
            "  state      up for 61 s
  IKE SA     none
  child SAs  none
  packets    0 in (0 bytes), 0 out (0 bytes)
  drops      replayed 2

findings
  ERROR psk: the peer proved another key
    fix: set the same key
    seen 3 times, last 60 s ago
"
        );
    }
}

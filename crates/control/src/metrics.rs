//! What is planned and was reported, as Prometheus reads it (OpenMetrics text).
//!
//! Every series is about a connection, a gateway, or the installation as a whole, so their number follows the number of
//! resources. Labels hold words from closed lists and names of resources; what a peer sent is never a label.

use std::fmt;
use std::sync::atomic::AtomicU64;

use isthmus_hostplan::diagnosis::FindingSeverity;
use isthmus_hostplan::report::{PASS_BOUNDS, PassDurations};
use isthmus_hostplan::{
    ConnectionPlan, ConnectionReport, GatewayPlan, GatewayReport, ObjectState, TunnelState,
};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::http::Health;

/// Type of the content that scrapers get.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Totals that count SAs that took the place of others, with the layer that they are of.
const REPLACEMENTS: [(&str, &str); 2] = [("child_replaced", "child"), ("ike_replaced", "ike")];
/// The total that counts handshakes that succeeded.
const ESTABLISHED: &str = "ike_established";

/// What is shown of a gateway.
pub(crate) struct SeenGateway<'a> {
    pub plan: &'a GatewayPlan,
    /// What its host said last; none if it has not yet.
    pub report: Option<&'a GatewayReport>,
    pub connections: Vec<SeenConnection<'a>>,
}

/// What is shown of a connection.
pub(crate) struct SeenConnection<'a> {
    pub plan: &'a ConnectionPlan,
    /// What its host said last; none if it has not yet.
    pub report: Option<&'a ConnectionReport>,
}

/// What is shown of the installation.
pub(crate) struct SeenInstallation {
    pub health: Health,
    pub revision: u64,
    pub agent: Option<isthmus_hostplan::AgentCounters>,
}

type Labels = Vec<(&'static str, String)>;

/// A page of metrics being written.
struct Page(Registry);

/// The text of all series.
pub(crate) fn text(gateways: &[SeenGateway<'_>], installation: Option<SeenInstallation>) -> Option<String> {
    let mut page = Page(Registry::with_prefix("isthmus"));
    page.gateways(gateways);
    let connections: Vec<(Labels, &SeenConnection<'_>)> = gateways
        .iter()
        .flat_map(|gateway| {
            let name = &gateway.plan.name;
            let of = gateway.connections.iter();
            of.map(move |connection| (connection_labels(name, connection.plan), connection))
        })
        .collect();
    page.connections(&connections);
    page.traffic(&connections);
    page.events(&connections);
    if let Some(installation) = installation {
        page.installation(installation);
    }
    page.text()
}

fn connection_labels(gateway: &str, plan: &ConnectionPlan) -> Labels {
    vec![
        ("connection_id", plan.connection.bits().to_uuid()),
        ("connection", plan.name.clone()),
        ("gateway", gateway.to_owned()),
    ]
}

fn gateway_labels(plan: &GatewayPlan) -> Labels {
    vec![
        ("gateway_id", plan.gateway.bits().to_uuid()),
        ("gateway", plan.name.clone()),
    ]
}

fn and(labels: &Labels, more: impl IntoIterator<Item = (&'static str, String)>) -> Labels {
    labels.iter().cloned().chain(more).collect()
}

impl Page {
    fn gateways(&mut self, gateways: &[SeenGateway<'_>]) {
        let each = || {
            gateways
                .iter()
                .map(|gateway| (gateway_labels(gateway.plan), gateway))
        };
        let reported =
            || each().filter_map(|(labels, gateway)| gateway.report.map(|report| (labels, &report.counters)));
        self.gauge(
            "gateway_up",
            "Whether device, address and sockets of the gateway are there",
            each().map(|(labels, gateway)| {
                let up = gateway
                    .report
                    .is_some_and(|report| report.state == ObjectState::Present);
                (labels, flag(up))
            }),
        );
        self.gauge(
            "gateway_key_log",
            "Whether the gateway writes the keys of its SAs to files, in clear",
            each().map(|(labels, gateway)| (labels, flag(gateway.plan.key_log))),
        );
        self.gauge(
            "gateway_half_open_handshakes",
            "Handshakes of others that have not proved themselves yet",
            reported().map(|(labels, counters)| (labels, f64::from(counters.half_open))),
        );
        self.counter(
            "gateway_cookies_sent",
            "Handshakes that were answered with a cookie",
            reported().map(|(labels, counters)| (labels, counters.cookies_sent)),
        );
        self.counter(
            "gateway_stranger_messages",
            "IKE messages of no IKE SA, by what became of them",
            reported().flat_map(|(labels, counters)| {
                [
                    ("admitted", counters.strangers_admitted),
                    ("refused", counters.strangers_refused),
                ]
                .map(|(verdict, count)| (and(&labels, [("verdict", verdict.to_owned())]), count))
            }),
        );
        self.counter(
            "gateway_dropped_packets",
            "Packets at the gateway that belong to no connection, by reason",
            reported().flat_map(|(labels, counters)| drops(&labels, &counters.drops)),
        );
    }

    fn connections(&mut self, connections: &[(Labels, &SeenConnection<'_>)]) {
        let each = || connections.iter().map(|(labels, seen)| (labels.clone(), *seen));
        let reported = || each().filter_map(|(labels, seen)| seen.report.map(|report| (labels, report)));
        self.gauge(
            "connection_up",
            "Whether a Child SA is installed and the peer answers",
            each().map(|(labels, seen)| {
                let up = seen.report.is_some_and(|report| report.state == TunnelState::Up);
                (labels, flag(up))
            }),
        );
        self.gauge(
            "connection_admin_up",
            "Whether the connection should be up",
            each().map(|(labels, seen)| (labels, flag(seen.plan.admin_up))),
        );
        self.gauge(
            "connection_ike_sa_up",
            "Whether there is an authenticated IKE SA",
            reported().map(|(labels, report)| (labels, flag(report.diagnosis.ike.is_some()))),
        );
        self.gauge(
            "connection_child_sas",
            "Child SAs in use, by their ranges",
            reported().flat_map(|(labels, report)| {
                let mut found: Vec<(Labels, f64)> = Vec::new();
                for child in &report.diagnosis.children {
                    let ranges = [
                        ("local", child.local.join(",")),
                        ("remote", child.remote.join(",")),
                    ];
                    let labels = and(&labels, ranges);
                    match found.iter_mut().find(|(known, _)| *known == labels) {
                        Some((_, count)) => *count += 1.0,
                        None => found.push((labels, 1.0)),
                    }
                }
                found
            }),
        );
        self.gauge(
            "connection_heard_timestamp_seconds",
            "When something authentic of the peer came last",
            reported().filter_map(|(labels, report)| {
                let heard = report.diagnosis.ike.as_ref()?.heard_at;
                Some((labels, seconds(heard.0)))
            }),
        );
        self.gauge(
            "connection_finding",
            "1 for each thing that is wrong or worth knowing; isthmus vpn doctor has its sentence and the fix",
            reported().flat_map(|(labels, report)| {
                let findings = report.diagnosis.findings.iter();
                findings
                    .map(|finding| {
                        let severity = match finding.severity {
                            FindingSeverity::Error => "error",
                            FindingSeverity::Info => "info",
                            FindingSeverity::Warning => "warning",
                        };
                        let about = [
                            ("code", finding.code.clone()),
                            ("field", finding.field.clone()),
                            ("severity", severity.to_owned()),
                        ];
                        (and(&labels, about), 1.0)
                    })
                    .collect::<Vec<_>>()
            }),
        );
    }

    fn traffic(&mut self, connections: &[(Labels, &SeenConnection<'_>)]) {
        let reported = || {
            let each = connections.iter();
            each.filter_map(|(labels, seen)| seen.report.map(|report| (labels, report)))
        };
        let count = |of: fn(&ConnectionReport) -> u64| {
            reported()
                .map(|(labels, report)| (labels.clone(), of(report)))
                .collect::<Vec<_>>()
        };
        self.counter(
            "connection_received_bytes",
            "Bytes of inner packets received",
            count(|report| report.bytes_in),
        );
        self.counter(
            "connection_sent_bytes",
            "Bytes of inner packets sent",
            count(|report| report.bytes_out),
        );
        self.counter(
            "connection_received_packets",
            "Inner packets received",
            count(|report| report.packets_in),
        );
        self.counter(
            "connection_sent_packets",
            "Inner packets sent",
            count(|report| report.packets_out),
        );
        self.counter(
            "connection_dropped_packets",
            "Packets dropped, by reason",
            reported().flat_map(|(labels, report)| drops(labels, &report.drops)),
        );
    }

    fn events(&mut self, connections: &[(Labels, &SeenConnection<'_>)]) {
        let reported = || {
            let each = connections.iter();
            each.filter_map(|(labels, seen)| seen.report.map(|report| (labels, report)))
        };
        let total = |report: &ConnectionReport, wanted: &str| {
            let mut totals = report.totals.iter();
            totals
                .find(|(word, _)| word == wanted)
                .map_or(0, |(_, count)| *count)
        };
        self.counter(
            "connection_handshakes",
            "Handshakes that ended with an authenticated IKE SA",
            reported().map(|(labels, report)| (labels.clone(), total(report, ESTABLISHED))),
        );
        self.counter(
            "connection_rekeys",
            "SAs that were replaced while the connection was up, by layer",
            reported().flat_map(|(labels, report)| {
                REPLACEMENTS
                    .map(|(word, layer)| (and(labels, [("sa", layer.to_owned())]), total(report, word)))
            }),
        );
        self.counter(
            "connection_events",
            "What happened to the connection, by kind",
            reported().flat_map(|(labels, report)| {
                let totals = report.totals.iter();
                totals
                    .map(|(word, count)| (and(labels, [("event", word.clone())]), *count))
                    .collect::<Vec<_>>()
            }),
        );
    }

    fn installation(&mut self, installation: SeenInstallation) {
        let SeenInstallation {
            health,
            revision,
            agent,
        } = installation;
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of operations stay far below 2^53"
        )]
        let number = |value: u64| value as f64;
        self.single(
            "store_revision",
            "Revision of the newest committed state",
            number(revision),
        );
        self.single(
            "plan_generation",
            "Generation of the newest plan",
            number(health.generation.0),
        );
        if let Some(generation) = health.host_generation {
            self.single(
                "agent_generation",
                "Generation of the plan that the agent worked on last",
                number(generation.0),
            );
        }
        if let Some(silence) = health.heard_ms_ago {
            self.single(
                "agent_silence_seconds",
                "Time since the agent was heard last",
                seconds(silence),
            );
        }
        if let Some(status) = health.status {
            let converged = status == isthmus_hostplan::PlanStatus::Converged;
            self.single(
                "agent_converged",
                "Whether everything was observed as planned",
                flag(converged),
            );
        }
        let Some(agent) = agent else { return };
        self.single_counter(
            "agent_failed_passes",
            "Passes after which something was not as planned",
            agent.failed_passes,
        );
        self.single_counter(
            "agent_changes",
            "Kernel objects that passes made, changed or removed",
            agent.changes,
        );
        self.0.register_collector(Box::new(PassHistogram(agent.passes)));
    }

    fn single(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn single_counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn gauge(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn counter(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn text(&self) -> Option<String> {
        let mut text = String::new();
        // Writing to a string does not fail.
        prometheus_client::encoding::text::encode(&mut text, &self.0).ok()?;
        Some(text)
    }
}

#[derive(Debug)]
struct PassHistogram(PassDurations);

impl Collector for PassHistogram {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let passes = &self.0;
        let mut buckets: Vec<(f64, u64)> = PASS_BOUNDS
            .iter()
            .zip(passes.buckets)
            .map(|(micros, count)| (seconds(*micros) / 1_000.0, count))
            .collect();
        let listed: u64 = passes.buckets.iter().sum();
        buckets.push((f64::MAX, passes.count.saturating_sub(listed)));
        let mut metric = encoder.encode_descriptor(
            "agent_pass_duration_seconds",
            "How long a pass over a part of the plan took",
            None,
            MetricType::Histogram,
        )?;
        metric.encode_histogram::<NoLabelSet>(seconds(passes.micros) / 1_000.0, passes.count, &buckets, None)
    }
}

fn drops(labels: &Labels, drops: &[(String, u64)]) -> Vec<(Labels, u64)> {
    let each = drops.iter();
    each.map(|(reason, count)| (and(labels, [("reason", reason.clone())]), *count))
        .collect()
}

const fn flag(value: bool) -> f64 {
    if value { 1.0 } else { 0.0 }
}

/// Milliseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact for times of the next thousands of years"
)]
const fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}

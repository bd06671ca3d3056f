//! What was measured: medians, ratios, the table for people, the object for programs, and the thresholds.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};

use crate::contender::{Kind, Measure};

/// What `--check` demands of our TCP rate over strongSwan's.
const LEAST_OVER_STRONGSWAN: f64 = 15.0;
/// What `--check` demands of our TCP rate over wireguard-go's.
const LEAST_OVER_WIREGUARD_GO: f64 = 2.0;
/// What `--check` demands of our TCP rate over that of plain routing.
const LEAST_OVER_PLAIN: f64 = 0.5;
/// What `--check` demands of our small packets per second over strongSwan's.
const LEAST_PACKETS_OVER_STRONGSWAN: f64 = 3.0;
/// What `--check` allows us to add to the round trip over plain routing, microseconds.
const MOST_ADDED: f64 = 80.0;

/// Every figure of every round.
#[derive(Clone, Debug, Default)]
pub struct Results(Vec<(Kind, Measure, Vec<f64>)>);

impl Results {
    /// Adds one figure.
    pub fn add(&mut self, kind: Kind, measure: Measure, value: f64) {
        let known = self.0.iter_mut().find(|(k, m, _)| (*k, *m) == (kind, measure));
        match known {
            Some((_, _, values)) => values.push(value),
            None => self.0.push((kind, measure, vec![value])),
        }
    }

    /// The median of a contender's figures of one measure.
    pub fn median(&self, kind: Kind, measure: Measure) -> Option<f64> {
        self.0
            .iter()
            .find(|(k, m, _)| (*k, *m) == (kind, measure))
            .map(|(_, _, values)| median(values))
    }

    /// One row for each contender and measure.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "", "median", "least", "most", "of plain", "of strongSwan"]);
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by_key(|(_, measure, _)| *measure);
        for (kind, measure, values) in rows {
            let middle = median(values);
            let beside = |other| {
                self.median(other, *measure)
                    .map_or(String::new(), |other| format!("{:.2}x", middle / other))
            };
            table.add_row([
                measure.title().to_owned(),
                kind.title().to_owned(),
                measure.show(middle),
                measure.show(values.iter().copied().fold(f64::INFINITY, f64::min)),
                measure.show(values.iter().copied().fold(0.0, f64::max)),
                beside(Kind::Plain),
                beside(Kind::Strongswan),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Every median and ratio by the name that programs know it by; null where it was not measured.
    pub fn summary(&self) -> Value {
        let number = |value: Option<f64>| value.map_or(Value::Null, Value::from);
        let mut summary = Map::new();
        for (measure, suffix) in [(Measure::Tcp, ""), (Measure::Tcp4, "_4")] {
            for (kind, name) in NAMES {
                let rate = self.median(kind, measure);
                summary.insert(format!("{name}_gbps{suffix}"), number(rate));
                if kind != Kind::Isthmus {
                    let ratio = self.ratio(measure, kind);
                    summary.insert(format!("ratio_{name}{suffix}"), number(ratio));
                }
            }
        }
        for (kind, name) in NAMES {
            let rate = self.median(kind, Measure::Packets);
            summary.insert(format!("pps_{name}"), number(rate));
            let round_trip = self.median(kind, Measure::RoundTrip);
            summary.insert(format!("rtt_{name}_us"), number(round_trip));
            if kind != Kind::Isthmus {
                let ratio = self.ratio(Measure::Packets, kind);
                summary.insert(format!("ratio_pps_{name}"), number(ratio));
            }
        }
        summary.insert("rtt_added_us".to_owned(), number(self.added()));
        Value::Object(summary)
    }

    /// What the project promises and these figures do not show, one sentence each.
    pub fn shortcomings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for measure in [Measure::Tcp, Measure::Tcp4] {
            for (kind, least) in [
                (Kind::Strongswan, LEAST_OVER_STRONGSWAN),
                (Kind::WireguardGo, LEAST_OVER_WIREGUARD_GO),
                (Kind::Plain, LEAST_OVER_PLAIN),
            ] {
                found.extend(self.below(measure, kind, least));
            }
        }
        found.extend(self.below(Measure::Packets, Kind::Strongswan, LEAST_PACKETS_OVER_STRONGSWAN));
        match self.added() {
            Some(added) if added <= MOST_ADDED => {}
            Some(added) => found.push(format!(
                "round trip: {added:.0} µs added to plain routing, {MOST_ADDED:.0} allowed"
            )),
            None => found.push("round trip: not measured".to_owned()),
        }
        found
    }

    fn below(&self, measure: Measure, kind: Kind, least: f64) -> Option<String> {
        match self.ratio(measure, kind) {
            Some(ratio) if ratio >= least => None,
            Some(ratio) => Some(format!(
                "{}: {ratio:.2} of {}, {least} demanded",
                measure.title(),
                kind.title()
            )),
            None => Some(format!("{}: not compared with {}", measure.title(), kind.title())),
        }
    }

    fn ratio(&self, measure: Measure, over: Kind) -> Option<f64> {
        Some(self.median(Kind::Isthmus, measure)? / self.median(over, measure)?)
    }

    fn added(&self) -> Option<f64> {
        let measure = Measure::RoundTrip;
        Some(self.median(Kind::Isthmus, measure)? - self.median(Kind::Plain, measure)?)
    }
}

const NAMES: [(Kind, &str); 4] = [
    (Kind::Plain, "plain"),
    (Kind::Isthmus, "isthmus"),
    (Kind::WireguardGo, "wireguard_go"),
    (Kind::Strongswan, "strongswan"),
];

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Results {
        let mut results = Results::default();
        for (kind, rate, packets, round_trip) in [
            (Kind::Plain, 15.0, 600e3, 20.0),
            (Kind::Isthmus, 9.0, 300e3, 90.0),
            (Kind::WireguardGo, 4.0, 100e3, 200.0),
            (Kind::Strongswan, 0.5, 60e3, 300.0),
        ] {
            results.add(kind, Measure::Tcp, rate);
            results.add(kind, Measure::Tcp4, rate);
            results.add(kind, Measure::Packets, packets);
            results.add(kind, Measure::RoundTrip, round_trip);
        }
        results
    }

    #[test]
    fn median_is_the_middle_or_the_mean_of_both_middles() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_promised_and_kept_is_no_shortcoming() {
        assert_eq!(good().shortcomings(), Vec::<String>::new());
        assert_eq!(good().summary()["ratio_strongswan"], 18.0);
        assert_eq!(good().summary()["rtt_added_us"], 70.0);
    }

    #[test]
    fn each_figure_that_falls_short_is_named() {
        let mut slow = good();
        slow.add(Kind::Isthmus, Measure::Tcp, 1.0);
        slow.add(Kind::Isthmus, Measure::Packets, 1.0);
        slow.add(Kind::Isthmus, Measure::RoundTrip, 200.0);
        let found = slow.shortcomings();
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(
            found[0].starts_with("TCP, 1 flow: 10.00 of strongSwan"),
            "{found:?}"
        );
    }

    #[test]
    fn what_was_not_measured_is_not_kept() {
        assert_eq!(Results::default().shortcomings().len(), 8);
        assert_eq!(Results::default().summary()["isthmus_gbps"], Value::Null);
    }
}

//! An nft table: how it should be, how it is, and the one transaction that leads from one to the other.
//!
//! A rule is compared by a stamp that its comment carries, so that the comparison does not depend on how one version
//! of nft or another writes a rule out: a rule that somebody deletes, adds or moves shows, and so do flushed chains,
//! set elements, hooks and policies. A table is changed in place, never deleted and made again: chains stay
//! hooked, counters keep counting, and every packet sees either the old rules or the new.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

/// Identity of an nft table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table {
    /// Address family, as nft writes it: `inet`, `netdev`.
    pub family: String,
    /// Name.
    pub name: String,
}

impl Table {
    /// The table of every VPC router.
    pub fn router() -> Self {
        Self {
            family: "inet".to_owned(),
            name: "isthmus".to_owned(),
        }
    }
}

/// What a base chain is hooked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// `filter` or `nat`.
    pub kind: String,
    /// The hook, such as `forward`.
    pub hook: String,
    /// The device, where the hook belongs to one.
    pub device: Option<String>,
    /// The lower comes first.
    pub priority: i64,
    /// `accept` or `drop`.
    pub policy: String,
}

/// A rule in nft's language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NftRule {
    /// The statement.
    pub text: String,
    /// What it is for, in a word or two, shown in listings.
    pub note: String,
}

impl NftRule {
    /// What the rule's comment says: the note and a digest of the statement.
    pub fn stamp(&self) -> String {
        format!("{} {:016x}", self.note, digest(&self.text))
    }
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its hook; none for a chain that others jump to.
    pub base: Option<BaseChain>,
    /// Its rules in order.
    pub rules: Vec<NftRule>,
}

impl Chain {
    pub(crate) fn hooked(kind: &str, hook: &str, priority: i64, policy: &str) -> Self {
        let base = BaseChain {
            kind: kind.to_owned(),
            hook: hook.to_owned(),
            device: None,
            priority,
            policy: policy.to_owned(),
        };
        Self {
            base: Some(base),
            rules: Vec::new(),
        }
    }

    pub(crate) fn rule(mut self, note: &str, text: impl Into<String>) -> Self {
        self.rules.push(NftRule {
            text: text.into(),
            note: note.to_owned(),
        });
        self
    }
}

/// A set, or a map to verdicts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Types of the key's parts, such as `ifname`, `ipv4_addr`.
    pub key: Vec<String>,
    /// Whether elements may be ranges.
    pub interval: bool,
    /// Whether elements lead to verdicts.
    pub verdicts: bool,
    /// Key parts and verdict; the verdict is empty in a plain set.
    pub elements: BTreeMap<Vec<String>, String>,
}

impl Set {
    pub(crate) fn of(key: &[&str]) -> Self {
        Self {
            key: key.iter().map(|&part| part.to_owned()).collect(),
            interval: false,
            verdicts: false,
            elements: BTreeMap::new(),
        }
    }

    pub(crate) fn ranges_of(key: &[&str]) -> Self {
        Self {
            interval: true,
            ..Self::of(key)
        }
    }

    pub(crate) fn verdicts_of(key: &[&str]) -> Self {
        Self {
            verdicts: true,
            ..Self::of(key)
        }
    }

    pub(crate) fn with<const N: usize>(mut self, elements: impl IntoIterator<Item = [String; N]>) -> Self {
        self.elements
            .extend(elements.into_iter().map(|parts| (parts.to_vec(), String::new())));
        self
    }

    fn same_shape(&self, other: &Self) -> bool {
        self.key == other.key && self.interval == other.interval && self.verdicts == other.verdicts
    }

    const fn word(&self) -> &'static str {
        if self.verdicts { "map" } else { "set" }
    }
}

/// A table as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Named counters.
    pub counters: BTreeSet<String>,
}

/// A chain as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedChain {
    /// Its hook.
    pub base: Option<BaseChain>,
    /// The comment of each rule in order; empty if a rule has none.
    pub stamps: Vec<String>,
}

/// A table as observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedRuleset {
    /// Chains by name.
    pub chains: BTreeMap<String, ObservedChain>,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Named counters with packets counted.
    pub counters: BTreeMap<String, u64>,
}

/// The text is not what `nft -j list table` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListingError;

impl std::fmt::Display for ListingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a listing of an nft table")
    }
}

impl std::error::Error for ListingError {}

impl Ruleset {
    /// Whether `observed` is exactly this, counts apart.
    pub fn matches(&self, observed: &ObservedRuleset) -> bool {
        self.sets == observed.sets
            && self.counters.iter().eq(observed.counters.keys())
            && self.chains.len() == observed.chains.len()
            && self.chains.iter().all(|(name, chain)| {
                observed.chains.get(name).is_some_and(|found| {
                    same_hook(found.base.as_ref(), chain.base.as_ref())
                        && found.stamps.len() == chain.rules.len()
                        && found
                            .stamps
                            .iter()
                            .zip(&chain.rules)
                            .all(|(stamp, rule)| *stamp == rule.stamp())
                })
            })
    }

    /// What would be observed if the kernel had exactly this.
    pub fn as_observed(&self) -> ObservedRuleset {
        let chain = |chain: &Chain| ObservedChain {
            base: chain.base.clone(),
            stamps: chain.rules.iter().map(NftRule::stamp).collect(),
        };
        ObservedRuleset {
            chains: self
                .chains
                .iter()
                .map(|(name, c)| (name.clone(), chain(c)))
                .collect(),
            sets: self.sets.clone(),
            counters: self.counters.iter().map(|name| (name.clone(), 0)).collect(),
        }
    }

    /// The transaction that brings `table` from what was observed to this, for `nft -f`. Sent as one piece, it is
    /// carried out whole or not at all.
    pub fn transaction(&self, table: &Table, observed: Option<&ObservedRuleset>) -> String {
        let nothing = ObservedRuleset::default();
        let observed = observed.unwrap_or(&nothing);
        let at = format!("{} {}", table.family, table.name);
        let mut script = String::with_capacity(4096);
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = script.write_fmt(text);
            script.push('\n');
        };
        line(format_args!("add table {at}"));
        line(format_args!("flush table {at}"));
        for (name, set) in &observed.sets {
            line(format_args!("flush {} {at} {name}", set.word()));
        }
        for (name, chain) in &observed.chains {
            // A base chain hooked in another way cannot be changed, only made anew.
            if self
                .chains
                .get(name)
                .is_none_or(|wanted| wanted.base != chain.base)
            {
                line(format_args!("delete chain {at} {name}"));
            }
        }
        for (name, set) in &observed.sets {
            if self.sets.get(name).is_none_or(|wanted| !wanted.same_shape(set)) {
                line(format_args!("delete {} {at} {name}", set.word()));
            }
        }
        for name in observed
            .counters
            .keys()
            .filter(|name| !self.counters.contains(*name))
        {
            line(format_args!("delete counter {at} {name}"));
        }
        for name in &self.counters {
            line(format_args!("add counter {at} {name}"));
        }
        for (name, chain) in &self.chains {
            line(format_args!("add chain {at} {name}{}", hook(chain)));
        }
        for (name, set) in &self.sets {
            line(format_args!(
                "add {} {at} {name} {{ type {}{}; {} }}",
                set.word(),
                set.key.join(" . "),
                if set.verdicts { " : verdict" } else { "" },
                if set.interval { "flags interval;" } else { "" },
            ));
            if !set.elements.is_empty() {
                let elements: Vec<String> = set
                    .elements
                    .iter()
                    .map(|(k, v)| element(&set.key, k, v))
                    .collect();
                line(format_args!(
                    "add element {at} {name} {{ {} }}",
                    elements.join(", ")
                ));
            }
        }
        for (name, chain) in &self.chains {
            for rule in &chain.rules {
                line(format_args!(
                    "add rule {at} {name} {} comment \"{}\"",
                    rule.text,
                    rule.stamp()
                ));
            }
        }
        script
    }
}

impl ObservedRuleset {
    /// Reads what `nft -j list table` wrote.
    ///
    /// # Errors
    /// [`ListingError`] if the text has another form.
    pub fn from_listing(text: &str) -> Result<Self, ListingError> {
        let listing: Value = serde_json::from_str(text).map_err(|_| ListingError)?;
        let entries = listing["nftables"].as_array().ok_or(ListingError)?;
        let mut found = Self::default();
        for entry in entries {
            if let Some(chain) = entry.get("chain") {
                let observed = ObservedChain {
                    base: observed_base(chain),
                    stamps: Vec::new(),
                };
                found.chains.insert(text_of(chain, "name")?, observed);
            } else if let Some(rule) = entry.get("rule") {
                let stamp = rule["comment"].as_str().unwrap_or_default().to_owned();
                let chain = found
                    .chains
                    .get_mut(&text_of(rule, "chain")?)
                    .ok_or(ListingError)?;
                chain.stamps.push(stamp);
            } else if let Some(set) = entry.get("set").or_else(|| entry.get("map")) {
                found.sets.insert(text_of(set, "name")?, observed_set(set)?);
            } else if let Some(counter) = entry.get("counter") {
                let packets = counter["packets"].as_u64().unwrap_or_default();
                found.counters.insert(text_of(counter, "name")?, packets);
            }
        }
        Ok(found)
    }
}

// Some versions of nft do not tell the device of a hook.
fn same_hook(found: Option<&BaseChain>, wanted: Option<&BaseChain>) -> bool {
    match (found, wanted) {
        (None, None) => true,
        (Some(found), Some(wanted)) => {
            let told = BaseChain {
                device: found.device.clone().or_else(|| wanted.device.clone()),
                ..found.clone()
            };
            told == *wanted
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

fn text_of(value: &Value, key: &str) -> Result<String, ListingError> {
    value[key].as_str().map(str::to_owned).ok_or(ListingError)
}

fn observed_base(chain: &Value) -> Option<BaseChain> {
    Some(BaseChain {
        kind: chain["type"].as_str()?.to_owned(),
        hook: chain["hook"].as_str()?.to_owned(),
        device: chain["dev"].as_str().map(str::to_owned),
        priority: chain["prio"].as_i64()?,
        policy: chain["policy"].as_str()?.to_owned(),
    })
}

fn observed_set(set: &Value) -> Result<Set, ListingError> {
    let key = match &set["type"] {
        Value::String(single) => vec![single.clone()],
        Value::Array(parts) => parts
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return Err(ListingError),
    };
    let interval = set["flags"]
        .as_array()
        .is_some_and(|flags| flags.iter().any(|flag| flag == "interval"));
    let verdicts = set["map"] == "verdict";
    let mut elements = BTreeMap::new();
    for element in set["elem"].as_array().into_iter().flatten() {
        let (key, verdict) = match (verdicts, element.as_array()) {
            (true, Some(pair)) => (pair.first(), pair.get(1).map(verdict_text).unwrap_or_default()),
            _ => (Some(element), String::new()),
        };
        elements.insert(key_parts(key.ok_or(ListingError)?), verdict);
    }
    Ok(Set {
        key,
        interval,
        verdicts,
        elements,
    })
}

fn key_parts(key: &Value) -> Vec<String> {
    let key = key.get("elem").map_or(key, |wrapped| &wrapped["val"]);
    match key.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(key_part).collect(),
        None => vec![key_part(key)],
    }
}

fn key_part(part: &Value) -> String {
    if let Some(prefix) = part.get("prefix") {
        let address = prefix["addr"].as_str().unwrap_or_default();
        return format!("{address}/{}", prefix["len"]);
    }
    part.as_str().map_or_else(|| part.to_string(), str::to_owned)
}

fn verdict_text(verdict: &Value) -> String {
    let Some((word, detail)) = verdict.as_object().and_then(|object| object.iter().next()) else {
        return verdict.to_string();
    };
    match detail["target"].as_str() {
        Some(target) => format!("{word} {target}"),
        None => word.clone(),
    }
}

fn hook(chain: &Chain) -> String {
    chain.base.as_ref().map_or_else(String::new, |base| {
        let device = base
            .device
            .as_ref()
            .map_or_else(String::new, |name| format!(" device \"{name}\""));
        format!(
            " {{ type {} hook {}{device} priority {}; policy {}; }}",
            base.kind, base.hook, base.priority, base.policy
        )
    })
}

fn element(types: &[String], key: &[String], verdict: &str) -> String {
    let parts: Vec<String> = types
        .iter()
        .zip(key)
        .map(|(kind, part)| {
            if kind == "ifname" {
                format!("\"{part}\"")
            } else {
                part.clone()
            }
        })
        .collect();
    let key = parts.join(" . ");
    if verdict.is_empty() {
        key
    } else {
        format!("{key} : {verdict}")
    }
}

/// FNV-1a, 64 bits: tells texts apart; no defence against anyone.
pub(crate) fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = r#"{"nftables": [
        {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "isthmus", "handle": 1}},
        {"counter": {"family": "inet", "name": "drop-a", "table": "isthmus", "handle": 5, "packets": 3, "bytes": 252}},
        {"set": {"family": "inet", "name": "own", "table": "isthmus", "type": ["ifname", "ipv4_addr"], "handle": 1,
            "flags": ["interval"], "elem": [{"concat": ["p1", {"prefix": {"addr": "10.1.0.0", "len": 24}}]},
            {"concat": ["p2", "10.1.0.7"]}]}},
        {"map": {"family": "inet", "name": "m", "table": "isthmus", "type": "ifname", "handle": 7, "map": "verdict",
            "elem": [["p1", {"jump": {"target": "sg"}}], ["p2", {"drop": null}]]}},
        {"chain": {"family": "inet", "table": "isthmus", "name": "sg", "handle": 6}},
        {"chain": {"family": "inet", "table": "isthmus", "name": "forward", "handle": 9, "type": "filter",
            "hook": "forward", "prio": 0, "policy": "drop"}},
        {"rule": {"family": "inet", "table": "isthmus", "chain": "sg", "handle": 24, "comment": "x 1", "expr": []}},
        {"rule": {"family": "inet", "table": "isthmus", "chain": "sg", "handle": 25, "expr": []}}]}"#;

    #[test]
    fn reads_a_listing() {
        let found = ObservedRuleset::from_listing(LISTING).unwrap();
        assert_eq!(found.counters["drop-a"], 3);
        assert_eq!(found.chains["sg"].stamps, ["x 1", ""]);
        assert_eq!(
            found.chains["forward"].base,
            Chain::hooked("filter", "forward", 0, "drop").base
        );
        let own = Set::ranges_of(&["ifname", "ipv4_addr"]).with([
            ["p1".to_owned(), "10.1.0.0/24".to_owned()],
            ["p2".to_owned(), "10.1.0.7".to_owned()],
        ]);
        assert_eq!(found.sets["own"], own);
        assert_eq!(found.sets["m"].elements[&vec!["p1".to_owned()]], "jump sg");
        assert_eq!(found.sets["m"].elements[&vec!["p2".to_owned()]], "drop");
    }

    #[test]
    fn refuses_what_is_no_listing() {
        for text in ["", "{}", "[]", r#"{"nftables": [{"rule": {"chain": "gone"}}]}"#] {
            assert_eq!(ObservedRuleset::from_listing(text), Err(ListingError), "{text}");
        }
    }

    #[test]
    fn every_kind_of_drift_shows() {
        let chain = Chain::hooked("filter", "forward", 0, "drop")
            .rule("a", "accept")
            .rule("b", "drop");
        let mut wanted = Ruleset::default();
        wanted.chains.insert("forward".to_owned(), chain);
        wanted
            .sets
            .insert("s".to_owned(), Set::of(&["ifname"]).with([["p1".to_owned()]]));
        wanted.counters.insert("c".to_owned());
        let good = wanted.as_observed();
        assert!(wanted.matches(&good));
        let drifts: [fn(&mut ObservedRuleset); 8] = [
            |found| found.chains.clear(),
            |found| found.sets.clear(),
            |found| found.counters.clear(),
            |found| found.chains.get_mut("forward").unwrap().stamps.clear(),
            |found| found.chains.get_mut("forward").unwrap().stamps.swap(0, 1),
            |found| {
                found
                    .chains
                    .get_mut("forward")
                    .unwrap()
                    .stamps
                    .push(String::new())
            },
            |found| {
                found
                    .chains
                    .get_mut("forward")
                    .unwrap()
                    .base
                    .as_mut()
                    .unwrap()
                    .policy = "accept".to_owned()
            },
            |found| found.sets.get_mut("s").unwrap().elements.clear(),
        ];
        for drift in drifts {
            let mut found = good.clone();
            drift(&mut found);
            assert!(!wanted.matches(&found), "{found:?}");
        }
        let mut counted = good;
        *counted.counters.get_mut("c").unwrap() = 9;
        assert!(wanted.matches(&counted));
    }
}

//! The matrix and the list of cases that are known to fail, as read from their files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

const CASES: &str = include_str!("../cases.txt");
const DISABLED: &str = include_str!("../disabled.txt");

/// What is done in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A tunnel's whole life.
    Cycle,
    /// A tunnel's life while the internet loses packets.
    Lossy,
    /// The peer dies and comes back.
    LostPeer,
    /// We die and come back.
    OwnRestart,
    /// The keys differ.
    WrongKey,
    /// The peer presents another identity than we demand, or demands another than we present.
    WrongIdentity,
    /// No IKE proposal in common.
    NoIkeProposal,
    /// No ESP proposal in common.
    NoEspProposal,
    /// The ranges do not overlap.
    NoSelectors,
}

/// Who starts the negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We do.
    Initiate,
    /// The peer does.
    Respond,
}

/// Who is behind a translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translated {
    /// Nobody.
    Nobody,
    /// We are.
    Ours,
    /// The peer is.
    Peer,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is done.
    pub scenario: Scenario,
    /// Who starts.
    pub role: Role,
    /// IKE proposal of both sides.
    pub ike: String,
    /// ESP proposal of both sides.
    pub esp: String,
    /// Subnets at each site.
    pub pairs: u8,
    /// Who is behind a translator.
    pub translated: Translated,
}

/// Every case, in the file's order.
pub fn cases() -> Result<Vec<Case>> {
    let cases = rows(CASES)
        .map(|row| case(row).with_context(|| format!("in the row {row:?} of cases.txt")))
        .collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    ensure!(names.len() == cases.len(), "a name stands twice in cases.txt");
    Ok(cases)
}

/// Names of the cases that are known to fail, each with the reason.
pub fn disabled(cases: &[Case]) -> Result<BTreeMap<String, String>> {
    let mut disabled = BTreeMap::new();
    for row in rows(DISABLED) {
        let (name, reason) = row
            .split_once(char::is_whitespace)
            .with_context(|| format!("no reason in the row {row:?} of disabled.txt"))?;
        ensure!(
            cases.iter().any(|case| case.name == name),
            "disabled.txt names {name:?}, which is no case"
        );
        disabled.insert(name.to_owned(), reason.trim().to_owned());
    }
    Ok(disabled)
}

fn rows(file: &str) -> impl Iterator<Item = &str> {
    file.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn case(row: &str) -> Result<Case> {
    let columns: Vec<&str> = row.split_whitespace().collect();
    let &[name, scenario, role, ike, esp, pairs, translated] = columns.as_slice() else {
        bail!("{} columns where seven should be", columns.len());
    };
    Ok(Case {
        name: name.to_owned(),
        scenario: match scenario {
            "cycle" => Scenario::Cycle,
            "lossy" => Scenario::Lossy,
            "lost-peer" => Scenario::LostPeer,
            "own-restart" => Scenario::OwnRestart,
            "wrong-key" => Scenario::WrongKey,
            "wrong-identity" => Scenario::WrongIdentity,
            "no-ike-proposal" => Scenario::NoIkeProposal,
            "no-esp-proposal" => Scenario::NoEspProposal,
            "no-selectors" => Scenario::NoSelectors,
            other => bail!("no scenario {other:?}"),
        },
        role: match role {
            "initiate" => Role::Initiate,
            "respond" => Role::Respond,
            other => bail!("no role {other:?}"),
        },
        ike: ike.to_owned(),
        esp: esp.to_owned(),
        pairs: pairs.parse().context("number of pairs")?,
        translated: match translated {
            "none" => Translated::Nobody,
            "ours" => Translated::Ours,
            "peer" => Translated::Peer,
            other => bail!("no translation {other:?}"),
        },
    })
}

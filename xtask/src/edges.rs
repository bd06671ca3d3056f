//! Who may know whom: the crate table as data, compared with what the manifests say.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::command::{root, say};
use crate::metadata::{self, Workspace};

/// How far a crate is from the machine: an edge points to a lower layer, or to a listed one of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Words shared by all.
    Vocabulary,
    /// No clock, no randomness of its own, no input or output.
    Pure,
    /// Meets the machine.
    Shell,
    /// Shipped executables.
    Binary,
    /// Shipped in no executable.
    Development,
}

/// One crate and what it may depend on.
pub struct Row {
    /// Name without `isthmus-`.
    pub name: &'static str,
    /// Its layer.
    pub layer: Layer,
    /// Crates that it may name in `[dependencies]`.
    pub may_know: &'static [&'static str],
}

const fn row(name: &'static str, layer: Layer, may_know: &'static [&'static str]) -> Row {
    Row {
        name,
        layer,
        may_know,
    }
}

/// The table. A binary may know every crate but those for development; a development crate, and any
/// package under `benches` or `suites`, every crate.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row("types", Layer::Vocabulary, &[]),
    row("ops", Layer::Vocabulary, &["types"]),
    row("hostplan", Layer::Vocabulary, &["types"]),
    row("wire", Layer::Pure, &["types"]),
    row("crypto", Layer::Pure, &["types"]),
    row("ike", Layer::Pure, &["crypto", "types", "wire"]),
    row("esp", Layer::Pure, &["crypto", "types", "wire"]),
    row("model", Layer::Pure, &["crypto", "ops", "types"]),
    row("plan", Layer::Pure, &["hostplan", "model", "ops", "types"]),
    row("fabric", Layer::Pure, &["hostplan", "types"]),
    row("ibm", Layer::Pure, &["ops", "types"]),
    row("peerconfig", Layer::Pure, &["hostplan", "types"]),
    row("runtime", Layer::Shell, &["types"]),
    row("store", Layer::Shell, &["crypto", "model", "ops", "runtime", "types"]),
    row("control", Layer::Shell, &["hostplan", "model", "ops", "plan", "runtime", "store", "types"]),
    row("api", Layer::Shell, &["ibm", "ops", "runtime", "store", "types"]),
    row("client", Layer::Shell, &["ops", "runtime", "types"]),
    row("netlink", Layer::Shell, &["fabric", "runtime", "types"]),
    row("agent", Layer::Shell, &["crypto", "fabric", "hostplan", "netlink", "runtime", "types"]),
    row("tunnel", Layer::Shell, &["crypto", "esp", "hostplan", "ike", "netlink", "runtime", "types", "wire"]),
    row("isthmus", Layer::Binary, &[]),
    row("simnet", Layer::Development, &[]),
    row("netlab", Layer::Development, &[]),
    row("xtask", Layer::Development, &[]),
];

/// Directories of packages for development: test suites and benchmarks of the whole.
const DEVELOPMENT: &[&str] = &["benches", "suites"];

/// Libraries that a vocabulary or pure crate may not name: they bring sockets, files, threads or a runtime.
const IMPURE: &[&str] = &[
    "axum",
    "hyper",
    "hyper-util",
    "netlink-sys",
    "nix",
    "rusqlite",
    "socket2",
    "tempfile",
    "tokio",
    "tower",
];

/// Names of the pure crates.
pub fn pure() -> impl Iterator<Item = &'static str> {
    TABLE
        .iter()
        .filter(|row| row.layer == Layer::Pure)
        .map(|row| row.name)
}

/// Compares the table and `docs/dependencies.md` with the workspace.
pub fn check() -> anyhow::Result<()> {
    let workspace = metadata::read()?;
    let document = root().join("docs/dependencies.md");
    let reasons =
        fs::read_to_string(&document).with_context(|| format!("cannot read {}", document.display()))?;
    let mut violations = edge_violations(&workspace);
    violations.extend(reason_violations(&workspace, &reasons));
    if !violations.is_empty() {
        bail!("{}", violations.join("\n"));
    }
    let edges: usize = workspace
        .packages
        .iter()
        .map(|p| p.dependencies.iter().filter(|d| d.ours).count())
        .sum();
    say(&format!(
        "{} crates, {edges} edges between them: as the table allows",
        workspace.packages.len()
    ))
}

fn edge_violations(workspace: &Workspace) -> Vec<String> {
    let rows: BTreeMap<_, _> = TABLE.iter().map(|row| (row.name, row)).collect();
    let development = |name: &str| {
        rows.get(short(name))
            .is_none_or(|row| row.layer == Layer::Development)
    };
    let mut violations = Vec::new();
    for package in &workspace.packages {
        let layer = match rows.get(short(&package.name)) {
            Some(row) => row.layer,
            None if is_development(&package.manifest) => Layer::Development,
            None => {
                violations.push(format!(
                    "{} is not in the table of xtask/src/edges.rs",
                    package.name
                ));
                continue;
            }
        };
        for dependency in &package.dependencies {
            if !dependency.ours {
                if layer <= Layer::Pure && !dependency.dev && IMPURE.contains(&dependency.name.as_str()) {
                    violations.push(format!(
                        "{} is pure and may not depend on {}",
                        package.name, dependency.name
                    ));
                }
                continue;
            }
            let target = short(&dependency.name);
            let allowed = match layer {
                Layer::Development => true,
                Layer::Binary => dependency.dev || !development(&dependency.name),
                Layer::Vocabulary | Layer::Pure | Layer::Shell => {
                    let listed = rows
                        .get(short(&package.name))
                        .is_some_and(|row| row.may_know.contains(&target));
                    listed
                        || (dependency.dev
                            && (development(&dependency.name)
                                || reaches(&rows, short(&package.name), target)))
                }
            };
            if !allowed {
                violations.push(format!("{} may not depend on {}", package.name, dependency.name));
            }
        }
    }
    violations
}

// What a crate's own dependencies know is linked into its tests in any case.
fn reaches(rows: &BTreeMap<&str, &Row>, from: &str, target: &str) -> bool {
    rows.get(from).is_some_and(|row| {
        row.may_know
            .iter()
            .any(|next| *next == target || reaches(rows, next, target))
    })
}

fn is_development(manifest: &Path) -> bool {
    let directory = manifest.ancestors().nth(2).and_then(Path::file_name);
    DEVELOPMENT.iter().any(|name| directory == Some(OsStr::new(name)))
}

// One line per external crate: "- `name`: why".
fn reason_violations(workspace: &Workspace, document: &str) -> Vec<String> {
    let used: BTreeSet<&str> = workspace
        .packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .filter(|dependency| !dependency.ours)
        .map(|dependency| dependency.name.as_str())
        .collect();
    let explained: BTreeSet<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once("`: "))
        .map(|(name, _)| name)
        .collect();
    let unexplained = used
        .difference(&explained)
        .map(|name| format!("docs/dependencies.md does not say why we depend on {name}"));
    let stale = explained
        .difference(&used)
        .map(|name| format!("docs/dependencies.md explains {name}, which nothing depends on"));
    unexplained.chain(stale).collect()
}

fn short(package: &str) -> &str {
    package.strip_prefix("isthmus-").unwrap_or(package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Dependency, Package};

    fn workspace(package: &str, dependency: &str, dev: bool, ours: bool) -> Workspace {
        Workspace {
            target: "target".into(),
            packages: vec![Package {
                name: package.to_owned(),
                executable: false,
                manifest: format!("/checkout/crates/{package}/Cargo.toml").into(),
                dependencies: vec![Dependency {
                    name: dependency.to_owned(),
                    dev,
                    ours,
                }],
            }],
        }
    }

    #[test]
    fn table_points_down_or_sideways_and_has_no_cycle() {
        // Each row may name only rows above it, which rules cycles out.
        for (index, row) in TABLE.iter().enumerate() {
            for target in row.may_know {
                let position = TABLE.iter().position(|other| other.name == *target);
                assert!(position.is_some_and(|p| p < index), "{} → {target}", row.name);
                assert!(
                    TABLE[position.unwrap()].layer <= row.layer,
                    "{} → {target}",
                    row.name
                );
            }
        }
    }

    #[test]
    fn new_edge_is_a_violation() {
        let found = edge_violations(&workspace("isthmus-ike", "isthmus-esp", false, true));
        assert_eq!(found, ["isthmus-ike may not depend on isthmus-esp"]);
        assert!(edge_violations(&workspace("isthmus-ike", "isthmus-wire", false, true)).is_empty());
    }

    #[test]
    fn tests_may_use_development_crates_and_shipped_code_may_not() {
        assert!(edge_violations(&workspace("isthmus-ike", "isthmus-simnet", true, true)).is_empty());
        assert_eq!(
            edge_violations(&workspace("isthmus-ike", "isthmus-simnet", false, true)).len(),
            1
        );
        assert_eq!(
            edge_violations(&workspace("isthmus", "isthmus-netlab", false, true)).len(),
            1
        );
    }

    #[test]
    fn tests_may_name_what_their_crate_knows_through_others() {
        assert!(edge_violations(&workspace("isthmus-control", "isthmus-crypto", true, true)).is_empty());
        assert_eq!(
            edge_violations(&workspace("isthmus-control", "isthmus-crypto", false, true)).len(),
            1
        );
        assert_eq!(
            edge_violations(&workspace("isthmus-control", "isthmus-netlink", true, true)).len(),
            1
        );
    }

    #[test]
    fn pure_crate_may_not_name_a_runtime() {
        assert_eq!(
            edge_violations(&workspace("isthmus-model", "tokio", false, false)).len(),
            1
        );
        assert!(edge_violations(&workspace("isthmus-store", "tokio", false, false)).is_empty());
    }

    #[test]
    fn crate_outside_the_table_is_a_violation() {
        assert_eq!(
            edge_violations(&workspace("isthmus-helpers", "serde", false, false)).len(),
            1
        );
    }

    #[test]
    fn suites_and_benchmarks_may_know_everything() {
        let mut workspace = workspace("isthmus-anything", "isthmus-api", false, true);
        workspace.packages[0].manifest = "/checkout/suites/anything/Cargo.toml".into();
        assert!(edge_violations(&workspace).is_empty());
    }

    #[test]
    fn every_external_crate_needs_a_reason_and_every_reason_a_crate() {
        let workspace = workspace("isthmus-store", "tokio", false, false);
        assert!(reason_violations(&workspace, "- `tokio`: sockets and timers").is_empty());
        assert_eq!(reason_violations(&workspace, "- `serde`: words").len(), 2);
    }
}

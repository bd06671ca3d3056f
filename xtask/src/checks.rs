//! The checks that a change has to pass.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::command::{cargo, root, say, step};
use crate::packages::{self, Set};
use crate::{clippy_files, edges};

/// Lines of one file, tests included, above which it has to be split.
const LONGEST_FILE: usize = 1000;

type Part = (&'static str, fn() -> anyhow::Result<()>);

/// What `lint` is made of, the quick parts first.
const PARTS: &[Part] = &[
    ("format", format),
    ("deps", edges::check),
    ("generated", || clippy_files::run(true)),
    ("sizes", sizes),
    ("clippy", clippy),
    ("docs", docs),
];

/// Everything but the tests, or the named parts of it.
pub fn lint(names: &[String]) -> anyhow::Result<()> {
    let known = |name: &str| PARTS.iter().any(|(part, _)| *part == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let parts: Vec<_> = PARTS.iter().map(|(part, _)| *part).collect();
        bail!("lint has no part {unknown:?}; it has {}", parts.join(", "));
    }
    for (name, part) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            part().with_context(|| format!("{name} does not pass"))?;
        }
    }
    Ok(())
}

fn format() -> anyhow::Result<()> {
    step("format", &mut cargo(["fmt", "--all", "--check"]))
}

fn clippy() -> anyhow::Result<()> {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ];
    step("clippy", &mut cargo(arguments))
}

fn docs() -> anyhow::Result<()> {
    let arguments = [
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
        "--quiet",
    ];
    step(
        "documentation",
        cargo(arguments).env("RUSTDOCFLAGS", "-D warnings"),
    )
}

/// Every test of the workspace; the runner's summary comes last.
pub fn test(filters: &[String]) -> anyhow::Result<()> {
    packages::require_root("testing on network namespaces")?;
    packages::ensure(Set::Test)?;
    let nextest = cargo(["nextest", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let filters = filters.iter().map(String::as_str);
    if nextest {
        if filters.len() == 0 {
            step(
                "documentation tests",
                &mut cargo(["test", "--doc", "--workspace", "--locked", "--quiet"]),
            )?;
        }
        let fixed = [
            "nextest",
            "run",
            "--workspace",
            "--locked",
            "--no-fail-fast",
            "--no-tests=warn",
        ];
        crate::command::run(&mut cargo(fixed.into_iter().chain(filters)))
    } else {
        say("cargo-nextest is not installed: using cargo test")?;
        let fixed = ["test", "--workspace", "--locked", "--no-fail-fast"];
        crate::command::run(&mut cargo(fixed.into_iter().chain(filters)))
    }
}

fn sizes() -> anyhow::Result<()> {
    let mut long = Vec::new();
    for directory in ["benches", "bins", "crates", "suites", "xtask"] {
        measure(&root().join(directory), &mut long)?;
    }
    if long.is_empty() {
        say(&format!("no file is longer than {LONGEST_FILE} lines"))
    } else {
        bail!("longer than {LONGEST_FILE} lines: {}", long.join(", "))
    }
}

fn measure(directory: &Path, long: &mut Vec<String>) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot list {}", directory.display()))?
            .path();
        if path.is_dir() {
            measure(&path, long)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let lines = text.lines().count();
            if lines > LONGEST_FILE {
                long.push(format!("{} ({lines})", path.display()));
            }
        }
    }
    Ok(())
}

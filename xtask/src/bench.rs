//! Benchmarks: each is a package of its own named `isthmus-bench-NAME`, built for release.

use std::io::{self, Write};

use anyhow::bail;

use crate::command::{self, cargo};
use crate::metadata;
use crate::packages::{self, Set};

const PREFIX: &str = "isthmus-bench-";

/// Runs the benchmark that the first argument names, with the rest of the arguments; lists them without one.
fn run_named(name: &str, rest: &[String]) -> anyhow::Result<()> {
    let package = format!("{PREFIX}{name}");
    if !names()?.iter().any(|known| known == name) {
        bail!(
            "there is no benchmark {name:?}; there are: {}",
            names()?.join(", ")
        );
    }
    packages::ensure(Set::Test)?;
    let fixed = [
        "run",
        "--quiet",
        "--release",
        "--locked",
        "--package",
        package.as_str(),
        "--",
    ];
    command::run(&mut cargo(
        fixed.into_iter().chain(rest.iter().map(String::as_str)),
    ))
}

/// The task.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    match arguments.split_first() {
        Some((name, rest)) if !name.starts_with('-') => run_named(name, rest),
        _ => {
            let mut out = io::stdout().lock();
            for name in names()? {
                writeln!(out, "{name}")?;
            }
            Ok(())
        }
    }
}

fn names() -> anyhow::Result<Vec<String>> {
    let packages = metadata::read()?.packages;
    let names = packages
        .iter()
        .filter_map(|package| package.name.strip_prefix(PREFIX));
    Ok(names.map(str::to_owned).collect())
}

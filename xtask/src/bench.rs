//! Benchmarks: each is a package of its own named `isthmus-bench-NAME`, built for release.

use std::io::{self, Write};

use anyhow::bail;

use crate::command::{self, cargo};
use crate::metadata::{self, Package};
use crate::packages::{self, Set};

const PREFIX: &str = "isthmus-bench-";

/// The task: runs the benchmark that the first argument names, with the rest of the arguments; lists them without one.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let benchmarks: Vec<Package> = metadata::read()?
        .packages
        .into_iter()
        .filter(|package| package.name.starts_with(PREFIX))
        .collect();
    let names = || {
        benchmarks
            .iter()
            .filter_map(|package| package.name.strip_prefix(PREFIX))
    };
    let Some((wanted, rest)) = arguments.split_first() else {
        let mut out = io::stdout().lock();
        return Ok(names().try_for_each(|name| writeln!(out, "{name}"))?);
    };
    let Some(package) = benchmarks
        .iter()
        .find(|package| package.name.strip_prefix(PREFIX) == Some(wanted))
    else {
        bail!(
            "there is no benchmark {wanted:?}; there are: {}",
            names().collect::<Vec<_>>().join(", ")
        );
    };
    packages::ensure(Set::Test)?;
    // A benchmark of the whole is a program; one of small pieces is run by criterion.
    let verb: &[&str] = if package.executable {
        &["run", "--release"]
    } else {
        &["bench"]
    };
    let fixed = ["--quiet", "--locked", "--package", package.name.as_str(), "--"];
    let arguments = verb
        .iter()
        .copied()
        .chain(fixed)
        .chain(rest.iter().map(String::as_str));
    command::run(&mut cargo(arguments))
}

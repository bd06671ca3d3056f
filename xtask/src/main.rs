//! Project tasks: `cargo xtask TASK`.
//!
//! Everything a developer or CI runs by hand is a task here. This package depends on next to nothing, so that it
//! builds within seconds on a machine that has nothing yet.

mod bench;
mod checks;
mod clippy_files;
mod command;
mod demo;
mod edges;
mod fuzz;
mod interop;
mod metadata;
mod packages;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::bail;

const HELP: &str = "\
Usage: cargo xtask TASK

  demo [--once]           build, start Isthmus, join two VPCs by VPN and prove it; --once ends after the proof
  test [FILTER...]        install what the tests need, run every test of the workspace
  interop [FILTER...]     install the IPsec peers that are missing, run the interoperability matrix (suites/interop/cases.txt)
  lint [PART...]          all of, or some of: format, deps, generated, sizes, clippy, docs
  deps                    check which crate knows which, and that docs/dependencies.md is complete (as lint deps)
  clippy-files [--check]  write (or check) the clippy.toml of each pure crate
  bench [NAME] [--json]   run a benchmark; without a name, list them
  fuzz [TARGET] [--seconds N]
                          look for inputs that break a fuzz target, or each in turn, for 60 seconds or N
  packages [SET]          install the Debian packages of a set (demo, test) that are missing
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let Some((task, rest)) = arguments.split_first() else {
        write!(io::stdout(), "{HELP}")?;
        return Ok(ExitCode::from(2));
    };
    match task.as_str() {
        "bench" => bench::run(rest)?,
        "clippy-files" => clippy_files::run(flag(rest, "--check")?)?,
        "demo" => match demo::run(flag(rest, "--once")?)? {},
        "deps" => edges::check()?,
        "fuzz" => fuzz::run(rest)?,
        "help" | "-h" | "--help" => write!(io::stdout(), "{HELP}")?,
        "interop" => interop::run(rest)?,
        "lint" => checks::lint(rest)?,
        "packages" => packages::ensure(packages::Set::parse(rest)?)?,
        "test" => checks::test(rest)?,
        other => bail!("there is no task {other:?}\n{HELP}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn flag(arguments: &[String], name: &str) -> anyhow::Result<bool> {
    match arguments {
        [] => Ok(false),
        [only] if only == name => Ok(true),
        other => bail!("expected nothing or {name}, found {other:?}"),
    }
}

//! Looking for inputs that break a fuzz target.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::command::{self, cargo, root, say};

const SECONDS: u32 = 60;

/// The task: runs one fuzz target, or all in turn, for some seconds each. Inputs that lead somewhere new are kept under
/// `target`, those that break something in `fuzz/crashes`.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let targets = targets()?;
    let (wanted, seconds) = parse(arguments)?;
    let chosen: Vec<&String> = match wanted {
        Some(name) => vec![targets.get(name).with_context(|| {
            let names: Vec<&str> = targets.iter().map(String::as_str).collect();
            format!("there is no target {name:?}; there are: {}", names.join(", "))
        })?],
        None => targets.iter().collect(),
    };
    install()?;
    for target in chosen {
        let found = root().join("target/fuzz/corpus").join(target);
        let seeds = root().join("fuzz/corpus").join(target);
        let crashes = root().join("fuzz/crashes").join(target);
        for directory in [&found, &seeds, &crashes] {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let mut command = cargo(["fuzz", "run", target]);
        command.args([&found, &seeds]).args([
            "--".to_owned(),
            format!("-max_total_time={seconds}"),
            format!("-artifact_prefix={}/", crashes.display()),
            "-print_final_stats=1".to_owned(),
            "-verbosity=0".to_owned(),
        ]);
        command::step(&format!("fuzz {target}"), on_stable(&mut command))?;
        // Git does not keep an empty directory, and neither do we.
        let _ = fs::remove_dir(&crashes);
    }
    Ok(())
}

/// cargo-fuzz needs options that only nightly compilers take, or one that is told to.
fn on_stable(command: &mut Command) -> &mut Command {
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", root().join("target/fuzz"))
}

fn install() -> anyhow::Result<()> {
    let installed = cargo(["fuzz", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if installed {
        return Ok(());
    }
    say("installing cargo-fuzz")?;
    command::run(&mut cargo(["install", "--locked", "--quiet", "cargo-fuzz"]))
}

fn targets() -> anyhow::Result<BTreeSet<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut targets = BTreeSet::new();
    for entry in entries {
        let path = entry?.path();
        targets.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    Ok(targets)
}

fn parse(arguments: &[String]) -> anyhow::Result<(Option<&str>, u32)> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| {
        text.parse::<u32>()
            .with_context(|| format!("{text:?} is no number of seconds"))
    };
    match words.as_slice() {
        [] => Ok((None, SECONDS)),
        ["--seconds", seconds] => Ok((None, number(seconds)?)),
        [target] => Ok((Some(target), SECONDS)),
        [target, "--seconds", seconds] => Ok((Some(target), number(seconds)?)),
        other => bail!("expected [TARGET] [--seconds N], found {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_a_target_and_a_time() {
        let parsed = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            parse(&words)
                .map(|(target, seconds)| (target.map(str::to_owned), seconds))
                .ok()
        };
        assert_eq!(parsed(&[]), Some((None, SECONDS)));
        assert_eq!(parsed(&["offload"]), Some((Some("offload".into()), SECONDS)));
        assert_eq!(
            parsed(&["offload", "--seconds", "5"]),
            Some((Some("offload".into()), 5))
        );
        assert_eq!(parsed(&["--seconds", "5"]), Some((None, 5)));
        assert_eq!(parsed(&["--seconds", "long"]), None);
        assert_eq!(parsed(&["offload", "packets"]), None);
    }
}

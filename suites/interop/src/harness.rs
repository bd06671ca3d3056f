//! Choosing, running and reporting cases, with the command line that test runners expect of a test program.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, bail};

use crate::scenario;
use crate::table::{self, Case};

/// Cases that run at the same time.
const AT_ONCE: usize = 4;

/// What the command line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The names are to be listed, and nothing is to be run.
    pub list: bool,
    ignored_only: bool,
    exact: bool,
    names: Vec<String>,
    skipped: Vec<String>,
}

/// How the reason of a case begins that passes at times, so that its passing tells nothing.
const UNSTABLE: &str = "unstable:";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// Does what `arguments` ask for.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let request = parse(arguments)?;
    let cases = table::cases()?;
    let disabled = table::disabled(&cases)?;
    let chosen: Vec<Case> = cases
        .into_iter()
        .filter(|case| request.wants(&case.name))
        .collect();
    if request.list {
        for case in &chosen {
            say(&format!("{}: test", case.name));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !chosen.is_empty() {
        isthmus_netlab::require()?;
    }
    let verdicts = run_all(&chosen, &disabled);
    let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let failed = count(Verdict::Failed);
    say(&format!(
        "{} passed, {failed} failed, {} skipped",
        count(Verdict::Passed),
        count(Verdict::Skipped)
    ));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Tells an error that is no case's.
pub fn complain(text: &str) {
    // Nobody is left to be told of a closed output.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a line of the account.
pub fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn run_all(cases: &[Case], disabled: &BTreeMap<String, String>) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = run_one(case, disabled.get(&case.name));
                    verdicts.lock().expect("no thread panics with it").push(verdict);
                }
            });
        }
    });
    verdicts.into_inner().expect("no thread panics with it")
}

fn run_one(case: &Case, reason: Option<&String>) -> Verdict {
    if let Some(reason) = reason.filter(|reason| reason.starts_with(UNSTABLE)) {
        say(&format!("skipped {:<28} not run  {reason}", case.name));
        return Verdict::Skipped;
    }
    let start = Instant::now();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| scenario::run(case)))
        .unwrap_or_else(|_| Err(anyhow!("panicked")));
    let seconds = start.elapsed().as_secs_f64();
    let name = &case.name;
    match (outcome, reason) {
        (Ok(account), None) => {
            say(&format!("passed  {name:<28} {seconds:5.1} s  {account}"));
            Verdict::Passed
        }
        (Err(error), None) => {
            // Without a backtrace, which says nothing here.
            let chain: Vec<String> = error.chain().rev().map(ToString::to_string).collect();
            say(&format!(
                "FAILED  {name:<28} {seconds:5.1} s  {}\n",
                chain.join("\n")
            ));
            Verdict::Failed
        }
        (Ok(_), Some(reason)) => {
            say(&format!(
                "FAILED  {name:<28} {seconds:5.1} s  passes, but disabled.txt says: {reason}"
            ));
            Verdict::Failed
        }
        (Err(_), Some(reason)) => {
            say(&format!("skipped {name:<28} {seconds:5.1} s  {reason}"));
            Verdict::Skipped
        }
    }
}

/// Reads the command line.
pub fn parse(arguments: &[String]) -> Result<Request> {
    let mut request = Request::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--list" => request.list = true,
            "--exact" => request.exact = true,
            "--ignored" => request.ignored_only = true,
            "--skip" => request.skipped.extend(rest.next().cloned()),
            "--format" | "--test-threads" | "--color" => drop(rest.next()),
            "--nocapture" | "--no-capture" | "--include-ignored" | "--quiet" | "-q" => {}
            option if option.starts_with('-') => {
                if !option.starts_with("--format=")
                    && !option.starts_with("--test-threads=")
                    && !option.starts_with("--color=")
                {
                    bail!("option {option:?} is not known");
                }
            }
            name => request.names.push(name.to_owned()),
        }
    }
    Ok(request)
}

impl Request {
    /// Whether the case of that name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact {
                name == pattern
            } else {
                name.contains(pattern.as_str())
            }
        };
        !self.ignored_only
            && (self.names.is_empty() || self.names.iter().any(matches))
            && !self.skipped.iter().any(matches)
    }
}

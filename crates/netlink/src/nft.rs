//! nftables through the `nft` program, in the namespace that the calling thread is in.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use isthmus_fabric::ruleset::{ListingError, ObservedRuleset};
use isthmus_fabric::{Ruleset, Table};

/// Why nft did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The listing has an unknown form.
    #[error("nft lists table {table} in an unknown form")]
    Listing {
        /// The table.
        table: String,
        /// What was wrong.
        #[source]
        source: ListingError,
    },
    /// The program refused.
    #[error("nft refused: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The program could not be run.
    #[error("running nft failed; is nftables installed?")]
    Run(#[source] io::Error),
}

/// Reads a table; none if there is no such table.
///
/// # Errors
/// [`NftError`] if the program cannot be run or writes something unknown.
pub fn observe(table: &Table) -> Result<Option<ObservedRuleset>, NftError> {
    let output = Command::new("nft")
        .args(["-j", "list", "table", &table.family, &table.name])
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(NftError::Run)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        if message.contains("No such file or directory") {
            return Ok(None);
        }
        return Err(refused(&message));
    }
    let listing = String::from_utf8_lossy(&output.stdout);
    let found = ObservedRuleset::from_listing(&listing).map_err(|source| NftError::Listing {
        table: table.name.clone(),
        source,
    })?;
    Ok(Some(found))
}

/// Brings a table from what was observed to `ruleset`, in one transaction.
///
/// # Errors
/// [`NftError::Refused`] if any part is refused; nothing has changed then.
pub fn replace(table: &Table, ruleset: &Ruleset, previous: Option<&ObservedRuleset>) -> Result<(), NftError> {
    transact(&ruleset.transaction(table, previous))
}

/// Removes a table; one that does not exist is removed already.
///
/// # Errors
/// [`NftError`] if the program cannot be run or refuses.
pub fn remove(table: &Table) -> Result<(), NftError> {
    let at = format!("{} {}", table.family, table.name);
    // Added first, so that deleting cannot fail for its absence.
    transact(&format!("add table {at}\ndelete table {at}\n"))
}

/// Names of all tables of a family.
///
/// # Errors
/// [`NftError`] if the program cannot be run or refuses.
pub fn tables(family: &str) -> Result<Vec<String>, NftError> {
    let output = Command::new("nft")
        .args(["list", "tables", family])
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .output()
        .map_err(NftError::Run)?;
    if !output.status.success() {
        return Err(refused(&String::from_utf8_lossy(&output.stderr)));
    }
    let listing = String::from_utf8_lossy(&output.stdout);
    Ok(listing
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .map(str::to_owned)
        .collect())
}

fn transact(script: &str) -> Result<(), NftError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env("LC_ALL", "C")
        .spawn()
        .map_err(NftError::Run)?;
    if let Some(mut input) = child.stdin.take() {
        // A refusal may close the pipe early; what nft says tells more than the broken pipe.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(NftError::Run)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refused(&String::from_utf8_lossy(&output.stderr)))
    }
}

// The first lines name the cause; the rest repeats the script.
fn refused(message: &str) -> NftError {
    let lines: Vec<&str> = message.lines().take(3).map(str::trim).collect();
    NftError::Refused {
        message: lines.join(" "),
    }
}

//! One reconcile pass over the kernel objects of one VPC, or of the host's own part.

use std::collections::BTreeMap;
use std::error::Error;

use isthmus_fabric::{Desired, Difference, Owner, diff};
use isthmus_netlink::{ObserveError, Visitor, visit};

/// How often a pass looks again after changes that all succeeded: a link that comes up may take others along.
const ROUNDS: usize = 3;

/// What a pass did, and what it found in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Number of changes made to the kernel.
    pub changes: usize,
    /// Objects that are not as planned, with the reason.
    pub failed: BTreeMap<Owner, String>,
    /// Objects that wait for something which is not ours to make.
    pub blocked: BTreeMap<Owner, String>,
}

impl Pass {
    /// Whether everything was observed as planned.
    pub fn is_converged(&self) -> bool {
        self.failed.is_empty() && self.blocked.is_empty()
    }
}

/// Why a pass could not be made at all.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The kernel could not be read.
    #[error("observing the kernel failed")]
    Observe(#[from] ObserveError),
    /// The thread for the pass could not be made.
    #[error("making the thread of the pass failed")]
    Thread(#[source] std::io::Error),
}

/// Observes, changes what differs, and observes again. Calls `settle` before each observation: what the kernel
/// announced until then is no news, since this very pass did it or is about to see it.
///
/// # Errors
/// [`PassError`] if the kernel cannot be read; changes that fail are told in the [`Pass`] instead.
pub fn reconcile(desired: &Desired, mut settle: impl FnMut() + Send) -> Result<Pass, PassError> {
    visit(|visitor| run(visitor, desired, &mut settle)).map_err(PassError::Thread)?
}

fn run(visitor: &mut Visitor, desired: &Desired, settle: &mut impl FnMut()) -> Result<Pass, PassError> {
    let mut pass = Pass::default();
    settle();
    let mut observed = visitor.observe(desired)?;
    for _ in 0..ROUNDS {
        let difference = diff(desired, &observed);
        if difference.steps.is_empty() {
            return Ok(conclude(pass, difference, BTreeMap::new()));
        }
        let errors = carry_out(visitor, &difference);
        pass.changes += difference.steps.len() - errors.len();
        settle();
        observed = visitor.observe(desired)?;
        if !errors.is_empty() {
            return Ok(conclude(pass, diff(desired, &observed), errors));
        }
    }
    Ok(conclude(pass, diff(desired, &observed), BTreeMap::new()))
}

// Every step is tried, also after one failed: what does not depend on it still gets done.
fn carry_out(visitor: &mut Visitor, difference: &Difference) -> BTreeMap<Owner, String> {
    let mut errors = BTreeMap::new();
    for step in &difference.steps {
        tracing::debug!(operation = %step.operation, "changing the kernel");
        if let Err(error) = visitor.execute(&step.operation) {
            let text = chain(&error);
            tracing::warn!(operation = %step.operation, error = text, "a change to the kernel failed");
            errors.entry(step.owner).or_insert(text);
        }
    }
    errors
}

// Only what is still missing counts, whatever failed on the way.
fn conclude(mut pass: Pass, rest: Difference, mut errors: BTreeMap<Owner, String>) -> Pass {
    for step in rest.steps {
        let reason = errors
            .remove(&step.owner)
            .unwrap_or_else(|| format!("{} is needed again after it was done", step.operation));
        pass.failed.entry(step.owner).or_insert(reason);
    }
    for blocked in rest.blocked {
        pass.blocked.entry(blocked.owner).or_insert(blocked.on);
    }
    pass
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

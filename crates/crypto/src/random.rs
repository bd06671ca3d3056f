//! Randomness of the operating system.

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct RandomError;

/// Fills `out` from the operating system.
///
/// # Errors
/// [`RandomError`] if the system has none; nothing secret may then be made.
pub fn fill(out: &mut [u8]) -> Result<(), RandomError> {
    getrandom::fill(out).map_err(|_| RandomError)
}

/// A seed for a generator that is handed to a sans-I/O core.
///
/// # Errors
/// [`RandomError`] if the system has no random bytes.
pub fn seed() -> Result<[u8; 32], RandomError> {
    let mut seed = [0; 32];
    fill(&mut seed)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_differ() {
        assert_ne!(super::seed().unwrap(), super::seed().unwrap());
    }
}

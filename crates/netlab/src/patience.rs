//! Waiting for a condition instead of for a time.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The one knob: a factor on every deadline, for slow or busy machines.
pub const PATIENCE_VARIABLE: &str = "ISTHMUS_PATIENCE";

const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long to wait for anything that should happen at once. Where many namespaces come and go on busy processors, a change of
/// one route alone has been seen to take ten seconds.
pub fn usual() -> Duration {
    stretched(Duration::from_secs(30))
}

/// `duration` times the factor in [`PATIENCE_VARIABLE`], which is 1 if the variable is absent or no positive number.
pub fn stretched(duration: Duration) -> Duration {
    let factor = env::var(PATIENCE_VARIABLE)
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .filter(|factor| factor.is_finite() && *factor > 0.0)
        .unwrap_or(1.0);
    duration.mul_f64(factor)
}

/// Asks `probe` until it yields a value, at most for the [`usual`] time.
///
/// # Errors
/// When time is up: what was waited for, and why the last probe had nothing.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Result<T>) -> Result<T> {
    eventually_within(usual(), what, probe)
}

/// Asks `probe` until it yields a value, at most for `limit`. The caller stretches `limit` where it is no requirement.
///
/// # Errors
/// When time is up: what was waited for, and why the last probe had nothing.
pub fn eventually_within<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                return Err(error).with_context(|| format!("waited {limit:?} in vain for {what}"));
            }
            Err(_) => {}
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Turns a condition into what [`eventually`] asks for.
///
/// # Errors
/// `otherwise`, when the condition does not hold.
pub fn holds(condition: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if !condition {
        bail!(otherwise());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yields_the_first_value_and_stops_asking() {
        let mut asked = 0;
        let value = eventually("three", || {
            asked += 1;
            holds(asked == 3, || format!("{asked} is not three"))?;
            Ok(asked)
        });
        assert_eq!(value.unwrap(), 3);
        assert_eq!(asked, 3);
    }

    #[test]
    fn tells_what_was_missing_when_time_is_up() {
        let never = eventually_within(Duration::from_millis(5), "the end of time", || -> Result<()> {
            bail!("it is early")
        });
        let text = format!("{:#}", never.unwrap_err());
        assert!(
            text.contains("the end of time") && text.contains("it is early"),
            "{text}"
        );
    }
}

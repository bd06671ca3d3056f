//! The operating system's wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use isthmus_types::Timestamp;

/// The present moment by the wall clock. Before 1970 it is the epoch.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

//! What a device cannot be told.

use std::fmt;

/// A device has no words for a setting without which the tunnel would not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inexpressible {
    /// The device.
    pub device: &'static str,
    /// Our setting, as a stable word such as `ike_proposals`, `peer_identity` or `psk`.
    pub field: &'static str,
    /// Why, in words.
    pub why: String,
}

impl Inexpressible {
    pub(crate) fn new(device: &'static str, field: &'static str, why: impl Into<String>) -> Self {
        Self {
            device,
            field,
            why: why.into(),
        }
    }
}

impl fmt::Display for Inexpressible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cannot express {}: {}", self.device, self.field, self.why)
    }
}

impl std::error::Error for Inexpressible {}

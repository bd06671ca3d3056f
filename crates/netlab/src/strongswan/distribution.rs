//! Which strongSwan runs.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Where `cargo xtask packages` puts a system with strongSwan 6. It is ours; remove it by hand when it is no longer wanted.
pub const STRONGSWAN6_ROOT: &str = "/var/cache/isthmus/strongswan6";

/// Plugins of every release. The order is the order of preference among implementations of an algorithm;
/// `kernel-libipsec` must stand before `kernel-netlink` to take over ESP from it.
const PLUGINS: &str = "random nonce openssl aes sha1 sha2 md5 hmac kdf gcm gmp curve25519 chapoly pem pkcs1 pkcs8 \
                       x509 revocation pubkey constraints socket-default kernel-libipsec kernel-netlink updown vici \
                       counters";

/// Which strongSwan runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// That of Debian stable, installed on this machine: its userspace ESP is always encapsulated in UDP.
    #[default]
    Installed,
    /// Release 6 in the directory [`STRONGSWAN6_ROOT`]: native ESP, ML-KEM.
    Release6,
}

impl Distribution {
    /// Directory that is its file system, seen from ours.
    pub fn root(self) -> PathBuf {
        match self {
            Self::Installed => "/".into(),
            Self::Release6 => STRONGSWAN6_ROOT.into(),
        }
    }

    /// The daemon, seen from its root.
    pub(super) const fn daemon(self) -> &'static str {
        "/usr/lib/ipsec/charon"
    }

    /// The plugins that it loads.
    pub(super) const fn plugins(self) -> &'static str {
        PLUGINS
    }

    /// Makes sure that it is there.
    ///
    /// # Errors
    /// When it is not: with the command that brings it.
    pub fn require(self) -> Result<()> {
        let root = self.root();
        let daemon = root.join(self.daemon().trim_start_matches('/'));
        ensure!(
            Path::new(&daemon).exists(),
            "{} is missing: run cargo xtask packages test",
            daemon.display()
        );
        Ok(())
    }
}

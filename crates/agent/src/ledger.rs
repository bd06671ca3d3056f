//! The plan in force, on disk and in memory. A plan is on disk before it is acted on.

use std::fs;
use std::io;
use std::path::PathBuf;

use isthmus_crypto::seal::{SealingError, SealingKey};
use isthmus_hostplan::{HostPlan, PlanDelta};
use isthmus_runtime::private_file;
use isthmus_types::{Generation, HostName, Realm};

/// What a sealed plan is bound to, so that no other sealed file passes for one.
const CONTEXT: &[u8] = b"isthmus host plan 1";

/// The plan in force.
pub(crate) struct Ledger {
    host: HostName,
    realm: Realm,
    file: PathBuf,
    key: SealingKey,
    plan: Option<HostPlan>,
}

/// Why a plan was not taken up, or could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It is for another host or installation.
    #[error("the plan is for host {host} of realm {realm}")]
    Addressee {
        /// The host it is for.
        host: HostName,
        /// The realm it is for.
        realm: Realm,
    },
    /// It has the generation of the plan in force and another content.
    #[error("a plan of generation {generation} has two contents")]
    Conflict {
        /// The generation.
        generation: Generation,
    },
    /// A file could not be read or written.
    #[error("{step} failed")]
    File {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The key file holds no key.
    #[error("the key file of the kept plan has a wrong length")]
    Key,
    /// It is older than the plan in force.
    #[error("the plan of generation {offered} is older than that in force, {kept}")]
    Older {
        /// Its generation.
        offered: Generation,
        /// The generation of the plan in force.
        kept: Generation,
    },
    /// The plan has no JSON form.
    #[error("writing the plan as JSON failed")]
    Render(#[source] serde_json::Error),
    /// Sealing failed.
    #[error("sealing the plan failed")]
    Seal(#[source] SealingError),
}

impl Ledger {
    /// Opens the ledger; a kept plan that cannot be read, or is for somebody else, is left alone and not used.
    pub(crate) fn open(
        host: HostName,
        realm: Realm,
        file: PathBuf,
        key_file: &std::path::Path,
    ) -> Result<Self, LedgerError> {
        let key = load_key(key_file)?;
        let mut ledger = Self {
            host,
            realm,
            file,
            key,
            plan: None,
        };
        match ledger.read() {
            Ok(plan) => ledger.plan = plan,
            Err(reason) => tracing::warn!(reason, "the kept plan cannot be used"),
        }
        Ok(ledger)
    }

    pub(crate) const fn plan(&self) -> Option<&HostPlan> {
        self.plan.as_ref()
    }

    pub(crate) fn generation(&self) -> Generation {
        self.plan.as_ref().map_or(Generation(0), |plan| plan.generation)
    }

    /// Takes up what control sent, and tells whether the plan changed.
    pub(crate) fn accept(&mut self, delta: PlanDelta) -> Result<bool, LedgerError> {
        if delta.host != self.host || delta.realm != self.realm {
            return Err(LedgerError::Addressee {
                host: delta.host,
                realm: delta.realm,
            });
        }
        let kept = self.generation();
        let offered = delta.generation;
        if offered < kept {
            return Err(LedgerError::Older { offered, kept });
        }
        let mut plan = self.plan.clone().unwrap_or_else(|| {
            HostPlan::empty(delta.host.clone(), delta.realm.clone(), delta.uplink.clone())
        });
        plan.apply(delta);
        if self.plan.as_ref() == Some(&plan) {
            return Ok(false);
        }
        if offered == kept && self.plan.is_some() {
            return Err(LedgerError::Conflict { generation: offered });
        }
        self.write(&plan)?;
        self.plan = Some(plan);
        Ok(true)
    }

    fn read(&self) -> Result<Option<HostPlan>, String> {
        let sealed = match fs::read(&self.file) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let text = self
            .key
            .open(CONTEXT, &sealed)
            .map_err(|error| error.to_string())?;
        let plan: HostPlan = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if plan.host == self.host && plan.realm == self.realm {
            Ok(Some(plan))
        } else {
            Err(format!("it is for host {} of realm {}", plan.host, plan.realm))
        }
    }

    fn write(&self, plan: &HostPlan) -> Result<(), LedgerError> {
        let text = serde_json::to_vec(plan).map_err(LedgerError::Render)?;
        let sealed = self.key.seal(CONTEXT, &text).map_err(LedgerError::Seal)?;
        private_file::replace(&self.file, &sealed).map_err(|source| LedgerError::File {
            step: "keeping the plan",
            source,
        })
    }
}

fn load_key(path: &std::path::Path) -> Result<SealingKey, LedgerError> {
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = bytes.try_into().map_err(|_| LedgerError::Key)?;
            Ok(SealingKey::from_bytes(bytes))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = SealingKey::generate().map_err(LedgerError::Seal)?;
            private_file::replace(path, key.reveal()).map_err(|source| LedgerError::File {
                step: "keeping the plan's key",
                source,
            })?;
            Ok(key)
        }
        Err(source) => Err(LedgerError::File {
            step: "reading the plan's key",
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use isthmus_hostplan::UplinkPlan;
    use std::net::Ipv4Addr;

    use super::*;

    fn delta(generation: u64, router: u8) -> PlanDelta {
        PlanDelta {
            host: HostName::new("here").unwrap(),
            realm: Realm::new("lab").unwrap(),
            generation: Generation(generation),
            uplink: UplinkPlan::Private {
                pool: "198.51.100.0/24".parse().unwrap(),
                router: Ipv4Addr::new(198, 51, 100, router),
                router_ipv6: None,
            },
            whole: true,
            changed: Vec::new(),
            removed: Vec::new(),
        }
    }

    fn open(directory: &std::path::Path) -> Ledger {
        Ledger::open(
            HostName::new("here").unwrap(),
            Realm::new("lab").unwrap(),
            directory.join("plan"),
            &directory.join("key"),
        )
        .unwrap()
    }

    #[test]
    fn plan_survives_and_is_sealed() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = open(directory.path());
        assert!(ledger.plan().is_none());
        assert!(ledger.accept(delta(7, 1)).unwrap());
        assert!(!ledger.accept(delta(7, 1)).unwrap());
        let again = open(directory.path());
        assert_eq!(again.plan(), ledger.plan());
        let sealed = fs::read(directory.path().join("plan")).unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"198.51"));
    }

    #[test]
    fn older_conflicting_and_foreign_plans_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = open(directory.path());
        ledger.accept(delta(7, 1)).unwrap();
        assert!(matches!(
            ledger.accept(delta(6, 1)),
            Err(LedgerError::Older { .. })
        ));
        assert!(matches!(
            ledger.accept(delta(7, 2)),
            Err(LedgerError::Conflict { .. })
        ));
        let mut foreign = delta(8, 1);
        foreign.realm = Realm::new("other").unwrap();
        assert!(matches!(
            ledger.accept(foreign),
            Err(LedgerError::Addressee { .. })
        ));
        assert_eq!(ledger.generation(), Generation(7));
        assert!(ledger.accept(delta(8, 2)).unwrap());
    }

    #[test]
    fn damaged_plan_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).accept(delta(7, 1)).unwrap();
        let file = directory.path().join("plan");
        let mut sealed = fs::read(&file).unwrap();
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        fs::write(&file, sealed).unwrap();
        assert!(open(directory.path()).plan().is_none());
    }
}

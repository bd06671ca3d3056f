//! What is planned and was reported of single connections, for whoever serves people.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock, Weak};

use isthmus_hostplan::{ConnectionPlan, ConnectionReport};
use isthmus_types::{AccountId, VpnConnectionId};

use crate::service::Control;

/// A view of the control plane. It shows nothing before [`crate::serve`] was given it, and nothing after that ended.
#[derive(Clone, Default)]
pub struct Observed(Arc<OnceLock<Weak<Control>>>);

/// A connection as it is planned and as its host last reported it.
#[derive(Clone, Debug)]
pub struct ObservedConnection {
    /// Address of its gateway.
    pub public_address: IpAddr,
    /// What its host is told, the shared key included.
    pub plan: ConnectionPlan,
    /// What its host said last; none if it has not yet.
    pub report: Option<ConnectionReport>,
    /// Milliseconds since anything was heard from the host.
    pub heard_ms_ago: Option<u64>,
}

impl Observed {
    /// A view of nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A connection; none if it is not planned.
    pub fn connection(&self, connection: VpnConnectionId) -> Option<ObservedConnection> {
        self.0.get()?.upgrade()?.observe(connection)
    }

    /// Metrics of what belongs to `account`, as Prometheus reads them; for the account that was made first, also those of
    /// the installation. None before there is a control plane.
    pub fn metrics(&self, account: AccountId) -> Option<String> {
        self.0.get()?.upgrade()?.metrics(account)
    }

    pub(crate) fn show(&self, control: &Arc<Control>) {
        // A second control plane in one process is not shown.
        let _ = self.0.set(Arc::downgrade(control));
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").finish_non_exhaustive()
    }
}

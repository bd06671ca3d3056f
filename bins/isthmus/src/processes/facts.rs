//! What the control plane knows of connections, for the API.

use isthmus_api::{ConnectionFacts, Metrics};
use isthmus_control::Observed;
use isthmus_peerconfig::Peering;
use isthmus_types::{AccountId, VpnConnectionId};
use serde_json::{Value, json};

/// The control plane's view, as the API asks for it.
pub struct Facts(pub Observed);

impl ConnectionFacts for Facts {
    fn doctor(&self, connection: VpnConnectionId) -> Option<Value> {
        let found = self.0.connection(connection)?;
        Some(json!({
            "peer": found.plan.peer,
            "report": found.report,
            "heard_ms_ago": found.heard_ms_ago,
        }))
    }

    fn metrics(&self, account: AccountId) -> Option<Metrics> {
        Some(Metrics {
            content_type: isthmus_control::METRICS_CONTENT_TYPE,
            text: self.0.metrics(account)?,
        })
    }

    fn settings(&self, connection: VpnConnectionId) -> Option<Value> {
        let found = self.0.connection(connection)?;
        let peering = Peering::without_secrets(found.public_address, found.plan);
        serde_json::to_value(peering).ok()
    }
}

//! What other processes of the host send.

use isthmus_hostplan::tunnel::{TunnelReply, TunnelRequest};

/// A line for the tunnel daemon, or from it: what was read is read again from what is written of it.
pub fn tunnel_request(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<TunnelRequest>(data) {
        let line = serde_json::to_vec(&request).expect("a request that was read can be written");
        assert_eq!(serde_json::from_slice::<TunnelRequest>(&line).ok(), Some(request));
    }
    if let Ok(reply) = serde_json::from_slice::<TunnelReply>(data) {
        let line = serde_json::to_vec(&reply).expect("a reply that was read can be written");
        assert_eq!(serde_json::from_slice::<TunnelReply>(&line).ok(), Some(reply));
    }
}

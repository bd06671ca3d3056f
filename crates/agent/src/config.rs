//! What an agent is told when it starts.

use std::path::PathBuf;

use isthmus_runtime::StateLayout;
use isthmus_runtime::supervise::ChildSpec;
use isthmus_types::{HostName, Realm};

/// What an agent is told when it starts.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The host whose plan it carries out.
    pub host: HostName,
    /// The installation; a plan for another one is refused.
    pub realm: Realm,
    /// Socket where control serves plans and takes reports.
    pub control_socket: PathBuf,
    /// Where the last plan is kept, sealed.
    pub plan_file: PathBuf,
    /// The key that seals it; made if missing.
    pub key_file: PathBuf,
    /// Socket where the tunnel daemon takes its plan.
    pub tunnel_socket: PathBuf,
    /// Where key logs are written, in a directory for each gateway that has one.
    pub key_log_directory: PathBuf,
    /// How the tunnel daemon is started.
    pub tunnel_daemon: ChildSpec,
}

impl AgentConfig {
    /// A configuration with everything where `layout` has it.
    pub fn new(host: HostName, realm: Realm, layout: &StateLayout, tunnel_daemon: ChildSpec) -> Self {
        Self {
            host,
            realm,
            control_socket: layout.control_socket(),
            plan_file: layout.agent_plan(),
            key_file: layout.agent_key(),
            tunnel_socket: layout.tunnel_socket(),
            key_log_directory: layout.key_log_directory(),
            tunnel_daemon,
        }
    }
}

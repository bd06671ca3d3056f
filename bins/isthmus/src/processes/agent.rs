//! `isthmus agent`: the host side.

use std::env;
use std::process::ExitCode;

use anyhow::Context;
use isthmus_agent::AgentConfig;
use isthmus_runtime::{ChildSpec, Config, Shutdown, StateLayout};

use super::{ServiceOptions, begin, event_loop};
use crate::cli::GlobalOptions;

/// Makes the kernel have what is planned until interrupted. Everything in the kernel, and the tunnels, stay then.
pub fn run(options: &GlobalOptions, service: ServiceOptions) -> anyhow::Result<ExitCode> {
    let (layout, config, _pid_file) = begin(options, &service, "agent")?;
    // Whoever takes it down must know what to look for.
    super::keep_realm(&layout, &config.realm)?;
    let daemon = tunnel_daemon(&layout, &config)?;
    let agent = AgentConfig::new(config.host, config.realm, &layout, daemon);
    event_loop()?.block_on(async {
        let shutdown = Shutdown::on_signals().context("signals cannot be waited for")?;
        isthmus_agent::run(agent, shutdown)
            .await
            .context("the agent failed")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// How the tunnel daemon is started. Its plan, with the keys, goes over the socket.
fn tunnel_daemon(layout: &StateLayout, config: &Config) -> anyhow::Result<ChildSpec> {
    Ok(ChildSpec {
        name: "tunneld",
        program: env::current_exe().context("the path of this program is unknown")?,
        arguments: vec![
            "tunneld".into(),
            "--socket".into(),
            layout.tunnel_socket().into(),
            "--log".into(),
            config.log.clone().into(),
        ],
        log: layout.log_file("tunneld"),
        pid_file: layout.pid_file("tunneld"),
    })
}

//! The processes of an installation. Each subcommand's main is one module; [`up`] runs the others and supervises them.

pub mod agent;
mod bootstrap;
pub mod down;
mod facts;
mod offer;
mod requirements;
pub mod server;
mod teardown;
pub mod tunneld;
pub mod up;
mod words;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use isthmus_runtime::{Config, Overrides, PidFile, PidFileError, StateLayout, environment, logging};
use isthmus_types::Realm;

use crate::cli::GlobalOptions;

/// Options of the processes. They win over the configuration file.
#[derive(Clone, Debug, Args)]
pub struct ServiceOptions {
    /// Mark of this installation: lower-case letters and digits. Installations of different realms share a host.
    #[arg(long, value_name = "NAME")]
    pub realm: Option<Realm>,
    /// Address that the API listens on; with port 0, any free port: DIR/api.url then says which.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Configuration file [default: DIR/config.toml, if it exists].
    #[arg(long, value_name = "FILE", env = environment::CONFIG, hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// What is logged, such as `info` or `warn,isthmus_agent=debug`.
    #[arg(long, value_name = "FILTER", env = environment::LOG, hide_env_values = true)]
    pub log: Option<String>,
}

/// Options of `isthmus down`.
#[derive(Clone, Debug, Args)]
pub struct DownOptions {
    /// Mark of the installation, if its state directory is lost; else the directory tells.
    #[arg(long, value_name = "NAME")]
    pub realm: Option<Realm>,
    /// Also delete the database, keys, credentials and logs.
    #[arg(long)]
    pub purge: bool,
}

/// Options of `isthmus tunneld`.
#[derive(Clone, Debug, Args)]
pub struct TunneldOptions {
    /// Unix socket that the plan is taken from and the state told on.
    #[arg(long, value_name = "FILE")]
    pub socket: PathBuf,
    /// Plan to begin with, in JSON.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// What is logged.
    #[arg(long, value_name = "FILTER", env = environment::LOG, hide_env_values = true, default_value = "info")]
    pub log: String,
}

impl ServiceOptions {
    /// Configuration of the installation in `layout`, with these options on top.
    fn load(&self, layout: &StateLayout) -> anyhow::Result<Config> {
        let overrides = Overrides {
            realm: self.realm.clone(),
            listen: self.listen,
            log: self.log.clone(),
        };
        Ok(Config::load(self.config.as_deref(), &layout.config(), overrides)?)
    }

    /// The same options as arguments for a child that runs `subcommand`.
    fn to_arguments(&self, layout: &StateLayout, subcommand: &str) -> anyhow::Result<Vec<OsString>> {
        let mut arguments: Vec<OsString> =
            vec!["--state-dir".into(), layout.root().into(), subcommand.into()];
        if let Some(realm) = &self.realm {
            arguments.extend(["--realm".into(), realm.as_str().into()]);
        }
        if let Some(listen) = self.listen {
            arguments.extend(["--listen".into(), listen.to_string().into()]);
        }
        if let Some(config) = &self.config {
            let config = std::path::absolute(config).context("the working directory is gone")?;
            arguments.extend(["--config".into(), config.into()]);
        }
        if let Some(log) = &self.log {
            arguments.extend(["--log".into(), log.into()]);
        }
        Ok(arguments)
    }
}

/// What every long-running process begins with: its configuration, its state directory, its pid file, its log.
fn begin(
    options: &GlobalOptions,
    service: &ServiceOptions,
    name: &str,
) -> anyhow::Result<(StateLayout, Config, PidFile)> {
    let layout = options.layout();
    let config = service.load(&layout)?;
    layout.prepare()?;
    let pid_file = take(&layout, name, config.realm.as_str())?;
    logging::start(&config.log)?;
    Ok((layout, config, pid_file))
}

/// Records the realm of the state directory, or refuses another one than it holds.
fn keep_realm(layout: &StateLayout, realm: &Realm) -> anyhow::Result<()> {
    if let Some(other) = layout.recorded_realm()?.filter(|other| other != realm) {
        anyhow::bail!(
            "{} holds the realm {other}, not {realm}: run isthmus down first, or leave the realm as it is",
            layout.root().display()
        );
    }
    Ok(layout.record_realm(realm)?)
}

/// Takes the pid file of process `name`.
fn take(layout: &StateLayout, name: &str, note: &str) -> anyhow::Result<PidFile> {
    PidFile::take(&layout.pid_file(name), note).map_err(|error| match error {
        PidFileError::Held { holder, .. } => anyhow::anyhow!(
            "isthmus {name} runs already in {}{}",
            layout.root().display(),
            holder
                .pid
                .map(|pid| format!(" as process {pid}"))
                .unwrap_or_default()
        ),
        other @ PidFileError::File { .. } => other.into(),
    })
}

fn event_loop() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no event loop can be made")
}

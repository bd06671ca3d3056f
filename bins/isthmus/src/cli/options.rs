//! Options of every subcommand.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use isthmus_runtime::{StateLayout, environment};

/// Options that every subcommand takes.
#[derive(Clone, Debug, Args)]
pub struct GlobalOptions {
    /// Directory that holds the state of this installation.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = environment::STATE_DIR,
        hide_env_values = true,
        default_value = "/var/lib/isthmus"
    )]
    pub state_dir: PathBuf,
    /// Profile with the address of the API and the key to log in with [default: DIR/credentials.toml].
    #[arg(long, global = true, value_name = "FILE", env = environment::PROFILE, hide_env_values = true)]
    pub profile: Option<PathBuf>,
    /// How results are printed.
    #[arg(short, long, global = true, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

impl GlobalOptions {
    /// The profile file that clients of the API use.
    pub fn profile_path(&self) -> PathBuf {
        self.profile
            .clone()
            .unwrap_or_else(|| self.layout().credentials())
    }

    /// The state directory.
    pub fn layout(&self) -> StateLayout {
        // Others compare it with theirs, whatever their working directory.
        StateLayout::new(std::path::absolute(&self.state_dir).unwrap_or_else(|_| self.state_dir.clone()))
    }
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// What the API answers, as JSON.
    Json,
    /// A table for people.
    Table,
}

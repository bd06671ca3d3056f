//! The verbs that talk to the server, as any client of its API does.
//!
//! A noun is a module with its subcommands; [`Context`] carries what they share. Results go to standard output, progress
//! and remarks to standard error.

mod context;
mod demo;
mod doctor;
mod gateway;
mod instance;
mod join;
mod key;
mod network;
pub mod options;
mod output;
mod peer_config;
mod policy;
mod probe;
mod progress;
mod status;
mod vpn;
mod vpn_options;
mod vpn_reset;
mod wait;

use std::future::Future;
use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Command as Grammar, CommandFactory, Subcommand};
use clap_complete::Shell;
use isthmus_client::Client;

use context::Context;
pub use options::GlobalOptions;

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Join two VPCs on this host by VPN and prove that packets pass.
    #[command(hide = true)]
    Demo(demo::Options),
    /// Instances: what a VPC's traffic comes from and goes to.
    #[command(subcommand)]
    Instance(instance::Command),
    /// Join two VPCs by VPN: gateways where missing, one key, both connections.
    Join(join::Options),
    /// Address prefixes: the ranges of a VPC.
    #[command(subcommand)]
    Prefix(network::PrefixCommand),
    /// Send traffic from one instance of this host to another and say what arrived.
    #[command(subcommand)]
    Probe(probe::Command),
    /// Regions and their zones.
    #[command(subcommand)]
    Region(network::RegionCommand),
    /// Health of everything, on one screen.
    Status,
    /// Subnets ("tiers") of VPCs.
    #[command(subcommand)]
    Subnet(network::SubnetCommand),
    /// VPCs.
    #[command(subcommand)]
    Vpc(network::VpcCommand),
    /// VPN gateways, connections and policies.
    #[command(subcommand)]
    Vpn(vpn::Command),
}

/// Carries out `command`. `P` is the whole command line, for completions.
///
/// # Errors
/// None: a failure is told on standard error, and ends in exit code 1.
pub fn run<P: CommandFactory>(command: Command, options: GlobalOptions) -> anyhow::Result<ExitCode> {
    Ok(carry_out::<P>(command, options).unwrap_or_else(|error| {
        context::remark(&format!("error: {error:#}"));
        ExitCode::FAILURE
    }))
}

fn carry_out<P: CommandFactory>(command: Command, options: GlobalOptions) -> anyhow::Result<ExitCode> {
    let connect = || -> anyhow::Result<Context> {
        let client = Client::from_profile(&options.profile_path())?;
        Ok(Context::new(client, options.layout(), options.output))
    };
    match command {
        Command::Completions { shell } => {
            complete(P::command(), shell);
            return Ok(ExitCode::SUCCESS);
        }
        Command::Demo(demo) => return wait_for(demo::run(demo))?,
        Command::Status => return wait_for(status::run(options))?,
        Command::Instance(command) => wait_for(instance::run(command, &connect()?))??,
        Command::Join(join) => wait_for(join::run(join, &connect()?))??,
        Command::Prefix(command) => wait_for(network::run_prefix(command, &connect()?))??,
        Command::Probe(command) => return probe::run(command, &connect()?),
        Command::Region(command) => wait_for(network::run_region(command, &connect()?))??,
        Command::Subnet(command) => wait_for(network::run_subnet(command, &connect()?))??,
        Command::Vpc(command) => wait_for(network::run_vpc(command, &connect()?))??,
        Command::Vpn(command) => return wait_for(vpn::run(command, &connect()?))?,
    }
    Ok(ExitCode::SUCCESS)
}

// One thread is plenty for a client.
fn wait_for<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no event loop can be made")?;
    Ok(runtime.block_on(work))
}

fn complete(mut grammar: Grammar, shell: Shell) {
    let name = grammar.get_name().to_owned();
    clap_complete::generate(shell, &mut grammar, name, &mut io::stdout());
}

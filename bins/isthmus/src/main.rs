//! The `isthmus` binary: the processes of an installation, and the verbs that talk to it.

mod cli;
mod processes;

use std::alloc::System;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use zeroizing_alloc::ZeroAlloc;

/// Memory is erased when it is freed. Secrets erase themselves, but on their way they pass through what cannot: request
/// bodies, buffers of sockets, JSON on its way to a host. Nothing on the way of a packet takes or frees memory.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

/// Private networks of your own: VPCs, subnets and IPsec VPN on Linux hosts, behind the APIs of the big clouds.
#[derive(Debug, Parser)]
#[command(name = "isthmus", version, propagate_version = true)]
struct Arguments {
    #[command(flatten)]
    options: cli::GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Bring everything up on this host and keep it up until interrupted.
    Up(processes::ServiceOptions),
    /// Stop everything of this installation and remove all that it made in the kernel. The database stays.
    Down(processes::DownOptions),
    /// Run the API and the control plane alone.
    Server(processes::ServiceOptions),
    /// Run the host side alone: make the kernel have what the control plane plans.
    Agent(processes::ServiceOptions),
    /// Run the tunnel daemon alone: IKE and ESP of this host's VPN gateways.
    Tunneld(processes::TunneldOptions),
    #[command(flatten)]
    Cli(cli::Command),
}

fn main() -> ExitCode {
    let Arguments { options, command } = Arguments::parse();
    carry_out(options, command).unwrap_or_else(|error| {
        // Causes on the same line; where in the program it happened is of no use to who reads this.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

fn carry_out(options: cli::GlobalOptions, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(up) => processes::up::run(&options, up),
        Command::Down(down) => processes::down::run(&options, down),
        Command::Server(server) => processes::server::run(&options, server),
        Command::Agent(agent) => processes::agent::run(&options, agent),
        Command::Tunneld(tunneld) => processes::tunneld::run(tunneld),
        Command::Cli(verb) => cli::run::<Arguments>(verb, options),
    }
}

//! Traffic from one instance of this host to another, with nothing but our own sockets.
//!
//! Sockets are opened inside the instances' namespaces and used from outside, so nothing needs to be installed
//! there.

pub mod capture;
pub mod fetch;
pub mod ping;
pub mod rate;

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use isthmus_client::Instance;
use isthmus_netlink::namespace::Namespace;

use super::context::{Context, print};
use super::instance::namespace_of;
use super::wait_for;
use ping::Pinger;

/// Subcommands of `probe`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send ICMP echo requests.
    Ping {
        /// Instance that they come from.
        from: String,
        /// Instance, or any IPv4 address, that they go to.
        to: String,
        /// How many.
        #[arg(long, default_value_t = 5)]
        count: u16,
        /// Milliseconds between two.
        #[arg(long, default_value_t = 200)]
        interval: u64,
        /// Bytes of data in each.
        #[arg(long, default_value_t = 56)]
        size: u16,
    },
    /// Fetch a document over HTTP; a server for it is started in the other instance.
    Fetch {
        /// Instance that fetches.
        from: String,
        /// Instance that serves.
        to: String,
        /// Bytes of the document.
        #[arg(long, default_value_t = 10_000_000)]
        size: usize,
    },
    /// Send as much as TCP carries, and print the rate.
    Rate {
        /// Instance that sends.
        from: String,
        /// Instance that receives.
        to: String,
        /// For how long.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
}

/// Carries out a subcommand; the exit code says whether everything arrived.
pub fn run(command: Command, context: &Context) -> anyhow::Result<ExitCode> {
    let end =
        |wanted: &str| -> anyhow::Result<End> { End::of(context, &wait_for(context.instance(wanted))??) };
    match command {
        Command::Ping {
            from,
            to,
            count,
            interval,
            size,
        } => {
            let from = end(&from)?;
            let address = match to.parse() {
                Ok(address) => address,
                Err(_) => end(&to)?.address,
            };
            let pinger = Pinger::open(&from.namespace, address, usize::from(size))?;
            let found = ping::series(&pinger, count, Duration::from_millis(interval))?;
            print(&format!("{} to {address}: {found}\n", from.address))?;
            Ok(if found.answered == found.sent {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Fetch { from, to, size } => {
            let found = fetch::run(&end(&from)?, &end(&to)?, size)?;
            print(&format!("{found}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Rate { from, to, seconds } => {
            let found = rate::run(&end(&from)?, &end(&to)?, Duration::from_secs(seconds))?;
            print(&format!("{found}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// An instance on this host, as traffic sees it.
#[derive(Debug)]
pub struct End {
    /// Its private address.
    pub address: Ipv4Addr,
    /// Where its sockets are opened.
    pub namespace: Namespace,
}

impl End {
    /// The end that `instance` is.
    pub fn of(context: &Context, instance: &Instance) -> anyhow::Result<Self> {
        Ok(Self {
            address: instance.primary_network_interface.primary_ip.address,
            namespace: namespace_of(&context.layout, instance)
                .with_context(|| format!("{} cannot be probed", instance.name))?,
        })
    }
}

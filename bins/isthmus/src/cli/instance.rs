//! Instances, and commands inside them.

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use isthmus_client::{Attachment, Instance, InstanceAction, NewInstance};
use isthmus_fabric::name::instance_namespace;
use isthmus_netlink::namespace::Namespace;
use isthmus_runtime::StateLayout;
use isthmus_types::InstanceId;

use super::context::Context;
use super::wait;

/// How long the host may take to carry out what was asked for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Subcommands of `instance`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List instances.
    List {
        /// Only those of this VPC.
        #[arg(long)]
        vpc: Option<String>,
    },
    /// Show an instance.
    Show {
        /// Name or id.
        instance: String,
    },
    /// Create an instance, and wait until it runs.
    Create {
        /// Its name.
        name: Option<String>,
        /// Name or id of its subnet.
        #[arg(long)]
        subnet: String,
        /// The VPC that the subnet is in, if its name alone does not tell.
        #[arg(long)]
        vpc: Option<String>,
        /// Its private address; a free one if missing.
        #[arg(long)]
        address: Option<Ipv4Addr>,
        /// Make a TAP device of this name on the host, for your virtual machine.
        #[arg(long, value_name = "DEVICE", conflicts_with = "hand_over")]
        tap: Option<String>,
        /// Put the interface into your namespace, such as that of a container.
        #[arg(long, value_name = "NAMESPACE:INTERFACE", value_parser = hand_over)]
        hand_over: Option<Attachment>,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Give an instance another name.
    Update {
        /// Name or id.
        instance: String,
        /// The new name.
        #[arg(long)]
        name: String,
    },
    /// Start an instance, and wait until it runs.
    Start {
        /// Name or id.
        instance: String,
    },
    /// Stop an instance, and wait until it has stopped.
    Stop {
        /// Name or id.
        instance: String,
    },
    /// Restart an instance, and wait until it runs.
    Reboot {
        /// Name or id.
        instance: String,
    },
    /// Delete an instance, and wait until it is gone.
    Delete {
        /// Name or id.
        instance: String,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
    },
    /// Run a command inside an instance on this host.
    Exec(Exec),
}

/// Options of `exec`.
#[derive(Debug, Args)]
pub struct Exec {
    /// Name or id.
    instance: String,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Carries out a subcommand.
pub async fn run(command: Command, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        Command::List { vpc } => {
            let vpc = context.vpc_if_any(vpc.as_deref()).await?;
            context.show_all(&client.instances(vpc.as_ref().map(|vpc| &vpc.id)).await?)
        }
        Command::Show { instance } => context.show(&context.instance(&instance).await?),
        Command::Create {
            name,
            subnet,
            vpc,
            address,
            tap,
            hand_over,
            no_wait,
        } => {
            let subnet = context.subnet(&subnet, vpc.as_deref()).await?;
            let new = NewInstance {
                name,
                subnet: subnet.id,
                zone: subnet.zone.name,
                address,
                attachment: tap
                    .map(|interface| Attachment::Tap { interface })
                    .or(hand_over)
                    .unwrap_or_default(),
            };
            let mut instance = client.create_instance(&new).await?;
            if !no_wait {
                instance = wait::instance_is(client, &instance.id, "running", PATIENCE).await?;
            }
            context.show(&instance)
        }
        Command::Update { instance, name } => {
            let instance = context.instance(&instance).await?;
            context.show(&client.rename_instance(&instance.id, &name).await?)
        }
        Command::Start { instance } => act(context, &instance, InstanceAction::Start, "running").await,
        Command::Stop { instance } => act(context, &instance, InstanceAction::Stop, "stopped").await,
        Command::Reboot { instance } => act(context, &instance, InstanceAction::Reboot, "running").await,
        Command::Delete { instance, no_wait } => {
            let instance = context.instance(&instance).await?;
            client.delete_instance(&instance.id).await?;
            if !no_wait {
                wait::gone("the instance", PATIENCE, || client.instance(&instance.id)).await?;
            }
            context.done(&instance, "deleted")
        }
        Command::Exec(exec) => match execute(context, &exec).await? {},
    }
}

fn hand_over(text: &str) -> Result<Attachment, &'static str> {
    match text.split_once(':') {
        Some((namespace, interface)) if !namespace.is_empty() && !interface.is_empty() => {
            Ok(Attachment::HandOver {
                namespace: namespace.to_owned(),
                interface: interface.to_owned(),
            })
        }
        _ => Err("expected the name of a namespace, a colon, and a name for the interface"),
    }
}

async fn act(context: &Context, wanted: &str, action: InstanceAction, status: &str) -> anyhow::Result<()> {
    let instance = context.instance(wanted).await?;
    context.client.act_on_instance(&instance.id, action).await?;
    context.show(&wait::instance_is(&context.client, &instance.id, status, PATIENCE).await?)
}

// Becomes the command, inside the instance.
async fn execute(context: &Context, exec: &Exec) -> anyhow::Result<Infallible> {
    let instance = context.instance(&exec.instance).await?;
    let namespace = namespace_of(&context.layout, &instance)?;
    let Some((program, arguments)) = exec.command.split_first() else {
        bail!("no command was given");
    };
    let error = namespace.run(|| process::Command::new(program).args(arguments).exec())?;
    Err(error).with_context(|| format!("{} cannot be started", program.to_string_lossy()))
}

/// The namespace that an instance lives in, on this host.
pub fn namespace_of(layout: &StateLayout, instance: &Instance) -> anyhow::Result<Namespace> {
    let realm = layout.recorded_realm()?.with_context(|| {
        format!(
            "{} belongs to no host that carries instances",
            layout.root().display()
        )
    })?;
    let bits = instance
        .id
        .bits()
        .with_context(|| format!("{} is no id that Isthmus makes", instance.id))?;
    let name = instance_namespace(&realm, InstanceId::from(bits));
    Namespace::open(&name).with_context(|| format!("instance {} is not on this host", instance.name))
}

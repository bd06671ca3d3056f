//! IKE and IPsec policies.

use clap::{Args, Subcommand};
use isthmus_client::{NewIkePolicy, NewIpsecPolicy};

use super::context::Context;

/// Subcommands of `vpn ike-policy`.
#[derive(Debug, Subcommand)]
pub enum IkeCommand {
    /// List IKE policies.
    List,
    /// Show an IKE policy.
    Show {
        /// Name or id.
        policy: String,
    },
    /// Create an IKE policy.
    Create {
        /// Its name.
        name: Option<String>,
        /// Its parameters.
        #[command(flatten)]
        parameters: IkeParameters,
    },
    /// Change an IKE policy; tunnels that use it negotiate anew.
    Update {
        /// Name or id.
        policy: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// New parameters.
        #[command(flatten)]
        parameters: IkeParameters,
    },
    /// Delete an IKE policy that no connection uses.
    Delete {
        /// Name or id.
        policy: String,
    },
}

/// Parameters of an IKE policy. Lists are in order of preference.
#[derive(Debug, Args)]
pub struct IkeParameters {
    /// IKE version: 1 or 2.
    #[arg(long, value_name = "VERSION")]
    ike_version: Option<u8>,
    /// Ciphers, such as aes256,aes128.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    encryption: Vec<String>,
    /// Hashes, such as sha256,sha384.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    authentication: Vec<String>,
    /// Diffie-Hellman groups, such as 31,19,14.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    groups: Vec<u16>,
    /// Lifetime of an IKE SA in seconds.
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u32>,
}

impl IkeParameters {
    fn with_name(self, name: Option<String>) -> NewIkePolicy {
        NewIkePolicy {
            name,
            ike_version: self.ike_version,
            encryption_algorithms: self.encryption,
            authentication_algorithms: self.authentication,
            dh_groups: self.groups,
            key_lifetime: self.lifetime,
        }
    }
}

/// Carries out a subcommand of `vpn ike-policy`.
pub async fn run_ike(command: IkeCommand, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        IkeCommand::List => context.show_all(&client.ike_policies().await?),
        IkeCommand::Show { policy } => context.show(&context.ike_policy(&policy).await?),
        IkeCommand::Create { name, mut parameters } => {
            parameters.ike_version = parameters.ike_version.or(Some(2));
            context.show(&client.create_ike_policy(&parameters.with_name(name)).await?)
        }
        IkeCommand::Update {
            policy,
            name,
            parameters,
        } => {
            let policy = context.ike_policy(&policy).await?;
            context.show(
                &client
                    .change_ike_policy(&policy.id, &parameters.with_name(name))
                    .await?,
            )
        }
        IkeCommand::Delete { policy } => {
            let policy = context.ike_policy(&policy).await?;
            client.delete_ike_policy(&policy.id).await?;
            context.done(&policy, "deleted")
        }
    }
}

/// Subcommands of `vpn ipsec-policy`.
#[derive(Debug, Subcommand)]
pub enum IpsecCommand {
    /// List IPsec policies.
    List,
    /// Show an IPsec policy.
    Show {
        /// Name or id.
        policy: String,
    },
    /// Create an IPsec policy.
    Create {
        /// Its name.
        name: Option<String>,
        /// Its parameters.
        #[command(flatten)]
        parameters: IpsecParameters,
    },
    /// Change an IPsec policy; tunnels that use it negotiate anew.
    Update {
        /// Name or id.
        policy: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// New parameters.
        #[command(flatten)]
        parameters: IpsecParameters,
    },
    /// Delete an IPsec policy that no connection uses.
    Delete {
        /// Name or id.
        policy: String,
    },
}

/// Parameters of an IPsec policy. Lists are in order of preference.
#[derive(Debug, Args)]
pub struct IpsecParameters {
    /// Ciphers, such as aes256gcm16,aes128gcm16.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    encryption: Vec<String>,
    /// Hashes, such as sha256; `disabled` with GCM ciphers.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    authentication: Vec<String>,
    /// Groups for perfect forward secrecy, such as group_31,group_19, or `disabled`.
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pfs: Vec<String>,
    /// Lifetime of a Child SA in seconds.
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u32>,
}

impl IpsecParameters {
    fn with_name(self, name: Option<String>) -> NewIpsecPolicy {
        NewIpsecPolicy {
            name,
            encryption_algorithms: self.encryption,
            authentication_algorithms: self.authentication,
            pfs_groups: self.pfs,
            key_lifetime: self.lifetime,
        }
    }
}

/// Carries out a subcommand of `vpn ipsec-policy`.
pub async fn run_ipsec(command: IpsecCommand, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    match command {
        IpsecCommand::List => context.show_all(&client.ipsec_policies().await?),
        IpsecCommand::Show { policy } => context.show(&context.ipsec_policy(&policy).await?),
        IpsecCommand::Create { name, parameters } => {
            context.show(&client.create_ipsec_policy(&parameters.with_name(name)).await?)
        }
        IpsecCommand::Update {
            policy,
            name,
            parameters,
        } => {
            let policy = context.ipsec_policy(&policy).await?;
            context.show(
                &client
                    .change_ipsec_policy(&policy.id, &parameters.with_name(name))
                    .await?,
            )
        }
        IpsecCommand::Delete { policy } => {
            let policy = context.ipsec_policy(&policy).await?;
            client.delete_ipsec_policy(&policy.id).await?;
            context.done(&policy, "deleted")
        }
    }
}

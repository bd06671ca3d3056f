//! `isthmus vpn connection options` and `isthmus vpn gateway key-log`: what the provider's API has no words for.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use isthmus_client::{CertificateChange, Change, ConnectionOptions, ConnectionOptionsChange};
use isthmus_ops::{EspEncapsulation, MlKem, PeerLocation, TunnelIdentity};
use isthmus_types::{DontFragment, DscpPolicy, Secret, SelectorLayout};
use serde::Serialize;

use super::context::{Context, print, remark};
use super::options::OutputFormat;
use super::output::{self, Row};

/// Options of `vpn connection options`. Without any that changes something, the options are shown.
#[derive(Debug, Args)]
pub struct OptionsOptions {
    /// Name or id of the connection.
    connection: String,
    /// The gateway that it is on, if its name alone does not tell.
    #[arg(long)]
    gateway: Option<String>,
    /// Take everything back to its default first.
    #[arg(long)]
    defaults: bool,
    #[command(flatten)]
    certificate: CertificateArguments,
    /// ML-KEM-768 beside each Diffie-Hellman exchange: preferred, or demanded of the peer.
    #[arg(long, value_name = "WHEN")]
    mlkem: Option<MlKemChoice>,
    /// Set up the IKE SA alone, so that every Child SA has a key exchange of its own (RFC 6023).
    #[arg(long, value_name = "ON|OFF")]
    childless: Option<Switch>,
    /// Replace each first Child SA soon, so that a mismatch of perfect forward secrecy shows at once.
    #[arg(long, value_name = "ON|OFF")]
    verify_pfs: Option<Switch>,
    /// Allow IKEv1 aggressive mode, which shows identities and a hash of the key to anybody.
    #[arg(long, value_name = "ON|OFF")]
    aggressive_mode: Option<Switch>,
    /// 64-bit ESP sequence numbers.
    #[arg(long, value_name = "ON|OFF", alias = "esn")]
    extended_sequence_numbers: Option<Switch>,
    /// Packets that an ESP packet may be late by: 64 to 4096.
    #[arg(long, value_name = "PACKETS")]
    replay_window: Option<u16>,
    /// Which ranges share a Child SA.
    #[arg(long, value_name = "LAYOUT")]
    selectors: Option<SelectorChoice>,
    /// Child SAs for the same ranges at the same time (RFC 9611): 1 to 16.
    #[arg(long, value_name = "COUNT")]
    parallel_child_sas: Option<u8>,
    /// Bytes after which a Child SA is replaced, or `none`.
    #[arg(long, value_name = "BYTES")]
    lifetime_bytes: Option<Lifetime>,
    /// Packets after which a Child SA is replaced, or `none`.
    #[arg(long, value_name = "PACKETS")]
    lifetime_packets: Option<Lifetime>,
    /// Largest packet with an IKE message: 576 to 65535 bytes, or 0 for no fragmentation (RFC 7383).
    #[arg(long, value_name = "BYTES")]
    fragment_size: Option<u16>,
    /// What the outer differentiated services field says.
    #[arg(long, value_name = "POLICY")]
    dscp: Option<DscpChoice>,
    /// What the outer "don't fragment" bit says.
    #[arg(long, value_name = "POLICY")]
    dont_fragment: Option<DontFragmentChoice>,
    /// When ESP travels in UDP.
    #[arg(long, value_name = "WHEN")]
    encapsulation: Option<EncapsulationChoice>,
    /// Our identity: an address, a domain name, an e-mail address, a distinguished name such as CN=gateway,O=Example,
    /// `keyid:TEXT`, or `default`.
    #[arg(long, value_name = "IDENTITY")]
    local_id: Option<IdentityText>,
    /// The peer's identity, in the same forms.
    #[arg(long, value_name = "IDENTITY")]
    peer_id: Option<IdentityText>,
    /// Where the peer is. One that may be anywhere must begin, and is known by its identity alone.
    #[arg(long, value_name = "WHERE")]
    peer_location: Option<PeerLocationChoice>,
}

/// Where certificates come from. Files hold PEM.
#[derive(Debug, Args)]
struct CertificateArguments {
    /// Our certificate, then those between it and its authority.
    #[arg(long, value_name = "FILE")]
    certificate_file: Option<PathBuf>,
    /// The key of our certificate, PKCS #8; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    private_key_file: Option<PathBuf>,
    /// Authorities that the peer's certificate must come from.
    #[arg(long, value_name = "FILE")]
    authority_file: Option<PathBuf>,
    /// Revocation lists of the authorities.
    #[arg(long, value_name = "FILE")]
    revocation_list_file: Option<PathBuf>,
    /// Refuse a peer for whose authority there is no valid revocation list.
    #[arg(long, value_name = "ON|OFF")]
    require_revocation_list: Option<Switch>,
    /// Forget the certificate: both ends prove the shared key again.
    #[arg(long, conflicts_with_all = ["certificate_file", "private_key_file", "authority_file", "revocation_list_file",
        "require_revocation_list"])]
    no_certificate: bool,
}

/// Options of `vpn gateway key-log`.
#[derive(Debug, Args)]
pub struct KeyLogOptions {
    /// Name or id of the gateway.
    gateway: String,
    /// Whether keys are written.
    state: Switch,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is not.
    Off,
    /// It is.
    On,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MlKemChoice {
    /// Not offered.
    Off,
    /// Preferred; a peer without it is taken too.
    On,
    /// A peer without it is refused.
    Required,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SelectorChoice {
    /// All in one, unless the peer takes one pair at a time only.
    Automatic,
    /// One Child SA for each pair of a local and a remote range.
    PerPair,
    /// All in one.
    Together,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DscpChoice {
    /// Nothing.
    Clear,
    /// The same as that of the inner header.
    Copy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DontFragmentChoice {
    /// Routers may fragment.
    Clear,
    /// The same as that of the inner header.
    Copy,
    /// Routers must not fragment.
    Set,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum EncapsulationChoice {
    /// Only where an address translator is found.
    Automatic,
    /// Always.
    Forced,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PeerLocationChoice {
    /// It has no fixed address.
    Anywhere,
    /// At the connection's peer address or domain name.
    Fixed,
}

#[derive(Clone, Copy, Debug)]
struct Lifetime(Option<u64>);

impl std::str::FromStr for Lifetime {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self(None)),
            number => number.parse().map(|number| Self(Some(number))),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdentityText(pub(super) Option<TunnelIdentity>);

impl std::str::FromStr for IdentityText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let owned = || text.to_owned();
        Ok(Self(if text == "default" {
            None
        } else if let Ok(address) = text.parse() {
            Some(TunnelIdentity::Address(address))
        } else if let Some(key) = text.strip_prefix("keyid:") {
            Some(TunnelIdentity::KeyId(key.to_owned()))
        } else if text.contains('=') {
            Some(TunnelIdentity::DistinguishedName(owned()))
        } else if text.contains('@') {
            Some(TunnelIdentity::Email(owned()))
        } else {
            Some(TunnelIdentity::Fqdn(owned()))
        }))
    }
}

/// Changes the options if something is to change, and shows them.
pub async fn run(options: OptionsOptions, context: &Context) -> anyhow::Result<()> {
    let client = &context.client;
    let change = options.change()?;
    let (gateway, connection) = context
        .connection(&options.connection, options.gateway.as_deref())
        .await?;
    let shown = if change == ConnectionOptionsChange::default() {
        client.connection_options(&gateway.id, &connection.id).await?
    } else {
        client
            .change_connection_options(&gateway.id, &connection.id, &change)
            .await?
    };
    context.show(&OptionsRow(shown))
}

/// Switches a gateway's key log.
pub async fn key_log(options: KeyLogOptions, context: &Context) -> anyhow::Result<()> {
    let gateway = context.gateway(&options.gateway).await?;
    let found = context
        .client
        .set_key_log(&gateway.id, options.state == Switch::On)
        .await?;
    let directory = context.layout.key_log_directory();
    let directory = directory.display();
    if found.key_log {
        remark(&format!(
            "warning: the keys of every SA that {} makes from now on are written in clear to {directory} on its host. \
             Whoever has these files and a capture reads all its traffic. Switch it off when done: isthmus vpn gateway \
             key-log {} off",
            gateway.name, gateway.name
        ));
    } else {
        remark(&format!(
            "what was written before stays in {directory} on the gateway's host: delete it when it is needed no more"
        ));
    }
    match context.output {
        OutputFormat::Json => print(&output::json(&found)?),
        OutputFormat::Table => print(&format!(
            "key log of {}: {}\n",
            gateway.name,
            if found.key_log { "on" } else { "off" }
        )),
    }
}

impl OptionsOptions {
    fn change(&self) -> anyhow::Result<ConnectionOptionsChange> {
        Ok(ConnectionOptionsChange {
            aggressive_mode: self.changed(switched(self.aggressive_mode)),
            certificate: self.certificate_change()?,
            childless: self.changed(switched(self.childless)),
            verify_pfs: self.changed(switched(self.verify_pfs)),
            extended_sequence_numbers: self.changed(switched(self.extended_sequence_numbers)),
            replay_window: self.changed(self.replay_window),
            selectors: self.changed(self.selectors.map(|choice| match choice {
                SelectorChoice::Automatic => SelectorLayout::Automatic,
                SelectorChoice::PerPair => SelectorLayout::PerPair,
                SelectorChoice::Together => SelectorLayout::Together,
            })),
            parallel_child_sas: self.changed(self.parallel_child_sas),
            esp_lifetime_bytes: self.removable(self.lifetime_bytes.map(|lifetime| lifetime.0)),
            esp_lifetime_packets: self.removable(self.lifetime_packets.map(|lifetime| lifetime.0)),
            fragment_size: self.changed(self.fragment_size),
            dscp: self.changed(self.dscp.map(|choice| match choice {
                DscpChoice::Clear => DscpPolicy::Clear,
                DscpChoice::Copy => DscpPolicy::Copy,
            })),
            dont_fragment: self.changed(self.dont_fragment.map(|choice| match choice {
                DontFragmentChoice::Clear => DontFragment::Clear,
                DontFragmentChoice::Copy => DontFragment::Copy,
                DontFragmentChoice::Set => DontFragment::Set,
            })),
            ml_kem: self.changed(self.mlkem.map(|choice| match choice {
                MlKemChoice::Off => MlKem::Off,
                MlKemChoice::On => MlKem::On,
                MlKemChoice::Required => MlKem::Required,
            })),
            encapsulation: self.changed(self.encapsulation.map(|choice| match choice {
                EncapsulationChoice::Automatic => EspEncapsulation::Automatic,
                EncapsulationChoice::Forced => EspEncapsulation::Forced,
            })),
            local_id: self.removable(self.local_id.clone().map(|text| text.0)),
            peer_id: self.removable(self.peer_id.clone().map(|text| text.0)),
            peer_location: self.changed(self.peer_location.map(|choice| match choice {
                PeerLocationChoice::Anywhere => PeerLocation::Anywhere,
                PeerLocationChoice::Fixed => PeerLocation::Fixed,
            })),
        })
    }

    fn changed<T>(&self, given: Option<T>) -> Change<T> {
        self.removable(given.map(Some))
    }

    // What is not given stays, or goes back to its default with all others.
    fn removable<T>(&self, given: Option<Option<T>>) -> Change<T> {
        match given {
            Some(Some(value)) => Change::Set(value),
            Some(None) => Change::Remove,
            None if self.defaults => Change::Remove,
            None => Change::Keep,
        }
    }

    fn certificate_change(&self) -> anyhow::Result<Change<CertificateChange>> {
        let arguments = &self.certificate;
        let change = CertificateChange {
            chain: read(arguments.certificate_file.as_deref())?,
            private_key: read(arguments.private_key_file.as_deref())?.map(Secret::new),
            authorities: read(arguments.authority_file.as_deref())?,
            revocation_lists: read(arguments.revocation_list_file.as_deref())?,
            require_revocation_list: switched(arguments.require_revocation_list),
        };
        Ok(if change != CertificateChange::default() {
            Change::Set(change)
        } else if arguments.no_certificate || self.defaults {
            Change::Remove
        } else {
            Change::Keep
        })
    }
}

fn switched(switch: Option<Switch>) -> Option<bool> {
    switch.map(|switch| switch == Switch::On)
}

fn read(path: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    if path == Path::new("-") {
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .context("standard input cannot be read")?;
        return Ok(Some(text));
    }
    fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))
        .map(Some)
}

#[derive(Serialize)]
#[serde(transparent)]
struct OptionsRow(ConnectionOptions);

impl Row for OptionsRow {
    const COLUMNS: &'static [&'static str] = &[
        "PROOF",
        "REVOCATION LISTS",
        "LOCAL ID",
        "PEER ID",
        "PEER LOCATION",
        "ML-KEM",
        "CHILDLESS",
        "VERIFY PFS",
        "AGGRESSIVE MODE",
        "EXTENDED SEQUENCE NUMBERS",
        "REPLAY WINDOW",
        "SELECTORS",
        "PARALLEL CHILD SAS",
        "LIFETIME BYTES",
        "LIFETIME PACKETS",
        "FRAGMENT SIZE",
        "DSCP",
        "DONT FRAGMENT",
        "ENCAPSULATION",
    ];

    fn cells(&self) -> Vec<String> {
        let options = &self.0;
        let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
        let (proof, lists) = match &options.certificate {
            None => ("shared key".to_owned(), "-".to_owned()),
            Some(certificate) => (
                certificate.holder.as_ref().map_or_else(
                    || "certificate".to_owned(),
                    |holder| {
                        format!(
                            "certificate of {}, valid until {}",
                            holder.names, holder.expires_at
                        )
                    },
                ),
                match (
                    certificate.revocation_lists.is_empty(),
                    certificate.require_revocation_list,
                ) {
                    (true, _) => "none",
                    (false, false) => "checked",
                    (false, true) => "required",
                }
                .to_owned(),
            ),
        };
        let limit = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        vec![
            proof,
            lists,
            identity(options.local_id.as_ref()),
            identity(options.peer_id.as_ref()),
            word(&options.peer_location),
            word(&options.ml_kem),
            switch(options.childless),
            switch(options.verify_pfs),
            switch(options.aggressive_mode),
            switch(options.extended_sequence_numbers),
            options.replay_window.to_string(),
            word(&options.selectors),
            options.parallel_child_sas.to_string(),
            limit(options.esp_lifetime_bytes),
            limit(options.esp_lifetime_packets),
            match options.fragment_size {
                0 => "never".to_owned(),
                size => size.to_string(),
            },
            word(&options.dscp),
            word(&options.dont_fragment),
            word(&options.encapsulation),
        ]
    }
}

/// An enumeration's word, as JSON and the command line have it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.replace('_', "-"),
        Ok(_) | Err(_) => String::new(),
    }
}

fn identity(identity: Option<&TunnelIdentity>) -> String {
    match identity {
        None => "default".to_owned(),
        Some(TunnelIdentity::Address(address)) => address.to_string(),
        Some(
            TunnelIdentity::DistinguishedName(text)
            | TunnelIdentity::Email(text)
            | TunnelIdentity::Fqdn(text),
        ) => text.clone(),
        Some(TunnelIdentity::KeyId(text)) => format!("keyid:{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_told_by_its_form() {
        for (text, expected) in [
            ("default", None),
            (
                "192.0.2.1",
                Some(TunnelIdentity::Address("192.0.2.1".parse().unwrap())),
            ),
            (
                "2001:db8::1",
                Some(TunnelIdentity::Address("2001:db8::1".parse().unwrap())),
            ),
            ("a.example", Some(TunnelIdentity::Fqdn("a.example".to_owned()))),
            (
                "a@b.example",
                Some(TunnelIdentity::Email("a@b.example".to_owned())),
            ),
            (
                "CN=a,O=b",
                Some(TunnelIdentity::DistinguishedName("CN=a,O=b".to_owned())),
            ),
            ("keyid:a=b", Some(TunnelIdentity::KeyId("a=b".to_owned()))),
        ] {
            let read: IdentityText = text.parse().unwrap();
            assert_eq!(read.0, expected);
            assert_eq!(identity(read.0.as_ref()), text);
        }
    }
}

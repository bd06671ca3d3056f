//! What a strongSwan daemon is told of a connection.

use std::net::{IpAddr, Ipv4Addr};

use isthmus_types::{AdditionalKeyExchange, Cidr, IkeVersion, Prf, Secret};
use serde_json::{Map, Value, json};

use crate::topology::Site;

/// Name of a connection in strongSwan's configuration.
pub(super) const CONNECTION: &str = "gw";
/// Name of the Child SA that takes all ranges, or the first pair of them.
pub(super) const CHILD: &str = "net";

/// One connection of a [`StrongSwan`](crate::StrongSwan).
#[derive(Clone, Debug)]
pub struct SwanConnection {
    /// Version of IKE.
    pub version: IkeVersion,
    /// Its own address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// Identity that it presents.
    pub local_id: String,
    /// Identity that the peer must present.
    pub remote_id: String,
    /// The shared key.
    pub psk: Secret,
    /// Certificates to use instead of the shared key.
    pub certificate: Option<SwanCertificate>,
    /// IKE proposals in our words, such as `aes128gcm16-prfsha256-x25519`.
    pub ike_proposals: Vec<String>,
    /// ESP proposals in our words, such as `aes128gcm16` or, with PFS, `aes128gcm16-x25519`.
    pub esp_proposals: Vec<String>,
    /// Ranges on its side.
    pub local_ranges: Vec<Cidr>,
    /// Ranges on the peer's side.
    pub remote_ranges: Vec<Cidr>,
    /// Which ranges share a Child SA.
    pub children: SwanChildren,
    /// Whether to encapsulate ESP in UDP where there is no translator.
    pub force_encapsulation: bool,
    /// Whether to use IKEv1 aggressive mode.
    pub aggressive_mode: bool,
    /// Whether to make and take nothing but an IKE SA without a Child SA first (RFC 6023).
    pub childless: bool,
    /// Whether to ask for transport mode, which joins hosts rather than networks.
    pub transport_mode: bool,
    /// Seconds of silence before it probes the peer; 0 means never.
    pub dpd_delay_seconds: u32,
    /// Whether to know the signatures of RFC 7427. Otherwise those of RSA keys are made with SHA-1.
    pub named_signatures: bool,
}

/// Which ranges of a [`SwanConnection`] share a Child SA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SwanChildren {
    /// All of them: `net`.
    #[default]
    Together,
    /// One for each pair of a local and a remote range: `net`, `net1`, `net2`, …
    PerPair,
}

/// What a [`SwanConnection`] proves itself, and has the peer prove itself, with. All in PEM.
#[derive(Clone, Debug)]
pub struct SwanCertificate {
    /// Its certificate, and those between it and the authority.
    pub chain: Vec<String>,
    /// The key of its certificate.
    pub private_key: Secret,
    /// Authorities that it trusts.
    pub authorities: Vec<String>,
    /// Revocation lists.
    pub revocation_lists: Vec<String>,
}

impl SwanConnection {
    /// A connection from `here` to `there` over all their IPv4 subnets, each identified by its address.
    pub fn between(here: &Site, there: &Site, psk: &str, ike: &str, esp: &str) -> Self {
        Self {
            remote_id: there.address.to_string(),
            local_id: here.address.to_string(),
            psk: Secret::new(psk.to_owned()),
            ike_proposals: vec![ike.to_owned()],
            esp_proposals: vec![esp.to_owned()],
            local_ranges: here.subnets(),
            remote_ranges: there.subnets(),
            force_encapsulation: true,
            ..Self::to_nowhere(here.address.into(), there.public_address.into())
        }
    }

    /// A connection that comes up with nobody, for a daemon that is told of its connections later.
    pub fn to_nowhere(local: IpAddr, remote: IpAddr) -> Self {
        let unused = |network| Cidr::host(Ipv4Addr::new(10, network, 0, 1).into());
        Self {
            version: IkeVersion::V2,
            local,
            remote,
            local_id: "nobody.example".to_owned(),
            remote_id: remote.to_string(),
            psk: Secret::new("no key of anybody".to_owned()),
            certificate: None,
            ike_proposals: vec!["aes128gcm16-prfsha256-x25519".to_owned()],
            esp_proposals: vec!["aes128gcm16".to_owned()],
            local_ranges: vec![unused(99)],
            remote_ranges: vec![unused(98)],
            children: SwanChildren::Together,
            force_encapsulation: false,
            aggressive_mode: false,
            childless: false,
            transport_mode: false,
            dpd_delay_seconds: 0,
            named_signatures: true,
        }
    }

    /// The commands that load what it proves itself with.
    pub(super) fn credentials(&self) -> Vec<(&'static str, Value)> {
        let Some(certificate) = &self.certificate else {
            return vec![(
                "load-shared",
                json!({
                    "type": "IKE",
                    "data": self.psk.reveal(),
                    "owners": [self.local_id, self.remote_id],
                }),
            )];
        };
        let load = |kind: &str, flag: &str, pem: &String| {
            ("load-cert", json!({"type": kind, "flag": flag, "data": pem}))
        };
        let mut commands = vec![(
            "load-key",
            json!({"type": "any", "data": certificate.private_key.reveal()}),
        )];
        commands.extend(certificate.chain.iter().map(|pem| load("X509", "NONE", pem)));
        commands.extend(certificate.authorities.iter().map(|pem| load("X509", "CA", pem)));
        let lists = certificate.revocation_lists.iter();
        commands.extend(lists.map(|pem| load("X509_CRL", "NONE", pem)));
        commands
    }

    /// Its definition.
    pub(super) fn definition(&self) -> Value {
        let auth = match self.certificate {
            Some(_) => "pubkey",
            None => "psk",
        };
        let mut local = json!({"auth": auth, "id": self.local_id});
        if let Some(first) = self.certificate.as_ref().and_then(|found| found.chain.first()) {
            local["certs"] = json!([first]);
        }
        json!({CONNECTION: {
            "version": match self.version {
                IkeVersion::V1 => "1",
                IkeVersion::V2 => "2",
            },
            "local_addrs": [self.local.to_string()],
            "remote_addrs": [self.remote_address()],
            "proposals": self.ike_words(),
            "encap": yes_or_no(self.force_encapsulation),
            "aggressive": yes_or_no(self.aggressive_mode),
            "childless": if self.childless { "force" } else { "allow" },
            "mobike": "no",
            "rekey_time": "0",
            "reauth_time": "0",
            "dpd_delay": format!("{}s", self.dpd_delay_seconds),
            "local": local,
            "remote": {"auth": auth, "id": self.remote_id},
            "children": Value::Object(self.child_definitions()),
        }})
    }

    /// Names of its Child SAs.
    pub(super) fn child_names(&self) -> Vec<String> {
        let count = match self.children {
            SwanChildren::Together => 1,
            SwanChildren::PerPair => self.local_ranges.len() * self.remote_ranges.len(),
        };
        (0..count).map(child_name).collect()
    }

    fn remote_address(&self) -> String {
        if self.remote == IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
            "%any".to_owned()
        } else {
            self.remote.to_string()
        }
    }

    fn child_definitions(&self) -> Map<String, Value> {
        let child = |local: &[Cidr], remote: &[Cidr]| {
            let texts = |ranges: &[Cidr]| ranges.iter().map(Cidr::to_string).collect::<Vec<_>>();
            json!({
                "local_ts": texts(local),
                "remote_ts": texts(remote),
                "esp_proposals": self.esp_words(),
                "mode": if self.transport_mode { "transport" } else { "tunnel" },
                "rekey_time": "0",
                "rekey_bytes": "0",
                "rekey_packets": "0",
                "dpd_action": "clear",
            })
        };
        match self.children {
            SwanChildren::Together => {
                Map::from_iter([(child_name(0), child(&self.local_ranges, &self.remote_ranges))])
            }
            SwanChildren::PerPair => self
                .local_ranges
                .iter()
                .flat_map(|local| self.remote_ranges.iter().map(move |remote| (*local, *remote)))
                .enumerate()
                .map(|(number, (local, remote))| (child_name(number), child(&[local], &[remote])))
                .collect(),
        }
    }

    /// In IKEv1 the hash is the pseudo-random function: strongSwan wants no word for it.
    fn ike_words(&self) -> Vec<String> {
        let keep = |word: &&str| self.version == IkeVersion::V2 || Prf::from_word(word).is_none();
        self.ike_proposals
            .iter()
            .map(|text| join(text.split('-').filter(keep)))
            .collect()
    }

    fn esp_words(&self) -> Vec<String> {
        self.esp_proposals
            .iter()
            .map(|text| join(text.split('-')))
            .collect()
    }
}

fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words
        .map(|word| match AdditionalKeyExchange::from_word(word) {
            Some(_) => format!("ke1_{word}"),
            None => word.to_owned(),
        })
        .collect();
    words.join("-")
}

fn child_name(number: usize) -> String {
    match number {
        0 => CHILD.to_owned(),
        other => format!("{CHILD}{other}"),
    }
}

const fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

//! The matrix and the list of cases that are known to fail, as read from their files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use isthmus_netlab::Family;
use isthmus_types::IkeVersion;

const CASES: &str = include_str!("../cases.txt");
const DISABLED: &str = include_str!("../disabled.txt");

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            fn from_word(word: &str) -> Result<Self> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    other => bail!("no {} {other:?}", stringify!($name).to_lowercase()),
                }
            }
        }
    )+};
}

words! {
    /// What is done in a case.
    Scenario {
        /// It comes up, works, and goes.
        Quick = "quick",
        /// The same with every kind of rekey.
        Cycle = "cycle",
        /// SAs are replaced because they get old.
        Aging = "aging",
        /// Rekeys by either side and by both at once, while every echo request counts.
        Storm = "storm",
        /// A tunnel's life while the internet loses packets.
        Lossy = "lossy",
        /// The peer dies and comes back.
        LostPeer = "lost-peer",
        /// The peer dies and is back at once.
        PeerRestart = "peer-restart",
        /// We are asked to negotiate anew.
        Reset = "reset",
        /// We die and come back.
        OwnRestart = "own-restart",
        /// The peer takes less than we offer, or offers more than we take.
        Narrowing = "narrowing",
        /// Only one end wants perfect forward secrecy, or the ends want other groups.
        PfsMismatch = "pfs-mismatch",
        /// Both ends authenticate each other; there is no ESP to try.
        Handshake = "handshake",
        /// The keys differ.
        WrongKey = "wrong-key",
        /// The peer presents another identity than we demand, or demands another than we present.
        WrongIdentity = "wrong-identity",
        /// No IKE proposal in common.
        NoIkeProposal = "no-ike-proposal",
        /// No ESP proposal in common.
        NoEspProposal = "no-esp-proposal",
        /// The ranges do not overlap.
        NoSelectors = "no-selectors",
        /// The peer's certificate is expired.
        CertificateExpired = "certificate-expired",
        /// The peer's certificate is for another name.
        CertificateWrongName = "certificate-wrong-name",
        /// The peer's certificate comes from an authority that we do not trust.
        CertificateUnknownIssuer = "certificate-unknown-issuer",
        /// The peer's certificate was revoked.
        CertificateRevoked = "certificate-revoked",
        /// The peer's certificate has a weak signature.
        CertificateWeak = "certificate-weak",
        /// Our certificate is expired.
        OwnCertificateExpired = "own-certificate-expired",
        /// The peer proves itself with a signature of SHA-1.
        SignatureWeak = "signature-weak",
    }

    /// Who is at the other end.
    PeerKind {
        /// Debian stable's strongSwan.
        StrongSwan5 = "strongswan5",
        /// Debian unstable's strongSwan.
        StrongSwan6 = "strongswan6",
        /// Debian stable's libreswan, without ESP.
        Libreswan = "libreswan",
        /// We.
        Isthmus = "isthmus",
    }

    /// Who starts the negotiation.
    Role {
        /// We do.
        Initiate = "initiate",
        /// The peer does.
        Respond = "respond",
    }

    /// Who is behind a translator.
    Translated {
        /// Nobody.
        Nobody = "none",
        /// We are.
        Ours = "ours",
        /// The peer is.
        Peer = "peer",
        /// Both are; whoever answers can be reached all the same.
        Both = "both",
    }

    /// When ESP is encapsulated in UDP.
    Encapsulation {
        /// Where there is a translator, or a side cannot do without.
        Automatic = "auto",
        /// Always.
        Forced = "forced",
    }

    /// How both sides prove themselves.
    Authentication {
        /// By a shared key.
        Psk = "psk",
        /// By certificates with RSA keys.
        Rsa = "rsa",
        /// By certificates with ECDSA keys.
        Ecdsa = "ecdsa",
        /// By certificates with Ed25519 keys.
        Ed25519 = "ed25519",
    }

    /// Which ranges share a Child SA.
    Selectors {
        /// All in one.
        Together = "together",
        /// One for each pair of a local and a remote range.
        PerPair = "per-pair",
    }

    /// What we propose.
    Offer {
        /// The case's proposals.
        Exact = "exact",
        /// What a connection without policies proposes.
        Automatic = "automatic",
        /// What one proposes whose peers may be obsolete.
        AutomaticObsolete = "automatic-obsolete",
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is done.
    pub scenario: Scenario,
    /// Who is at the other end.
    pub peer: PeerKind,
    /// Version of IKE.
    pub version: IkeVersion,
    /// Who starts.
    pub role: Role,
    /// IKE proposal of both sides.
    pub ike: String,
    /// ESP proposal of both sides.
    pub esp: String,
    /// ESP proposal of the peer.
    pub peer_esp: String,
    /// What we propose.
    pub offer: Offer,
    /// How both sides prove themselves.
    pub authentication: Authentication,
    /// Pairs of a local and a remote range.
    pub pairs: u8,
    /// Which of them share a Child SA.
    pub selectors: Selectors,
    /// Child SAs for the same ranges at a time.
    pub parallel: u8,
    /// Who is behind a translator.
    pub translated: Translated,
    /// When ESP is encapsulated.
    pub encapsulation: Encapsulation,
    /// Whether the IKE SA is set up without a Child SA (RFC 6023).
    pub childless: bool,
    /// Family of the packets between the gateways.
    pub outer: Family,
    /// Family of the packets in the tunnel.
    pub inner: Family,
}

impl Case {
    /// Number of Child SAs that must come of it.
    pub fn child_sas(&self) -> usize {
        let layouts: usize = match (self.selectors, self.version) {
            (Selectors::Together, IkeVersion::V2) => 1,
            // A quick mode agrees on one pair (RFC 2409 section 5.5).
            (Selectors::PerPair, _) | (Selectors::Together, IkeVersion::V1) => self.pairs.into(),
        };
        layouts * usize::from(self.parallel)
    }

    /// Whether ESP travels natively.
    pub fn is_native(&self) -> bool {
        matches!(self.peer, PeerKind::StrongSwan6 | PeerKind::Isthmus)
            && self.translated == Translated::Nobody
            && self.encapsulation == Encapsulation::Automatic
    }
}

/// Every case, in the file's order.
pub fn cases() -> Result<Vec<Case>> {
    let cases = rows(CASES)
        .map(|row| case(row).with_context(|| format!("in the row {row:?} of cases.txt")))
        .collect::<Result<Vec<_>>>()?;
    let mut names = BTreeSet::new();
    for case in &cases {
        ensure!(
            names.insert(&case.name),
            "{} stands twice in cases.txt",
            case.name
        );
    }
    Ok(cases)
}

/// Names of the cases that are known to fail, each with the reason.
pub fn disabled(cases: &[Case]) -> Result<BTreeMap<String, String>> {
    let mut disabled = BTreeMap::new();
    for row in rows(DISABLED) {
        let (name, reason) = row
            .split_once(char::is_whitespace)
            .with_context(|| format!("no reason in the row {row:?} of disabled.txt"))?;
        ensure!(
            cases.iter().any(|case| case.name == name),
            "disabled.txt names {name:?}, which is no case"
        );
        disabled.insert(name.to_owned(), reason.trim().to_owned());
    }
    Ok(disabled)
}

fn rows(file: &str) -> impl Iterator<Item = &str> {
    file.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Reads `name scenario key=value …`.
fn case(row: &str) -> Result<Case> {
    let mut words = row.split_whitespace();
    let name = words.next().context("no name")?;
    let mut case = Case {
        name: name.to_owned(),
        scenario: Scenario::from_word(words.next().context("no scenario")?)?,
        peer: PeerKind::StrongSwan5,
        version: IkeVersion::V2,
        role: Role::Initiate,
        ike: "aes128gcm16-prfsha256-x25519".to_owned(),
        esp: "aes128gcm16-x25519".to_owned(),
        peer_esp: String::new(),
        offer: Offer::Exact,
        authentication: Authentication::Psk,
        pairs: 1,
        selectors: Selectors::Together,
        parallel: 1,
        translated: Translated::Nobody,
        encapsulation: Encapsulation::Automatic,
        childless: false,
        outer: Family::V4,
        inner: Family::V4,
    };
    let mut seen = BTreeSet::new();
    for word in words {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?} is no key=value"))?;
        ensure!(seen.insert(key), "{key} stands twice");
        match key {
            "peer" => case.peer = PeerKind::from_word(value)?,
            "version" => case.version = version(value)?,
            "role" => case.role = Role::from_word(value)?,
            "ike" => case.ike = value.to_owned(),
            "esp" => case.esp = value.to_owned(),
            "peer-esp" => case.peer_esp = value.to_owned(),
            "offer" => case.offer = Offer::from_word(value)?,
            "auth" => case.authentication = Authentication::from_word(value)?,
            "pairs" => case.pairs = value.parse().context("number of pairs")?,
            "selectors" => case.selectors = Selectors::from_word(value)?,
            "parallel" => case.parallel = value.parse().context("number of parallel Child SAs")?,
            "nat" => case.translated = Translated::from_word(value)?,
            "encap" => case.encapsulation = Encapsulation::from_word(value)?,
            "childless" => case.childless = yes_or_no(value)?,
            "outer" => case.outer = family(value)?,
            "inner" => case.inner = family(value)?,
            other => bail!("no key {other:?}"),
        }
    }
    if case.peer_esp.is_empty() {
        case.peer_esp.clone_from(&case.esp);
    }
    Ok(case)
}

fn version(word: &str) -> Result<IkeVersion> {
    match word {
        "1" => Ok(IkeVersion::V1),
        "2" => Ok(IkeVersion::V2),
        other => bail!("no version {other:?}"),
    }
}

fn yes_or_no(word: &str) -> Result<bool> {
    match word {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => bail!("neither yes nor no: {other:?}"),
    }
}

fn family(word: &str) -> Result<Family> {
    match word {
        "v4" => Ok(Family::V4),
        "v6" => Ok(Family::V6),
        other => bail!("no family {other:?}"),
    }
}

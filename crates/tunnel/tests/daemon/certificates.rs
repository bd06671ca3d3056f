//! Certificates against strongSwan: each end begins once, with every kind of key and of identity.

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::{ConnectionPlan, DownReason, EstablishMode, IkeIdentity, TunnelPlan, TunnelState};
use isthmus_netlab::isthmus::connection_between;
use isthmus_netlab::strongswan::SwanCertificate;
use isthmus_netlab::{Ping, StrongSwan, SwanConnection, TwoSites, TwoSitesOptions, eventually};
use isthmus_simnet::pki::rcgen::{CertificateParams, SanType, SerialNumber, date_time_ymd};
use isthmus_simnet::pki::{Authority, KeyChoice, gateway, options, subject};

use crate::harness::{self, Daemon, prepare};

const PROPOSALS: (&str, &str) = ("aes128gcm16-prfsha256-x25519", "aes128gcm16");

struct Ends {
    sites: TwoSites,
    daemon: Daemon,
    swan: StrongSwan,
}

/// What an end has.
struct Holder {
    parameters: CertificateParams,
    key: KeyChoice,
    /// The identity, for us and in strongSwan's words; the address if none.
    identity: Option<(IkeIdentity, String)>,
}

fn by_address(name: &str, address: std::net::IpAddr, key: KeyChoice) -> Holder {
    Holder {
        parameters: gateway(name, address),
        key,
        identity: None,
    }
}

fn named(name: &str, key: KeyChoice) -> Holder {
    let domain = format!("{name}.example");
    let mut parameters = subject(name);
    parameters.subject_alt_names = vec![SanType::DnsName(domain.clone().try_into().expect("ASCII"))];
    Holder {
        parameters,
        key,
        identity: Some((IkeIdentity::Fqdn(domain.clone()), domain)),
    }
}

fn distinguished(name: &str, key: KeyChoice) -> Holder {
    Holder {
        parameters: subject(name),
        key,
        // strongSwan writes the most general attribute first.
        identity: Some((
            IkeIdentity::DistinguishedName(format!("CN={name},O=Isthmus")),
            format!("O=Isthmus, CN={name}"),
        )),
    }
}

/// Our daemon at the left, strongSwan at the right, each with a certificate of an authority below `root`.
fn start(
    sites: TwoSites,
    root: &Authority,
    ours: Holder,
    theirs: Holder,
    change: impl FnOnce(&mut ConnectionPlan, &Authority),
) -> Result<Ends> {
    prepare(&sites.left, "10.2.0.0/16")?;
    let middle = root.below("Middle", KeyChoice::Rsa2048);
    let own = middle.issue(&ours.parameters, ours.key);
    let other = middle.issue(&theirs.parameters, theirs.key);
    let (ike, esp) = PROPOSALS;
    let mut connection = connection_between(&sites.left, &sites.right, "unused", ike, esp)?;
    let mut swan = SwanConnection::between(&sites.right, &sites.left, "unused", ike, esp);
    connection.options.certificate = Some(options(&own, &[&middle], root));
    swan.certificate = Some(SwanCertificate {
        chain: vec![other.certificate, middle.pem()],
        private_key: other.key,
        authorities: vec![root.pem()],
        revocation_lists: vec![],
    });
    if let Some((id, words)) = ours.identity {
        connection.local_identity = id;
        swan.remote_id = words;
    }
    if let Some((id, words)) = theirs.identity {
        connection.peer_identity = id;
        swan.local_id = words;
    }
    change(&mut connection, &middle);
    let swan = StrongSwan::start(&sites.right.gateway, swan)?;
    let daemon = Daemon::start()?;
    daemon.apply(&TunnelPlan {
        gateways: vec![harness::gateway(&sites.left, 1, vec![connection])],
    })?;
    Ok(Ends { sites, daemon, swan })
}

impl Ends {
    fn carry(self) -> Result<()> {
        self.daemon
            .wait_until_up()
            .with_context(|| self.swan.log_tail())?;
        Ping::until_answered(&self.sites.left.hosts[0].node, self.sites.right.hosts[0].address)?;
        self.daemon.stop()
    }

    fn refuse(self, words: &str) -> Result<()> {
        eventually("the refusal", || {
            let state = self.daemon.connections()?.remove(0).state;
            let TunnelState::Down { reason, detail } = &state else {
                anyhow::bail!("{state:?}");
            };
            ensure!(
                *reason == DownReason::AuthenticationFailed && detail.contains(words),
                "{state:?}"
            );
            Ok(())
        })
        .with_context(|| self.swan.log_tail())?;
        self.daemon.stop()
    }
}

fn sites() -> Result<TwoSites> {
    TwoSites::new(TwoSitesOptions::default())
}

#[test]
fn strongswan_takes_our_certificates_and_we_take_its() -> Result<()> {
    for (ours, theirs) in [
        (KeyChoice::Rsa2048, KeyChoice::Rsa4096),
        (KeyChoice::P256, KeyChoice::P384),
        (KeyChoice::P521, KeyChoice::Ed25519),
    ] {
        let sites = sites()?;
        let (left, right) = (sites.left.address.into(), sites.right.address.into());
        let root = Authority::root("Root", KeyChoice::Rsa3072);
        let ends = start(
            sites,
            &root,
            by_address("left", left, ours),
            by_address("right", right, theirs),
            |_, _| (),
        )?;
        ends.carry().with_context(|| format!("{ours:?} and {theirs:?}"))?;
    }
    Ok(())
}

#[test]
fn strongswan_begins_with_names_and_distinguished_names() -> Result<()> {
    let passive =
        |connection: &mut ConnectionPlan, _: &Authority| connection.establish = EstablishMode::PeerOnly;
    for (ours, theirs) in [
        (
            named("left", KeyChoice::Rsa2048),
            distinguished("right", KeyChoice::P256),
        ),
        (
            distinguished("left", KeyChoice::P384),
            named("right", KeyChoice::Rsa3072),
        ),
        (named("left", KeyChoice::Ed25519), named("right", KeyChoice::P521)),
    ] {
        let root = Authority::root("Root", KeyChoice::P256);
        let ends = start(sites()?, &root, ours, theirs, passive)?;
        ends.swan.initiate()?;
        ends.carry()?;
    }
    Ok(())
}

#[test]
fn strongswan_with_a_certificate_that_is_not_good_is_refused_for_that_reason() -> Result<()> {
    let root = || Authority::root("Root", KeyChoice::P256);
    let ours = || distinguished("left", KeyChoice::P256);

    let mut expired = distinguished("right", KeyChoice::P256);
    expired.parameters.not_after = date_time_ymd(2026, 6, 1);
    start(sites()?, &root(), ours(), expired, |_, _| ())?.refuse("has expired")?;

    let mut revoked = distinguished("right", KeyChoice::P256);
    revoked.parameters.serial_number = Some(SerialNumber::from(0xfa_ce_u64));
    start(sites()?, &root(), ours(), revoked, |connection, middle| {
        if let Some(certificate) = &mut connection.options.certificate {
            certificate.revocation_lists = middle.revocation_list(&[0xfa_ce], (2040, 1, 1));
        }
    })?
    .refuse("was revoked")?;

    let stranger = Authority::root("Stranger", KeyChoice::P256).pem();
    start(
        sites()?,
        &root(),
        ours(),
        distinguished("right", KeyChoice::P256),
        |connection, _| {
            if let Some(certificate) = &mut connection.options.certificate {
                certificate.authorities = stranger;
            }
        },
    )?
    .refuse("comes from none of our authorities")
}

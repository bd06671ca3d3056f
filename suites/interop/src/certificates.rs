//! What both sides prove themselves with in the cases that use certificates.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use isthmus_hostplan::{ConnectionPlan, IkeIdentity};
use isthmus_netlab::SwanConnection;
use isthmus_netlab::strongswan::SwanCertificate;
use isthmus_simnet::pki::rcgen::{CertificateParams, SanType, SerialNumber, date_time_ymd};
use isthmus_simnet::pki::{Authority, Issued, KeyChoice, options, subject};
use isthmus_types::{CertificateOptions, Secret};

use crate::table::Authentication;

/// Serial number of the certificate that is revoked.
const REVOKED: u64 = 0x00fa_cade;
const OUR_NAME: &str = "ours.example";
const THEIR_NAME: &str = "theirs.example";

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The peer's is expired.
    Expired,
    /// The peer's is for another name.
    WrongName,
    /// The peer's comes from an authority that we do not trust.
    UnknownIssuer,
    /// The peer's was revoked.
    Revoked,
    /// The peer's was signed with SHA-1.
    Weak,
    /// What the peer proves itself with is a signature with SHA-1.
    WeakSignature,
    /// Ours is expired.
    OursExpired,
}

/// Gives both sides certificates below one root, each with an authority between; `defect` is wrong with one of them.
pub fn equip(
    plan: &mut ConnectionPlan,
    connection: &mut SwanConnection,
    authentication: Authentication,
    defect: Option<Defect>,
) -> Result<()> {
    let (our_key, their_key) = match authentication {
        Authentication::Psk | Authentication::Ecdsa => (KeyChoice::P256, KeyChoice::P384),
        Authentication::Rsa => (KeyChoice::Rsa2048, KeyChoice::Rsa3072),
        Authentication::Ed25519 => (KeyChoice::Ed25519, KeyChoice::Ed25519),
    };
    let root = Authority::root("Root", KeyChoice::P256);
    let middle = root.below("Middle", our_key);
    let mut own = named(OUR_NAME)?;
    let mut other = named(THEIR_NAME)?;
    match defect {
        Some(Defect::Expired) => other.not_after = date_time_ymd(2026, 6, 1),
        Some(Defect::OursExpired) => own.not_after = date_time_ymd(2026, 6, 1),
        Some(Defect::WrongName) => other = named("somebody.example")?,
        Some(Defect::Revoked) => other.serial_number = Some(SerialNumber::from(REVOKED)),
        Some(Defect::WeakSignature) => connection.named_signatures = false,
        Some(Defect::UnknownIssuer | Defect::Weak) | None => {}
    }
    let own = middle.issue(&own, our_key);
    let mut ours = options(&own, &[&middle], &root);
    if defect == Some(Defect::Revoked) {
        ours.revocation_lists = middle.revocation_list(&[REVOKED], (2040, 1, 1));
    }
    let mut theirs = SwanCertificate {
        authorities: vec![root.pem()],
        ..holding(middle.issue(&other, their_key), &[&middle])
    };
    match defect {
        Some(Defect::UnknownIssuer) => {
            let stranger = Authority::root("Stranger", KeyChoice::P256);
            theirs = SwanCertificate {
                authorities: theirs.authorities,
                ..holding(stranger.issue(&other, their_key), &[])
            };
        }
        Some(Defect::Weak) => {
            let (authority, certificate, key) = signed_with_sha1()?;
            ours.authorities.push_str(&authority);
            theirs.chain = vec![certificate];
            theirs.private_key = Secret::new(key);
        }
        Some(
            Defect::Expired
            | Defect::OursExpired
            | Defect::Revoked
            | Defect::WeakSignature
            | Defect::WrongName,
        )
        | None => {}
    }
    plan.options.certificate = Some(ours);
    plan.local_identity = IkeIdentity::Fqdn(OUR_NAME.to_owned());
    plan.peer_identity = IkeIdentity::Fqdn(THEIR_NAME.to_owned());
    connection.certificate = Some(theirs);
    connection.local_id = match defect {
        // strongSwan shows no identity that its certificate lacks.
        Some(Defect::WrongName) => "somebody.example".to_owned(),
        Some(_) | None => THEIR_NAME.to_owned(),
    };
    connection.remote_id = OUR_NAME.to_owned();
    Ok(())
}

/// What a peer was given by [`equip`], where it is one of ours.
pub fn of_peer(connection: &SwanConnection) -> Result<CertificateOptions> {
    let given = connection
        .certificate
        .clone()
        .context("the peer has no certificate")?;
    Ok(CertificateOptions {
        chain: given.chain.concat(),
        private_key: given.private_key,
        authorities: given.authorities.concat(),
        revocation_lists: given.revocation_lists.concat(),
        require_revocation_list: false,
    })
}

fn named(name: &str) -> Result<CertificateParams> {
    let mut parameters = subject(name);
    parameters.subject_alt_names = vec![SanType::DnsName(name.to_owned().try_into()?)];
    Ok(parameters)
}

fn holding(own: Issued, between: &[&Authority]) -> SwanCertificate {
    let mut chain = vec![own.certificate];
    chain.extend(between.iter().map(|authority| authority.pem()));
    SwanCertificate {
        chain,
        private_key: own.key,
        authorities: Vec::new(),
        revocation_lists: Vec::new(),
    }
}

/// An authority, and a certificate of it for the peer with its key, whose signature is by SHA-1.
fn signed_with_sha1() -> Result<(String, String, String)> {
    let directory = tempfile::tempdir()?;
    let openssl = |arguments: &str| -> Result<()> {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&directory)
            .stdin(Stdio::null())
            .output()
            .context("openssl could not be started")?;
        ensure!(
            output.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 30 -sha256 -subj /O=Isthmus/CN=Old -keyout ca.key -out ca.pem",
    )?;
    openssl(&format!(
        "req -x509 -CA ca.pem -CAkey ca.key -newkey rsa:2048 -nodes -days 30 -sha1 -subj /O=Isthmus/CN=old \
         -addext subjectAltName=DNS:{THEIR_NAME} -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out own.pem"
    ))?;
    let read = |name: &str| fs::read_to_string(directory.path().join(name));
    Ok((read("ca.pem")?, read("own.pem")?, read("key.pem")?))
}

//! The keys of every SA in clear, as Wireshark reads them: to look into captures of one's own tunnels.
//!
//! Off unless a gateway's plan names a directory. Whoever has the files in it and a capture reads all traffic, so they are
//! for the owner's eyes only and a warning says that they are written. They have the names and the form of the tables in
//! Wireshark's own configuration directory.

use std::fmt::Write as _;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use isthmus_crypto::suite::{CipherSuite, KeyMaterial};
use isthmus_ike::{ChildSa, IkeSaKeys};
use isthmus_types::{Encryption, Integrity};
use zeroize::Zeroizing;

const IKE_TABLE: &str = "ikev2_decryption_table";
const ESP_TABLE: &str = "esp_sa";

/// An open key log.
#[derive(Debug)]
pub(crate) struct KeyLog {
    directory: PathBuf,
    ike: File,
    esp: File,
}

impl KeyLog {
    /// Opens the tables in `directory` to append to them, and makes what is missing.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let log = Self {
            directory: directory.to_owned(),
            ike: open_table(&directory.join(IKE_TABLE))?,
            esp: open_table(&directory.join(ESP_TABLE))?,
        };
        tracing::warn!(
            directory = %directory.display(),
            "the keys of every SA are written in clear: turn the key log off when done"
        );
        Ok(log)
    }

    /// Writes the keys of an IKE SA.
    pub(crate) fn write_ike(&mut self, keys: &IkeSaKeys) {
        let written = self.ike.write_all(ike_line(keys).as_bytes());
        self.tell(written);
    }

    /// Writes the keys of a pair of ESP SAs between `local` and the peer.
    pub(crate) fn write_child(&mut self, local: IpAddr, child: &ChildSa) {
        for (ends, direction) in [
            ((child.remote, local), &child.inbound),
            ((local, child.remote), &child.outbound),
        ] {
            let line = esp_line(ends, direction.spi, child.suite, &direction.keys);
            let written = self.esp.write_all(line.as_bytes());
            self.tell(written);
        }
    }

    fn tell(&self, written: io::Result<()>) {
        if let Err(error) = written {
            tracing::warn!(directory = %self.directory.display(), %error, "keys were not logged");
        }
    }
}

fn open_table(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    // One that was there before may have been readable.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

fn ike_line(keys: &IkeSaKeys) -> Zeroizing<String> {
    let Some(encryption) = ike_encryption(keys.cipher.encryption()) else {
        return Zeroizing::new(format!(
            "# SPI {:016x}: {} is unknown to Wireshark\n",
            keys.initiator_spi, keys.cipher
        ));
    };
    Zeroizing::new(format!(
        "{:016x},{:016x},{},{},\"{}\",{},{},\"{}\"\n",
        keys.initiator_spi,
        keys.responder_spi,
        *hex(keys.initiator.encryption()),
        *hex(keys.responder.encryption()),
        encryption,
        *hex(keys.initiator.integrity()),
        *hex(keys.responder.integrity()),
        ike_integrity(keys.cipher.integrity()),
    ))
}

fn esp_line(
    (source, destination): (IpAddr, IpAddr),
    spi: u32,
    suite: CipherSuite,
    keys: &KeyMaterial,
) -> Zeroizing<String> {
    let version = match source {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    };
    let Some(encryption) = esp_encryption(suite.encryption()) else {
        return Zeroizing::new(format!("# SPI 0x{spi:08x}: {suite} is unknown to Wireshark\n"));
    };
    let number = |bytes: &[u8]| {
        let prefix = if bytes.is_empty() { "" } else { "0x" };
        Zeroizing::new(format!("{prefix}{}", *hex(bytes)))
    };
    Zeroizing::new(format!(
        "\"{version}\",\"{source}\",\"{destination}\",\"0x{spi:08x}\",\"{encryption}\",\"{}\",\"{}\",\"{}\"\n",
        *number(keys.encryption()),
        esp_integrity(suite.integrity()),
        *number(keys.integrity()),
    ))
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The name of a cipher in Wireshark's table of IKE SAs; none for what it cannot read as of release 4.0.
const fn ike_encryption(encryption: Encryption) -> Option<&'static str> {
    match encryption {
        Encryption::TripleDes => Some("3DES [RFC2451]"),
        Encryption::Aes128Cbc => Some("AES-CBC-128 [RFC3602]"),
        Encryption::Aes192Cbc => Some("AES-CBC-192 [RFC3602]"),
        Encryption::Aes256Cbc => Some("AES-CBC-256 [RFC3602]"),
        Encryption::Aes128Gcm8 => Some("AES-GCM-128 with 8 octet ICV [RFC5282]"),
        Encryption::Aes192Gcm8 => Some("AES-GCM-192 with 8 octet ICV [RFC5282]"),
        Encryption::Aes256Gcm8 => Some("AES-GCM-256 with 8 octet ICV [RFC5282]"),
        Encryption::Aes128Gcm12 => Some("AES-GCM-128 with 12 octet ICV [RFC5282]"),
        Encryption::Aes192Gcm12 => Some("AES-GCM-192 with 12 octet ICV [RFC5282]"),
        Encryption::Aes256Gcm12 => Some("AES-GCM-256 with 12 octet ICV [RFC5282]"),
        Encryption::Aes128Gcm16 => Some("AES-GCM-128 with 16 octet ICV [RFC5282]"),
        Encryption::Aes192Gcm16 => Some("AES-GCM-192 with 16 octet ICV [RFC5282]"),
        Encryption::Aes256Gcm16 => Some("AES-GCM-256 with 16 octet ICV [RFC5282]"),
        Encryption::ChaCha20Poly1305 => None,
    }
}

const fn ike_integrity(integrity: Option<Integrity>) -> &'static str {
    match integrity {
        None => "NONE [RFC4306]",
        Some(Integrity::HmacMd5_96) => "HMAC_MD5_96 [RFC2403]",
        Some(Integrity::HmacSha1_96) => "HMAC_SHA1_96 [RFC2404]",
        Some(Integrity::HmacSha2_256_128) => "HMAC_SHA2_256_128 [RFC4868]",
        Some(Integrity::HmacSha2_384_192) => "HMAC_SHA2_384_192 [RFC4868]",
        Some(Integrity::HmacSha2_512_256) => "HMAC_SHA2_512_256 [RFC4868]",
    }
}

/// The name of a cipher in Wireshark's table of ESP SAs; none for what it cannot read as of release 4.0.
const fn esp_encryption(encryption: Encryption) -> Option<&'static str> {
    match encryption {
        Encryption::TripleDes => Some("TripleDES-CBC [RFC2451]"),
        Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => Some("AES-CBC [RFC3602]"),
        Encryption::Aes128Gcm8 | Encryption::Aes192Gcm8 | Encryption::Aes256Gcm8 => {
            Some("AES-GCM with 8 octet ICV [RFC4106]")
        }
        Encryption::Aes128Gcm12 | Encryption::Aes192Gcm12 | Encryption::Aes256Gcm12 => {
            Some("AES-GCM with 12 octet ICV [RFC4106]")
        }
        Encryption::Aes128Gcm16 | Encryption::Aes192Gcm16 | Encryption::Aes256Gcm16 => {
            Some("AES-GCM with 16 octet ICV [RFC4106]")
        }
        Encryption::ChaCha20Poly1305 => None,
    }
}

const fn esp_integrity(integrity: Option<Integrity>) -> &'static str {
    match integrity {
        None => "NULL",
        Some(Integrity::HmacMd5_96) => "HMAC-MD5-96 [RFC2403]",
        Some(Integrity::HmacSha1_96) => "HMAC-SHA-1-96 [RFC2404]",
        Some(Integrity::HmacSha2_256_128) => "HMAC-SHA-256-128 [RFC4868]",
        Some(Integrity::HmacSha2_384_192) => "HMAC-SHA-384-192 [RFC4868]",
        Some(Integrity::HmacSha2_512_256) => "HMAC-SHA-512-256 [RFC4868]",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(encryption: u8, integrity: u8) -> KeyMaterial {
        KeyMaterial::new(
            Zeroizing::new(vec![0xab; usize::from(encryption)]),
            Zeroizing::new(vec![0xcd; usize::from(integrity)]),
        )
    }

    #[test]
    fn lines_have_the_form_of_the_tables() {
        let cipher = CipherSuite::new(Encryption::Aes128Cbc, Some(Integrity::HmacSha1_96)).unwrap();
        let line = ike_line(&IkeSaKeys {
            initiator_spi: 0x1234,
            responder_spi: 0xf000_0000_0000_0001,
            cipher,
            initiator: keys(2, 1),
            responder: keys(2, 1),
        });
        assert_eq!(
            *line,
            "0000000000001234,f000000000000001,abab,abab,\"AES-CBC-128 [RFC3602]\",cd,cd,\"HMAC_SHA1_96 [RFC2404]\"\n"
        );
        let ends = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        assert_eq!(
            *esp_line(ends, 0x100, cipher, &keys(2, 1)),
            "\"IPv6\",\"fd00::1\",\"fd00::2\",\"0x00000100\",\"AES-CBC [RFC3602]\",\"0xabab\",\"HMAC-SHA-1-96 [RFC2404]\",\"0xcd\"\n"
        );
    }
}

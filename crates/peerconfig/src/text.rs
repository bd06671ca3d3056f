//! Names, identities and keys as devices read them. All of them come from somebody: none may end a line, a quotation or a word.

use isthmus_hostplan::IkeIdentity;

use crate::error::Inexpressible;

/// Fields of ours, in the words of [`Inexpressible::field`]. What is ours is remote to the device.
pub(crate) const OUR_IDENTITY: &str = "local_identity";
pub(crate) const PEER_IDENTITY: &str = "peer_identity";
pub(crate) const SHARED_KEY: &str = "psk";
pub(crate) const AUTHENTICATION: &str = "auth_method";
pub(crate) const IKE_PROPOSALS: &str = "ike_proposals";
pub(crate) const ESP_PROPOSALS: &str = "esp_proposals";
pub(crate) const RANGES: &str = "cidrs";
pub(crate) const PEER_ADDRESS: &str = "peer_address";
pub(crate) const GATEWAY_ADDRESS: &str = "gateway_address";

/// Text between double quotes, with what would end them after a backslash.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The bytes of a text, in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The text, if it is one line of characters that can be seen.
pub(crate) fn one_line<'a>(
    device: &'static str,
    field: &'static str,
    text: &'a str,
) -> Result<&'a str, Inexpressible> {
    without(device, field, text, char::is_control)
}

/// The text, if none of its characters is `wrong`.
pub(crate) fn without<'a>(
    device: &'static str,
    field: &'static str,
    text: &'a str,
    wrong: impl Fn(char) -> bool,
) -> Result<&'a str, Inexpressible> {
    match text
        .chars()
        .find(|character| character.is_control() || wrong(*character))
    {
        None => Ok(text),
        Some(character) => Err(Inexpressible::new(
            device,
            field,
            format!("{character:?} in it would be read as something else"),
        )),
    }
}

/// A distinguished name as it is encoded, from the country down, for devices that write it so and know no escapes. RFC 4514 has
/// the most specific attribute first.
pub(crate) fn from_the_country_down(
    device: &'static str,
    field: &'static str,
    name: &str,
) -> Result<String, Inexpressible> {
    let name = without(device, field, name, |character| "\\\"+;/#<>".contains(character))?;
    let mut parts: Vec<&str> = name.split(',').map(str::trim).collect();
    parts.reverse();
    Ok(parts.join(", "))
}

/// An identity as one line of text without its kind. A key id must be text.
pub(crate) fn plain(
    device: &'static str,
    field: &'static str,
    identity: &IkeIdentity,
) -> Result<String, Inexpressible> {
    let text = match identity {
        IkeIdentity::Address(address) => address.to_string(),
        IkeIdentity::DistinguishedName(text) | IkeIdentity::Email(text) | IkeIdentity::Fqdn(text) => {
            text.clone()
        }
        IkeIdentity::KeyId(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => text.to_owned(),
            _ => {
                return Err(Inexpressible::new(
                    device,
                    field,
                    format!("the key id 0x{} is no plain text", hex(bytes)),
                ));
            }
        },
    };
    one_line(device, field, &text).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_line_or_a_quotation_is_refused_or_escaped() {
        assert_eq!(quoted("a\"b\\"), "\"a\\\"b\\\\\"");
        let error = one_line("X", SHARED_KEY, "a\nb").unwrap_err();
        assert_eq!(
            error.to_string(),
            "X cannot express psk: '\\n' in it would be read as something else"
        );
        assert!(one_line("X", SHARED_KEY, "a b").is_ok());
        assert!(without("X", SHARED_KEY, "a b", char::is_whitespace).is_err());
    }

    #[test]
    fn a_key_id_is_text_or_refused() {
        let id = |bytes: &[u8]| plain("X", OUR_IDENTITY, &IkeIdentity::KeyId(bytes.to_vec()));
        assert_eq!(id(b"branch 7").unwrap(), "branch 7");
        assert!(id(&[1, 2]).is_err() && id(&[0xff]).is_err());
    }
}

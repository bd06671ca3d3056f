//! Bearer tokens: signed statements (JWT, RFC 7519) of who the bearer is.

use isthmus_types::{AccountId, Timestamp, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

const ISSUER: &str = "isthmus";

/// Signs and checks bearer tokens.
pub struct TokenKey {
    sign: EncodingKey,
    verify: DecodingKey,
}

/// A token was refused or could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was valid once.
    #[error("the token has expired")]
    Expired,
    /// It is malformed, signed by someone else or changed.
    #[error("the token is not one that this server gave")]
    Invalid,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    iam_id: String,
    account: AccountClaim,
    iat: u64,
    exp: u64,
}

#[derive(Serialize, Deserialize)]
struct AccountClaim {
    valid: bool,
    bss: String,
}

impl TokenKey {
    /// A key with this secret.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self {
            sign: EncodingKey::from_secret(secret),
            verify: DecodingKey::from_secret(secret),
        }
    }

    /// Makes a token that is valid from `now` for `lifetime` seconds.
    ///
    /// # Errors
    /// [`TokenError::Invalid`] if signing fails.
    pub fn mint(
        &self,
        account: AccountId,
        user: UserId,
        now: Timestamp,
        lifetime: u64,
    ) -> Result<String, TokenError> {
        let iat = now.0 / 1000;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user.to_string(),
            iam_id: format!("IBMid-{user}"),
            account: AccountClaim {
                valid: true,
                bss: account.to_string(),
            },
            iat,
            exp: iat.saturating_add(lifetime),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.sign)
            .map_err(|_| TokenError::Invalid)
    }

    /// Who bears the token.
    ///
    /// # Errors
    /// [`TokenError`] says whether it was valid once.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<(AccountId, UserId), TokenError> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        // The time is checked below, by the clock that the caller passes in.
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.verify, &validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        if claims.exp <= now.0 / 1000 {
            return Err(TokenError::Expired);
        }
        let account = claims.account.bss.parse().map_err(|_| TokenError::Invalid)?;
        let user = claims.sub.parse().map_err(|_| TokenError::Invalid)?;
        Ok((account, user))
    }
}

#[cfg(test)]
mod tests {
    use isthmus_types::ResourceBits;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_250_000_000);

    fn parties() -> (AccountId, UserId) {
        (
            ResourceBits::from_random(1).into(),
            ResourceBits::from_random(2).into(),
        )
    }

    #[test]
    fn a_token_says_who_until_it_expires() {
        let key = TokenKey::new(&[7; 32]);
        let (account, user) = parties();
        let token = key.mint(account, user, NOW, 3600).unwrap();
        assert_eq!(key.verify(&token, NOW), Ok((account, user)));
        assert_eq!(
            key.verify(&token, Timestamp(NOW.0 + 3_599_000)),
            Ok((account, user))
        );
        assert_eq!(
            key.verify(&token, Timestamp(NOW.0 + 3_600_000)),
            Err(TokenError::Expired)
        );
    }

    #[test]
    fn foreign_and_changed_tokens_are_refused() {
        let key = TokenKey::new(&[7; 32]);
        let (account, user) = parties();
        let foreign = TokenKey::new(&[8; 32]).mint(account, user, NOW, 3600).unwrap();
        assert_eq!(key.verify(&foreign, NOW), Err(TokenError::Invalid));
        let token = key.mint(account, user, NOW, 3600).unwrap();
        for index in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last character of a base64 part may carry unused bits, so only a real change must be noticed.
            if changed != token {
                assert!(
                    key.verify(&changed, NOW).is_err() || index + 1 == token.len(),
                    "character {index} of {} could be changed",
                    token.len()
                );
            }
        }
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap());
        assert_eq!(key.verify(&unsigned, NOW), Err(TokenError::Invalid));
        assert_eq!(key.verify("", NOW), Err(TokenError::Invalid));
    }
}

//! Stateless cookies (RFC 7296 section 2.6).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use isthmus_crypto::prf::{constant_time_equal, prf};
use isthmus_types::Prf;
use isthmus_wire::ike::IkeSpi;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

const ROTATION: Duration = Duration::from_secs(60);

/// Makes and checks cookies with a secret that changes every minute; those of the previous minute still hold.
pub(crate) struct CookieJar {
    current: Zeroizing<[u8; 32]>,
    previous: Zeroizing<[u8; 32]>,
    version: u8,
    rotate_at: Instant,
    made: u64,
}

/// What a cookie is bound to.
pub(crate) struct CookieClaim<'a> {
    pub(crate) nonce: &'a [u8],
    pub(crate) spi: IkeSpi,
    pub(crate) remote: SocketAddr,
}

impl CookieJar {
    pub(crate) fn new(rng: &mut ChaCha20Rng, now: Instant) -> Self {
        Self {
            current: secret(rng),
            previous: secret(rng),
            version: 0,
            rotate_at: now + ROTATION,
            made: 0,
        }
    }

    /// Cookies that were made.
    pub(crate) const fn made(&self) -> u64 {
        self.made
    }

    pub(crate) fn make(&mut self, claim: &CookieClaim<'_>, rng: &mut ChaCha20Rng, now: Instant) -> Vec<u8> {
        self.rotate(rng, now);
        self.made += 1;
        let mut cookie = vec![self.version];
        cookie.extend_from_slice(&mac(&self.current, claim));
        cookie
    }

    pub(crate) fn check(
        &mut self,
        cookie: &[u8],
        claim: &CookieClaim<'_>,
        rng: &mut ChaCha20Rng,
        now: Instant,
    ) -> bool {
        self.rotate(rng, now);
        let Some((version, tag)) = cookie.split_first() else {
            return false;
        };
        let key = if *version == self.version {
            &self.current
        } else if *version == self.version.wrapping_sub(1) {
            &self.previous
        } else {
            return false;
        };
        constant_time_equal(&mac(key, claim), tag)
    }

    fn rotate(&mut self, rng: &mut ChaCha20Rng, now: Instant) {
        if now < self.rotate_at {
            return;
        }
        // After a pause of more than one period no cookie that is still around is worth accepting.
        let stale = now >= self.rotate_at + ROTATION;
        self.previous = if stale { secret(rng) } else { self.current.clone() };
        self.current = secret(rng);
        self.version = self.version.wrapping_add(1);
        self.rotate_at = now + ROTATION;
    }
}

fn secret(rng: &mut ChaCha20Rng) -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut secret[..]);
    secret
}

fn mac(key: &[u8; 32], claim: &CookieClaim<'_>) -> Zeroizing<Vec<u8>> {
    let address = claim.remote.ip().to_canonical().to_string();
    prf(
        Prf::HmacSha2_256,
        key,
        &[
            claim.nonce,
            &claim.spi.0.to_be_bytes(),
            &claim.remote.port().to_be_bytes(),
            address.as_bytes(),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_cookie_holds_for_its_claim_and_for_one_to_two_minutes() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        #[expect(
            clippy::disallowed_methods,
            reason = "a test needs some instant to start from"
        )]
        let start = Instant::now();
        let mut jar = CookieJar::new(&mut rng, start);
        let claim = CookieClaim {
            nonce: &[1; 32],
            spi: IkeSpi(7),
            remote: "192.0.2.1:500".parse().unwrap(),
        };
        let other = CookieClaim {
            remote: "192.0.2.1:501".parse().unwrap(),
            ..claim
        };
        let cookie = jar.make(&claim, &mut rng, start);
        assert!(jar.check(&cookie, &claim, &mut rng, start));
        assert!(!jar.check(&cookie, &other, &mut rng, start));
        assert!(!jar.check(&[], &claim, &mut rng, start));
        assert!(jar.check(&cookie, &claim, &mut rng, start + Duration::from_secs(70)));
        assert!(!jar.check(&cookie, &claim, &mut rng, start + Duration::from_secs(130)));
    }
}

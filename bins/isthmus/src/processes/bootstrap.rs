//! The first account, and the files that say how to reach the API.

use anyhow::Context;
use isthmus_crypto::prf::sha256;
use isthmus_ops::{Caller, CreateAccount, Operation, Request, Via};
use isthmus_runtime::{Profile, StateLayout, private_file, random};
use isthmus_store::Store;
use isthmus_types::{AccountId, ResourceName, UserId};

/// Characters of an API key: 258 random bits.
const KEY_LENGTH: usize = 43;

/// Makes the first account if there is none, and says whom the credentials file stands for.
///
/// The file is written first: a crash in between leaves a key whose account is made at the next start, never an
/// account whose key nobody has.
pub async fn ensure_account(
    store: &Store,
    layout: &StateLayout,
) -> anyhow::Result<Option<(AccountId, UserId)>> {
    let path = layout.credentials();
    let has_account = store.snapshot().accounts().next().is_some();
    let profile = match Profile::load(&path)? {
        Some(profile) => profile,
        None if has_account => {
            tracing::warn!(path = %path.display(), "the credentials file is lost; the account stays as it is");
            return Ok(None);
        }
        None => {
            let profile = Profile {
                url: String::new(),
                api_key: random::secret_word(KEY_LENGTH),
                account: Some(AccountId(random::resource_bits())),
                user: Some(UserId(random::resource_bits())),
            };
            profile.save(&path)?;
            profile
        }
    };
    let (Some(account), Some(user)) = (profile.account, profile.user) else {
        anyhow::ensure!(
            has_account,
            "{} names no account: move it away, and a new account is made",
            path.display()
        );
        return Ok(None);
    };
    if store.snapshot().account(account).is_none() {
        create(store, account, user, &profile).await?;
        tracing::info!(%account, credentials = %path.display(), "the first account was made");
    }
    Ok(Some((account, user)))
}

/// Writes where the API is, for people and for the commands of this program.
pub fn announce(layout: &StateLayout, url: &str) -> anyhow::Result<()> {
    let path = layout.credentials();
    if let Some(mut profile) = Profile::load(&path)?
        && profile.url != url
    {
        url.clone_into(&mut profile.url);
        profile.save(&path)?;
    }
    private_file::replace(&layout.api_url(), url.as_bytes())
        .with_context(|| format!("{} cannot be written", layout.api_url().display()))
}

async fn create(store: &Store, account: AccountId, user: UserId, profile: &Profile) -> anyhow::Result<()> {
    let operation = Operation::CreateAccount(CreateAccount {
        account,
        name: ResourceName::new("default")?,
        user,
        user_name: ResourceName::new("administrator")?,
        // Revealed to be hashed: only the hash is stored.
        api_key_hash: sha256(&[profile.api_key.reveal().as_bytes()]),
    });
    let caller = Caller {
        account,
        user: None,
        via: Via::System,
        request_id: "first-start".to_owned(),
    };
    store
        .execute(Request {
            caller,
            operation,
            idempotency_token: None,
        })
        .await
        .context("the first account cannot be made")?;
    Ok(())
}

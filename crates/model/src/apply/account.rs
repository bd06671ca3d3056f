//! Accounts.

use isthmus_ops::{CreateAccount, OpError, OpErrorCode, Outcome, ResourceKind};

use super::Draft;
use crate::record::{Account, ApiKey, Role, User};
use crate::refusal::duplicate_name;
use crate::snapshot::NameScope;

impl Draft<'_> {
    pub(super) fn create_account(&mut self, new: &CreateAccount) -> Result<Outcome, OpError> {
        if self.state.named(NameScope::Accounts, &new.name).is_some() {
            return Err(duplicate_name(ResourceKind::Account, &new.name));
        }
        let taken = |resource| OpError::new(OpErrorCode::InUse, resource, "the id or key is taken");
        if self.state.account(new.account).is_some() {
            return Err(taken(ResourceKind::Account));
        }
        if self.state.user(new.user).is_some() {
            return Err(taken(ResourceKind::User));
        }
        if self.state.api_key_by_hash(&new.api_key_hash).is_some() {
            return Err(taken(ResourceKind::ApiKey));
        }
        let created_at = self.now;
        self.put(Account {
            id: new.account,
            name: new.name.clone(),
            created_at,
        });
        self.put(User {
            id: new.user,
            account: new.account,
            name: new.user_name.clone(),
            role: Role::Administrator,
            created_at,
        });
        let id = self.fresh();
        self.put(ApiKey {
            id,
            account: new.account,
            user: new.user,
            hash: new.api_key_hash,
            created_at,
        });
        Ok(Outcome::Done)
    }
}

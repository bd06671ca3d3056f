//! A running server.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use isthmus_api::{Limits, Options};
use isthmus_crypto::prf::sha256;
use isthmus_crypto::seal::SealingKey;
use isthmus_model::{Settings, Snapshot};
use isthmus_ops::{
    Caller, ConnectionDownReason, ConnectionState, ConnectionStatus, CreateAccount, GatewayStatus,
    HostFindings, InstanceStatus, Operation, Request, StatusUpdate, Via,
};
use isthmus_runtime::{Shutdown, clock, random};
use isthmus_store::{Store, StoreOptions};
use isthmus_types::{AccountId, ResourceName, Revision, Secret, UserId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::client::Client;

/// An account with an administrator and the administrator's key.
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its administrator.
    pub user: UserId,
    /// The administrator's API key.
    pub api_key: Secret,
}

/// A running server with a database of its own. Dropping it ends it.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its store, behind the API's back.
    pub store: Store,
    /// The account that [`Server::client`] acts for.
    pub account: Account,
    /// What tokens are signed with.
    pub token_key: [u8; 32],
    shutdown: Shutdown,
    host: Option<JoinHandle<()>>,
    _directory: TempDir,
}

impl Server {
    /// Starts a server with default settings.
    ///
    /// # Errors
    /// When anything cannot be set up.
    pub async fn start() -> Result<Self> {
        Self::start_with(Settings::default(), false, Limits::default()).await
    }

    /// Starts a server; `open` lets requests without credentials act for the first account.
    ///
    /// # Errors
    /// When anything cannot be set up.
    pub async fn start_with(settings: Settings, open: bool, limits: Limits) -> Result<Self> {
        let directory = tempfile::tempdir().context("making a directory")?;
        let options = StoreOptions {
            path: directory.path().join("store.db"),
            sealing_key: SealingKey::generate().map_err(|error| anyhow::anyhow!("{error:?}"))?,
            settings,
        };
        let store = Store::open(options, clock::now).context("opening the store")?;
        let account = create_account(&store, "first").await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let address = listener.local_addr()?;
        let token_key = random::bytes::<32>();
        let options = Options {
            store: store.clone(),
            token_key: Zeroizing::new(token_key),
            anonymous: open.then_some((account.id, account.user)),
            public_url: None,
            limits,
            facts: Some(Arc::new(Known)),
        };
        let shutdown = Shutdown::new();
        tokio::spawn(isthmus_api::serve(listener, options, shutdown.clone()));
        Ok(Self {
            address,
            store,
            account,
            token_key,
            shutdown,
            host: None,
            _directory: directory,
        })
    }

    /// Adds an account.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn add_account(&self, name: &str) -> Result<Account> {
        create_account(&self.store, name).await
    }

    /// A client with a token for the first account, obtained as clients do.
    ///
    /// # Errors
    /// When the exchange fails.
    pub async fn client(&self) -> Result<Client> {
        self.client_of(&self.account).await
    }

    /// A client with a token for `account`.
    ///
    /// # Errors
    /// When the exchange fails.
    pub async fn client_of(&self, account: &Account) -> Result<Client> {
        let mut client = Client::new(self.address);
        let reply = client.exchange(account.api_key.reveal()).await?;
        let Some(token) = reply.json["access_token"].as_str() else {
            bail!("no token: {} {}", reply.status, reply.json);
        };
        client.token = Some(token.to_owned());
        Ok(client)
    }

    /// Number of the newest committed state: the same number means that nothing changed.
    pub fn revision(&self) -> Revision {
        self.store.snapshot().revision()
    }

    /// Does once what hosts do: makes what is wanted, removes what is not, and reports both.
    ///
    /// # Errors
    /// When the store refuses a report.
    pub async fn host_pass(&self) -> Result<()> {
        host_pass(&self.store).await
    }

    /// Does what hosts do after every change, until the server is dropped. Connections with a mirror image on another
    /// gateway of this installation and the same key come up.
    pub fn play_host(&mut self) {
        let store = self.store.clone();
        self.host = Some(tokio::spawn(async move {
            let mut revisions = store.watch();
            loop {
                if host_pass(&store).await.is_err() || revisions.changed().await.is_err() {
                    return;
                }
            }
        }));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            host.abort();
        }
        self.shutdown.trigger();
    }
}

async fn create_account(store: &Store, name: &str) -> Result<Account> {
    let account = Account {
        id: random::resource_bits().into(),
        user: random::resource_bits().into(),
        api_key: random::secret_word(43),
    };
    let operation = Operation::CreateAccount(CreateAccount {
        account: account.id,
        name: ResourceName::new(name)?,
        user: account.user,
        user_name: ResourceName::new(format!("{name}-admin"))?,
        api_key_hash: sha256(&[account.api_key.reveal().as_bytes()]),
    });
    system(store, account.id, operation).await?;
    Ok(account)
}

async fn system(store: &Store, account: AccountId, operation: Operation) -> Result<()> {
    let caller = Caller {
        account,
        user: None,
        via: Via::System,
        request_id: "suite".to_owned(),
    };
    let request = Request {
        caller,
        operation,
        idempotency_token: None,
    };
    store.execute(request).await?;
    Ok(())
}

async fn host_pass(store: &Store) -> Result<()> {
    let snapshot = store.snapshot();
    let Some(account) = snapshot.accounts().next().map(|account| account.id) else {
        return Ok(());
    };
    let updates = observations(&snapshot);
    if !updates.is_empty() {
        system(store, account, Operation::RecordStatus(updates)).await?;
    }
    let findings = HostFindings {
        instances: snapshot
            .instances()
            .filter(|instance| instance.deleting.is_some())
            .map(|instance| instance.id)
            .collect(),
        gateways: snapshot
            .vpn_gateways()
            .filter(|gateway| gateway.deleting.is_some())
            .map(|gateway| gateway.id)
            .collect(),
        connections: snapshot
            .vpn_connections()
            .filter(|connection| connection.deleting.is_some())
            .map(|connection| connection.id)
            .collect(),
    };
    if findings != HostFindings::default() {
        system(store, account, Operation::FinishDeletion(findings)).await?;
    }
    Ok(())
}

fn observations(snapshot: &Arc<Snapshot>) -> Vec<StatusUpdate> {
    let mut updates = Vec::new();
    for gateway in snapshot
        .vpn_gateways()
        .filter(|gateway| gateway.deleting.is_none())
    {
        if snapshot.gateway_status(gateway.id) != Some(&GatewayStatus::Available) {
            updates.push(StatusUpdate::VpnGateway {
                gateway: gateway.id,
                status: GatewayStatus::Available,
            });
        }
    }
    for instance in snapshot
        .instances()
        .filter(|instance| instance.deleting.is_none())
    {
        let status = if instance.should_run() {
            InstanceStatus::Running
        } else {
            InstanceStatus::Stopped
        };
        if snapshot.instance_status(instance.id) != Some(&status) {
            updates.push(StatusUpdate::Instance {
                instance: instance.id,
                status,
            });
        }
    }
    for connection in snapshot
        .vpn_connections()
        .filter(|connection| connection.deleting.is_none())
    {
        let mirrored = snapshot.vpn_connections().any(|other| {
            other.deleting.is_none()
                && other.local_cidrs == connection.peer_cidrs
                && other.peer_cidrs == connection.local_cidrs
                && other.admin_state_up
                && connection.admin_state_up
                && snapshot.pre_shared_key(other.id) == snapshot.pre_shared_key(connection.id)
        });
        let state = if mirrored {
            ConnectionState::Up
        } else {
            ConnectionState::Down {
                reason: ConnectionDownReason::PeerNotResponding,
                detail: String::new(),
            }
        };
        let known = snapshot
            .connection_status(connection.id)
            .map(|status| (&status.state, status.reset_count));
        if known != Some((&state, connection.reset_count)) {
            updates.push(StatusUpdate::VpnConnection {
                connection: connection.id,
                status: ConnectionStatus {
                    state,
                    since: clock::now(),
                    reset_count: connection.reset_count,
                    ike_suite: String::new(),
                    esp_suite: String::new(),
                },
            });
        }
    }
    updates
}

/// Facts about every connection, which only its own account may read.
struct Known;

impl isthmus_api::ConnectionFacts for Known {
    fn doctor(&self, connection: isthmus_types::VpnConnectionId) -> Option<serde_json::Value> {
        Some(serde_json::json!({"known": "doctor", "connection": connection.to_string()}))
    }

    fn settings(&self, connection: isthmus_types::VpnConnectionId) -> Option<serde_json::Value> {
        Some(serde_json::json!({"known": "settings", "connection": connection.to_string()}))
    }

    fn metrics(&self, account: AccountId) -> Option<isthmus_api::Metrics> {
        Some(isthmus_api::Metrics {
            content_type: "text/plain; version=0.0.4",
            text: format!("known {account}\n"),
        })
    }
}

//! The front over real engines.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use isthmus_ops::*;
use isthmus_simnet::pki::{self, Authority, KeyChoice};
use isthmus_store::{
    AuditRecord, Batch, ChangedVpcs, Engine, EngineError, Loaded, MemoryEngine, RowChange, Store, StoreError,
    StoreOptions, TokenRow, load_or_create_key,
};
use isthmus_types::*;

use support::*;

/// A store with the account, a VPC, a subnet, a gateway and a connection.
async fn filled(directory: &Path) -> Store {
    let store = open(directory);
    store.execute(create_account()).await.unwrap();
    let vpc = vpc(&store, "alpha").await;
    let subnet = subnet(&store, vpc.id, "10.240.0.0/24").await;
    let gateway = gateway(&store, subnet.id).await;
    connection(&store, gateway.id).await;
    store
}

#[tokio::test]
async fn a_read_after_an_operation_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.execute(create_account()).await.unwrap();
    for number in 0..20 {
        let made = vpc(&store, &format!("vpc-{number}")).await;
        assert_eq!(
            store.query(&caller(), &Query::Vpc(made.id)),
            Ok(Outcome::Vpc(made))
        );
    }
}

#[tokio::test]
async fn a_reopened_store_has_the_same_state() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let before = store.snapshot();
    store.close().await;
    let reopened = open(directory.path());
    assert_eq!(*reopened.snapshot(), *before);
    assert_eq!(before.revision(), Revision(5));
    // And it goes on from there.
    vpc(&reopened, "beta").await;
    assert_eq!(reopened.snapshot().revision(), Revision(6));
}

#[tokio::test]
async fn of_fifty_creates_of_one_name_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.execute(create_account()).await.unwrap();
    let attempts: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.execute(request(create_vpc("wanted"))).await })
        })
        .collect();
    let mut won = 0;
    for attempt in attempts {
        match attempt.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.code, OpErrorCode::DuplicateName),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(store.snapshot().vpcs().count(), 1);
    assert_eq!(store.snapshot().revision(), Revision(2));
}

#[tokio::test]
async fn concurrent_operations_are_all_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.execute(create_account()).await.unwrap();
    let attempts: Vec<_> = (0..300)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { vpc(&store, &format!("vpc-{number}")).await.id })
        })
        .collect();
    let mut made = BTreeSet::new();
    for attempt in attempts {
        made.insert(attempt.await.unwrap());
    }
    let before = store.snapshot();
    assert_eq!(before.revision(), Revision(301));
    store.close().await;
    let reopened = open(directory.path());
    assert_eq!(*reopened.snapshot(), *before);
    assert_eq!(
        reopened
            .snapshot()
            .vpcs()
            .map(|vpc| vpc.id)
            .collect::<BTreeSet<_>>(),
        made
    );
    let audit = reopened.audit(Revision(0), 1000).await.unwrap();
    let revisions: Vec<u64> = audit.iter().map(|record| record.revision.0).collect();
    assert_eq!(revisions, (1..=301).collect::<Vec<_>>());
}

#[tokio::test]
async fn secrets_are_nowhere_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let gateway = store.snapshot().vpn_gateways().next().unwrap().id;
    let mut repeated = request(create_connection(gateway));
    let Operation::CreateVpnConnection(new) = &mut repeated.operation else {
        unreachable!()
    };
    new.peer_cidrs = vec!["10.77.0.0/16".parse().unwrap()];
    repeated.idempotency_token = Some("token".to_owned());
    store.execute(repeated).await.unwrap();
    let (connection, private_key) = set_certificate(&store).await;
    let key = load_or_create_key(&directory.path().join("store.key")).unwrap();

    let absent = |needle: &[u8]| {
        let mut files = 0;
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "key") {
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                !bytes.windows(needle.len()).any(|window| window == needle),
                "{}",
                path.display()
            );
        }
        files
    };
    // The journal holds it as well while the store is open.
    let of_key = private_key.reveal().lines().nth(1).unwrap();
    assert!(absent(PSK.as_bytes()) >= 2 && absent(of_key.as_bytes()) >= 2);
    store.close().await;
    assert!(absent(PSK.as_bytes()) >= 1 && absent(of_key.as_bytes()) >= 1);
    absent(API_KEY.as_bytes());
    absent(key.reveal());
    // The search would find what is there in clear.
    let database = std::fs::read(directory.path().join("isthmus.db")).unwrap();
    assert!(database.windows(5).any(|window| window == b"alpha"));

    let reopened = open(directory.path());
    let snapshot = reopened.snapshot();
    assert_eq!(snapshot.pre_shared_key(connection).unwrap().reveal(), PSK);
    let settings = snapshot.tunnel_settings(connection).unwrap();
    let certificate = settings.options.tunnel.certificate.as_ref().unwrap();
    assert_eq!(certificate.private_key, private_key);
}

/// Gives a connection of the store a certificate; returns it with the private key.
async fn set_certificate(store: &Store) -> (VpnConnectionId, Secret) {
    let snapshot = store.snapshot();
    let connection = snapshot.vpn_connections().next().unwrap();
    let gateway = snapshot.vpn_gateway(connection.gateway).unwrap();
    let authority = Authority::root("Root", KeyChoice::P256);
    let own = authority.issue(
        &pki::gateway("own", gateway.public_address.into()),
        KeyChoice::P256,
    );
    let change = CertificateChange {
        chain: Some(own.certificate.clone()),
        private_key: Some(own.key.clone()),
        authorities: Some(authority.pem()),
        ..CertificateChange::default()
    };
    let operation = Operation::UpdateConnectionOptions(UpdateConnectionOptions {
        gateway: gateway.id,
        connection: connection.id,
        change: ConnectionOptionsChange {
            certificate: Some(Some(change)),
            ..ConnectionOptionsChange::default()
        },
        if_match: None,
    });
    store.execute(request(operation)).await.unwrap();
    (connection.id, own.key)
}

#[tokio::test]
async fn database_files_are_for_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.path()
        );
    }
    store.close().await;
}

#[tokio::test]
async fn another_key_does_not_open_the_store() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path()).await.close().await;
    std::fs::remove_file(directory.path().join("store.key")).unwrap();
    let options = StoreOptions {
        path: directory.path().join("isthmus.db"),
        sealing_key: load_or_create_key(&directory.path().join("store.key")).unwrap(),
        settings: settings(),
    };
    let opened = Store::open(options, TestClock::at(1).read());
    assert!(matches!(opened, Err(StoreError::Sealed { .. })), "{opened:?}");
}

#[tokio::test]
async fn a_repeated_token_repeats_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::at(1_000);
    let store = open_at(directory.path(), &clock);
    store.execute(create_account()).await.unwrap();
    let with_token = |operation| Request {
        idempotency_token: Some("order-66".to_owned()),
        ..request(operation)
    };
    let first = store.execute(with_token(create_vpc("alpha"))).await.unwrap();
    let revision = store.snapshot().revision();
    assert_eq!(
        store.execute(with_token(create_vpc("alpha"))).await.unwrap(),
        first
    );
    let other = store.execute(with_token(create_vpc("beta"))).await.unwrap_err();
    assert_eq!(
        (other.code, other.field.as_deref()),
        (OpErrorCode::InvalidField, Some("idempotency_token"))
    );

    // Also after the object is gone, and after a restart.
    let Outcome::Vpc(view) = &first else {
        panic!("{first:?}")
    };
    let delete = Operation::DeleteVpc(DeleteVpc {
        vpc: view.id,
        if_match: None,
    });
    store.execute(request(delete)).await.unwrap();
    store.close().await;
    let store = open_at(directory.path(), &clock);
    assert_eq!(
        store.execute(with_token(create_vpc("alpha"))).await.unwrap(),
        first
    );
    assert_eq!(store.snapshot().revision(), revision.next());
    assert_eq!(store.snapshot().vpcs().count(), 0);

    // For a day.
    clock.advance(24 * 60 * 60 * 1000);
    let later = store.execute(with_token(create_vpc("alpha"))).await.unwrap();
    assert_ne!(later, first);
    assert_eq!(store.snapshot().vpcs().count(), 1);
}

#[tokio::test]
async fn concurrent_repetitions_of_a_token_make_one_object() {
    let store = Store::with_engine(
        Box::new(MemoryEngine::new()),
        fixed_key(),
        settings(),
        TestClock::at(1_000).read(),
    )
    .unwrap();
    store.execute(create_account()).await.unwrap();
    let attempts: Vec<_> = (0..30)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let request = Request {
                    idempotency_token: Some("once".to_owned()),
                    ..request(Operation::CreateVpc(CreateVpc {
                        name: None,
                        prefixes: PrefixManagement::Manual,
                        classic_access: false,
                        resource_group: None,
                    }))
                };
                store.execute(request).await.unwrap()
            })
        })
        .collect();
    let mut answers = Vec::new();
    for attempt in attempts {
        answers.push(attempt.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(store.snapshot().vpcs().count(), 1);
}

#[tokio::test]
async fn a_refused_operation_is_not_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.execute(create_account()).await.unwrap();
    let taken = vpc(&store, "alpha").await;
    let with_token = || Request {
        idempotency_token: Some("again".to_owned()),
        ..request(create_vpc("alpha"))
    };
    let refused = store.execute(with_token()).await.unwrap_err();
    assert_eq!(refused.code, OpErrorCode::DuplicateName);
    let delete = Operation::DeleteVpc(DeleteVpc {
        vpc: taken.id,
        if_match: None,
    });
    store.execute(request(delete)).await.unwrap();
    store.execute(with_token()).await.unwrap();
}

#[tokio::test]
async fn watchers_learn_of_each_revision_and_the_vpcs_it_touched() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut watch = store.watch();
    assert_eq!(*watch.borrow_and_update(), Revision(0));
    store.execute(create_account()).await.unwrap();
    let alpha = vpc(&store, "alpha").await;
    let beta = vpc(&store, "beta").await;
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), Revision(3));
    subnet(&store, alpha.id, "10.240.0.0/24").await;
    let some = |vpcs: &[VpcId]| ChangedVpcs::Some(vpcs.iter().copied().collect());
    assert_eq!(store.changed_vpcs_since(Revision(0)), some(&[alpha.id, beta.id]));
    assert_eq!(store.changed_vpcs_since(Revision(2)), some(&[alpha.id, beta.id]));
    assert_eq!(store.changed_vpcs_since(Revision(3)), some(&[alpha.id]));
    assert_eq!(store.changed_vpcs_since(Revision(4)), some(&[]));
    // A deletion touches the VPC that is no more; what asks for what already is touches nothing.
    let rename = |to: &str| {
        Operation::UpdateVpc(UpdateVpc {
            vpc: beta.id,
            name: Some(name(to)),
            if_match: None,
        })
    };
    store.execute(request(rename("beta"))).await.unwrap();
    assert_eq!(store.snapshot().revision(), Revision(4));
    let delete = Operation::DeleteVpc(DeleteVpc {
        vpc: beta.id,
        if_match: None,
    });
    store.execute(request(delete)).await.unwrap();
    assert_eq!(store.changed_vpcs_since(Revision(4)), some(&[beta.id]));
    store.close().await;
    let reopened = open(directory.path());
    assert_eq!(reopened.changed_vpcs_since(Revision(4)), ChangedVpcs::Everything);
    assert_eq!(reopened.changed_vpcs_since(Revision(5)), some(&[]));
}

#[tokio::test]
async fn api_keys_are_known_by_their_hash() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.execute(create_account()).await.unwrap();
    assert_eq!(store.account_of_api_key(API_KEY), Some((account(), user())));
    for wrong in ["", "another", &API_KEY[1..], &format!("{API_KEY} ")] {
        assert_eq!(store.account_of_api_key(wrong), None);
    }
}

#[tokio::test]
async fn audit_records_say_who_did_what_and_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    let records = store.audit(Revision(0), 100).await.unwrap();
    let operations: Vec<&str> = records.iter().map(|record| record.operation.as_str()).collect();
    assert_eq!(
        operations,
        [
            "create_account",
            "create_vpc",
            "create_subnet",
            "create_vpn_gateway",
            "create_vpn_connection"
        ]
    );
    let last = records.last().unwrap();
    assert_eq!(
        (last.account, last.user, last.via),
        (account(), Some(user()), Via::Ibm)
    );
    assert_eq!(last.request_id, "request-1");
    let connection = store.snapshot().vpn_connections().next().unwrap().id;
    assert!(last.objects.contains(&format!("vpn_connection/{connection}")));
    assert!(last.objects.contains(&format!("pre_shared_key/{connection}")));
    assert!(!serde_json::to_string(&records).unwrap().contains(PSK));
}

#[tokio::test]
async fn a_closed_store_reads_but_does_not_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    store.close().await;
    store.close().await;
    let refused = store.execute(request(create_vpc("late"))).await.unwrap_err();
    assert_eq!(refused.code, OpErrorCode::Unavailable);
    assert!(matches!(
        store.audit(Revision(0), 1).await,
        Err(StoreError::Closed)
    ));
    assert_eq!(store.snapshot().vpcs().count(), 1);
}

/// How the engine under test fails next.
const WORKS: u8 = 0;
const FAILS_BEFORE: u8 = 1;
const FAILS_AFTER: u8 = 2;
const DEAD: u8 = 3;

/// An engine whose disk fails on demand.
struct FailingEngine {
    inner: MemoryEngine,
    mode: Arc<AtomicU8>,
}

impl FailingEngine {
    fn fail<T>() -> Result<T, EngineError> {
        Err(EngineError::Failed {
            action: "writing",
            source: "no space left on device".into(),
        })
    }

    fn mode(&self) -> u8 {
        self.mode.load(Ordering::SeqCst)
    }
}

impl Engine for FailingEngine {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        if self.mode() == DEAD {
            Self::fail()
        } else {
            self.inner.load()
        }
    }

    fn revision(&mut self) -> Result<Revision, EngineError> {
        if self.mode() == DEAD {
            Self::fail()
        } else {
            self.inner.revision()
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        match self.mode() {
            WORKS => self.inner.commit(batch),
            FAILS_AFTER => {
                self.inner.commit(batch)?;
                Self::fail()
            }
            _ => Self::fail(),
        }
    }

    fn changes_after(&mut self, after: Revision) -> Result<(Revision, Vec<RowChange>), EngineError> {
        if self.mode() == DEAD {
            Self::fail()
        } else {
            self.inner.changes_after(after)
        }
    }

    fn audit(&mut self, after: Revision, limit: usize) -> Result<Vec<AuditRecord>, EngineError> {
        self.inner.audit(after, limit)
    }

    fn token(&mut self, account: AccountId, token: &str) -> Result<Option<TokenRow>, EngineError> {
        self.inner.token(account, token)
    }
}

async fn on_failing_engine() -> (Store, MemoryEngine, Arc<AtomicU8>) {
    let inner = MemoryEngine::new();
    let mode = Arc::new(AtomicU8::new(WORKS));
    let engine = FailingEngine {
        inner: inner.clone(),
        mode: Arc::clone(&mode),
    };
    let store = Store::with_engine(
        Box::new(engine),
        fixed_key(),
        settings(),
        TestClock::at(1_000).read(),
    )
    .unwrap();
    store.execute(create_account()).await.unwrap();
    vpc(&store, "before").await;
    (store, inner, mode)
}

#[tokio::test]
async fn a_failing_disk_changes_nothing_and_the_store_recovers() {
    let (store, mut inner, mode) = on_failing_engine().await;
    for failure in [FAILS_BEFORE, DEAD] {
        let before = store.snapshot();
        mode.store(failure, Ordering::SeqCst);
        for _ in 0..3 {
            let refused = store.execute(request(create_vpc("lost"))).await.unwrap_err();
            assert_eq!(refused.code, OpErrorCode::Unavailable);
            assert!(!refused.message.contains("device"), "detail is for our own log");
        }
        assert_eq!(*store.snapshot(), *before);
        assert!(store.query(&caller(), &Query::Regions).is_ok());
        mode.store(WORKS, Ordering::SeqCst);
        let after = format!("after-{failure}");
        vpc(&store, &after).await;
        assert_eq!(store.snapshot().revision(), before.revision().next());
        assert_eq!(inner.revision().unwrap(), before.revision().next());
    }
}

#[tokio::test]
async fn a_commit_that_happened_although_it_failed_is_answered_as_done() {
    let (store, _, mode) = on_failing_engine().await;
    mode.store(FAILS_AFTER, Ordering::SeqCst);
    let made = vpc(&store, "there").await;
    assert!(store.snapshot().vpc(made.id).is_some());
}

#[tokio::test]
async fn a_store_that_lost_a_race_runs_the_operation_again() {
    let (store, inner, _) = on_failing_engine().await;
    let other = Store::with_engine(
        Box::new(inner),
        fixed_key(),
        settings(),
        TestClock::at(1_000).read(),
    )
    .unwrap();
    let elsewhere = vpc(&other, "elsewhere").await;
    let seen = store.snapshot().revision();
    // The rules are applied to what the other one left.
    let refused = store.execute(request(create_vpc("elsewhere"))).await.unwrap_err();
    assert_eq!(refused.code, OpErrorCode::DuplicateName);
    let mine = vpc(&store, "mine").await;
    let snapshot = store.snapshot();
    assert!(snapshot.vpc(elsewhere.id).is_some() && snapshot.vpc(mine.id).is_some());
    assert_eq!(
        store.changed_vpcs_since(seen),
        ChangedVpcs::Some([elsewhere.id, mine.id].into())
    );
}

#[tokio::test]
async fn a_read_only_database_refuses_writes_and_serves_reads() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path()).await;
    // A second connection that holds the write lock longer than the store waits plays a stuck disk.
    let blocker = rusqlite::Connection::open(directory.path().join("isthmus.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = store.snapshot();
    let refused = store.execute(request(create_vpc("lost"))).await.unwrap_err();
    assert_eq!(refused.code, OpErrorCode::Unavailable);
    assert_eq!(*store.snapshot(), *before);
    blocker.execute_batch("ROLLBACK").unwrap();
    vpc(&store, "after").await;
}

#[test]
fn settings_that_contradict_themselves_do_not_open() {
    let mut settings = settings();
    settings.zones.clear();
    let opened = Store::with_engine(
        Box::new(MemoryEngine::new()),
        fixed_key(),
        settings,
        TestClock::at(1).read(),
    );
    assert!(matches!(opened, Err(StoreError::Settings(_))), "{opened:?}");
}

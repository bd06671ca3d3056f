//! `isthmus server`: the API and the control plane over one store.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use isthmus_api::Limits;
use isthmus_control::Observed;
use isthmus_runtime::{Config, Shutdown, StateLayout, clock, private_file, random};
use isthmus_store::{Store, StoreOptions, load_or_create_key};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::facts::Facts;
use super::{ServiceOptions, begin, bootstrap, event_loop, offer};
use crate::cli::GlobalOptions;

/// Serves until interrupted.
pub fn run(options: &GlobalOptions, service: ServiceOptions) -> anyhow::Result<ExitCode> {
    let (layout, config, _pid_file) = begin(options, &service, "server")?;
    let store = open(&layout, &config)?;
    event_loop()?.block_on(serve(&layout, &config, store))?;
    Ok(ExitCode::SUCCESS)
}

fn open(layout: &StateLayout, config: &Config) -> anyhow::Result<Store> {
    let options = StoreOptions {
        path: layout.database(),
        sealing_key: load_or_create_key(&layout.store_key())?,
        settings: offer::settings(config)?,
    };
    Store::open(options, clock::now).context("the database cannot be opened")
}

async fn serve(layout: &StateLayout, config: &Config, store: Store) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("signals cannot be waited for")?;
    let owner = bootstrap::ensure_account(&store, layout).await?;
    let anonymous = if config.no_auth {
        anyhow::ensure!(
            config.listen.ip().is_loopback(),
            "no_auth opens everything to whoever reaches {}: it works on loopback addresses only",
            config.listen
        );
        Some(owner.context("no_auth needs the credentials file, which is lost")?)
    } else {
        None
    };
    let listener = listen(layout, config.listen).await?;
    let observed = Observed::new();
    let options = isthmus_api::Options {
        store: store.clone(),
        token_key: token_key(layout).context("the key of the tokens cannot be used")?,
        anonymous,
        public_url: config.public_url.clone(),
        limits: Limits::default(),
        facts: Some(Arc::new(Facts(observed.clone()))),
    };
    let url = url_of(
        listener
            .local_addr()
            .context("the listening socket has no address")?,
    );
    bootstrap::announce(layout, &url)?;
    tracing::info!(url, "the API is served");
    // Whichever ends first, for whatever reason, takes the other along.
    let api = async {
        let ended = isthmus_api::serve(listener, options, shutdown.clone()).await;
        shutdown.trigger();
        ended.context("the API failed")
    };
    let control = async {
        let socket = layout.control_socket();
        let ended =
            isthmus_control::serve_observed(store.clone(), &socket, shutdown.clone(), &observed).await;
        shutdown.trigger();
        ended.context("the control plane failed")
    };
    let (api, control) = tokio::join!(api, control);
    store.close().await;
    api.and(control)
}

/// Listens on `address`. Any free port means the one of the last time if it is still free: clients know it.
async fn listen(layout: &StateLayout, address: SocketAddr) -> anyhow::Result<TcpListener> {
    if address.port() == 0 {
        let last = fs::read_to_string(layout.api_url()).unwrap_or_default();
        let port = last.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        if let Some(port) = port
            && let Ok(listener) = TcpListener::bind(SocketAddr::new(address.ip(), port)).await
        {
            return Ok(listener);
        }
    }
    TcpListener::bind(address).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            anyhow::anyhow!("another process listens on {address}: name another address with --listen")
        } else {
            anyhow::Error::new(error).context(format!("listening on {address} failed"))
        }
    })
}

/// Address of the API for clients on this machine.
fn url_of(bound: SocketAddr) -> String {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    format!("http://{}", SocketAddr::new(ip, bound.port()))
}

fn token_key(layout: &StateLayout) -> io::Result<Zeroizing<[u8; 32]>> {
    let path = layout.token_key();
    match fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => <[u8; 32]>::try_from(bytes.as_slice())
            .map(Zeroizing::new)
            .map_err(|_| io::Error::other(format!("{} does not hold a key", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = Zeroizing::new(random::bytes());
            private_file::replace(&path, key.as_slice())?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

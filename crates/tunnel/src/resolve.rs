//! Names to addresses, away from every thread that must not wait.

use std::net::{IpAddr, ToSocketAddrs};
use std::thread;

/// Resolves `name` and calls `tell` with its addresses, IPv4 first; none if there is no answer.
pub(crate) fn resolve(name: String, tell: impl FnOnce(Vec<IpAddr>) + Send + 'static) {
    let spawned = thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let mut addresses: Vec<IpAddr> = (name.as_str(), 0)
            .to_socket_addrs()
            .map(|found| found.map(|address| address.ip()).collect())
            .unwrap_or_default();
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.dedup();
        tell(addresses);
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread to resolve a name");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_literal_address_resolves_to_itself_and_nonsense_to_nothing() {
        for (name, expected) in [("192.0.2.7", 1), ("not a name", 0)] {
            let (sender, receiver) = channel();
            resolve(name.to_owned(), move |addresses| {
                let _ = sender.send(addresses);
            });
            assert_eq!(
                receiver.recv_timeout(Duration::from_secs(20)).unwrap().len(),
                expected
            );
        }
    }
}

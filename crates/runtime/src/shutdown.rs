//! Orderly shutdown: one flag that everything in a process waits for.

use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A request to end, once made never withdrawn. Clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    requested: Arc<watch::Sender<bool>>,
}

impl Shutdown {
    /// A handle on which nothing was requested yet.
    pub fn new() -> Self {
        Self {
            requested: Arc::new(watch::Sender::new(false)),
        }
    }

    /// A handle that SIGINT and SIGTERM trigger. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// Those of installing a signal handler.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let triggered = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            triggered.trigger();
        });
        Ok(shutdown)
    }

    /// Asks everything that holds a clone to end.
    pub fn trigger(&self) {
        self.requested.send_replace(true);
    }

    /// Whether the end was asked for.
    pub fn is_triggered(&self) -> bool {
        *self.requested.borrow()
    }

    /// Ends when the end is asked for; at once if it was before. The future owns all that it needs.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.requested);
        async move {
            let mut requested = shared.subscribe();
            // The sender lives as long as `shared`, so waiting cannot fail.
            let _ = requested.wait_for(|requested| *requested).await;
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_the_request_before_and_after_waiting() {
        let shutdown = Shutdown::new();
        let early = tokio::spawn(shutdown.wait());
        assert!(!shutdown.is_triggered());
        shutdown.clone().trigger();
        early.await.unwrap();
        shutdown.wait().await;
        assert!(shutdown.is_triggered());
    }
}

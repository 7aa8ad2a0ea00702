//! The signal that the collector stops.
use tokio::sync::watch;

/// Completes when the collector stops, or when the sender of the signal is gone.
pub(crate) async fn ended(end_rx: &mut watch::Receiver<bool>) {
    let _ = end_rx.wait_for(|ended| *ended).await;
}

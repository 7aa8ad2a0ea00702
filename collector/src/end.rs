//! The word that everything ends.
use tokio::sync::watch;

/// Completes when the collector ends, also where whoever would say so is gone.
pub(crate) async fn ended(end_rx: &mut watch::Receiver<bool>) {
    let _ = end_rx.wait_for(|ended| *ended).await;
}

//! Certificates are replaced while a server runs: their files are looked at now and then.

use std::time::Duration;

use super::TlsError;

/// Takes what has changed in files, every `interval`, for as long as it is polled. `reload` looks at
/// them, on a thread that may wait for a disk; what is wrong with them is told once.
pub(crate) async fn keep_fresh<F>(whose: &'static str, interval: Duration, reload: F)
where
    F: Fn() -> Result<bool, TlsError> + Clone + Send + 'static,
{
    let mut told = None;
    loop {
        tokio::time::sleep(interval).await;
        match tokio::task::spawn_blocking(reload.clone()).await {
            Ok(Err(error)) => {
                let problem = Some(error.to_string());
                if told != problem {
                    tracing::warn!(%error, whose, "it goes on with the certificates that it has");
                    told = problem;
                }
                continue;
            }
            Ok(Ok(true)) => tracing::info!(whose, "new certificates are in use"),
            _ => {}
        }
        told = None;
    }
}

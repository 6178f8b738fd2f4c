//! What the examples share: where they connect to, and the end of their session on Ctrl-C.

use std::future::Future;

use synod::{Client, Code, Error, Path};

/// Runs `story` to its end, or until Ctrl-C; then ends the session, so that whatever it holds is
/// free at once instead of after the session timeout.
///
/// # Errors
/// What the story or the closing fails with.
pub async fn until_ctrl_c(
    client: &Client,
    story: impl Future<Output = Result<(), Error>>,
) -> Result<(), Error> {
    // In this order, so that a Ctrl-C is waited for before the story has said anything.
    let outcome = tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {
            println!("interrupted: ending the session, so that locks are free at once");
            Ok(())
        }
        outcome = story => outcome,
    };
    client.close().await?;
    outcome
}

/// Where to connect to: what follows `--server`, or else `embedded`, a coordinator inside this
/// process.
pub fn server(embedded: &str) -> String {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--server");
    arguments.nth(1).unwrap_or_else(|| embedded.to_owned())
}

/// Removes what an example has left behind, children first.
///
/// # Errors
/// What a request fails with.
pub async fn remove_tree(client: &Client, root: &Path) -> Result<(), Error> {
    let (mut found, mut waiting) = (Vec::new(), vec![root.clone()]);
    while let Some(path) = waiting.pop() {
        let children = match client.children(&path).await {
            // An ephemeral that has gone by itself.
            Err(error) if error.is(Code::NoNode) => continue,
            children => children?,
        };
        for name in children {
            waiting.push(path.join(&name)?);
        }
        found.push(path);
    }
    for path in found.iter().rev() {
        match client.delete(path).await {
            Err(error) if error.is(Code::NoNode) => {}
            deleted => deleted.map(drop)?,
        }
    }
    Ok(())
}

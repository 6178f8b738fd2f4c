//! Watches of a client whose connection breaks.

use crate::common::carrier::Carrier;
use crate::common::{PATIENCE, config, start};
use synod_core::client::{Client, Notice};
use synod_core::model::WatchKind;

/// Their paths come to twice the longest request.
#[tokio::test]
async fn a_client_leaves_more_watches_again_than_a_request_can_name() {
    let server = start(config()).await;
    let carrier = Carrier::to(&server).await;
    let builder = Client::builder().servers(carrier.address.to_string());
    let client = builder.connect_timeout(PATIENCE).connect().await.expect("connects");
    let long = "x".repeat(8_000);
    let mut watches = Vec::new();
    for number in 0..300 {
        let path = format!("/{number}-{long}");
        watches.push((client.watch(&*path).await.expect("is left"), path));
    }
    let session = client.session();
    carrier.cut().await;
    session.disconnected().await;
    let back = tokio::time::timeout(PATIENCE, session.connected()).await;
    assert!(back.expect("comes back in time"), "the session lives on");
    for (watch, path) in &mut watches {
        assert!(client.has_watch(&**path, WatchKind::Persistent).await.expect("is told"));
        assert_eq!(watch.next().await, Some(Notice::Lagged));
    }
    let (watch, path) = watches.last_mut().expect("there are some");
    client.create(&**path, "1").await.expect("is created");
    assert!(matches!(watch.next().await, Some(Notice::Event(event)) if *event.path == **path));
    server.stop().await;
}

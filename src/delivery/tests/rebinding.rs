//! D8: a name that leads to an allowed address at first and to a refused one later.

use std::time::Duration;

use super::{NOW, OK, Peer, Then, endpoint, event};
use crate::delivery::Couriers;
use crate::domain::endpoint::Endpoint;
use crate::domain::network::AddressRange;
use crate::domain::outcome::{ErrorClass, Outcome};
use crate::domain::secret::Secret;

/// RFC 6761 §6.4: the system's resolver knows nothing of it, so it is where the test says.
const NAME: &str = "rebinding.invalid";
const BLOCKED: Outcome = Outcome::Error(ErrorClass::Blocked);

/// Delivers while [`NAME`] leads to `peer`, then while it leads to a refused address, then as at first. Each makes a
/// connection of its own, and the refused one none.
async fn is_refused(endpoint: &mut Endpoint, peer: &Peer, first: Outcome) {
    let network = &mut endpoint.request.network;
    network.addresses.deny = vec![AddressRange::parse("10.0.0.0/8").unwrap()];
    network.dns_cache = Duration::from_secs(3600);
    let couriers = Couriers::new();
    let courier = couriers.prepare(endpoint).unwrap();
    let mut made = 0;
    for (address, expected) in [
        ("127.0.0.1", first),
        ("10.0.0.1", BLOCKED),
        ("::ffff:10.0.0.1", BLOCKED),
        ("127.0.0.1", first),
    ] {
        couriers.clients.names().plant(NAME, address, Duration::ZERO);
        let attempt = courier.deliver(&[event("e", "{}")], "e", 1, NOW).await.attempt;
        assert_eq!(attempt.outcome, expected, "{address}: {attempt:?}");
        made += usize::from(expected != BLOCKED);
        assert_eq!(peer.connections(), made, "{address}");
    }
}

/// Plain HTTP, over connections of our own.
#[tokio::test]
async fn d8_rebinding_is_seen_by_plain_http() {
    let peer = Peer::answering(OK, Then::Close).await;
    let mut endpoint = endpoint(&format!("http://{NAME}:{}/", peer.address.port()));
    is_refused(&mut endpoint, &peer, Outcome::Delivered).await;
}

/// HTTPS, over the client library's. Whoever hangs up on a handshake has been connected to.
#[tokio::test]
async fn d8_rebinding_is_seen_by_https() {
    let peer = Peer::scripted(|stream, _| async move { drop(stream) }).await;
    let mut endpoint = endpoint(&format!("https://{NAME}:{}/", peer.address.port()));
    is_refused(&mut endpoint, &peer, Outcome::Error(ErrorClass::Tls)).await;
}

/// A proxy is held to the same rules.
#[tokio::test]
async fn d8_rebinding_is_seen_of_proxies() {
    let closing = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let peer = Peer::answering(closing, Then::Close).await;
    let mut endpoint = endpoint("http://192.0.2.1/");
    let proxy = format!("http://{NAME}:{}", peer.address.port());
    endpoint.request.proxy = Some(Secret::new(&proxy));
    is_refused(&mut endpoint, &peer, Outcome::Delivered).await;
}

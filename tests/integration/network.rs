//! D8, D9: where requests of the built daemon go, and where they do not.

use serde_json::json;

use crate::harness::desks::{Proxy, Speaks};
use crate::harness::servers::{Scripted, Target, Tls, answer, header};
use crate::harness::{Daemon, Setup, endpoint, event};

/// The address of a server from its URL.
fn address(url: &str) -> std::net::SocketAddr {
    let rest = url.split("//").nth(1).unwrap();
    rest.split('/')
        .next()
        .unwrap()
        .replace("localhost", "127.0.0.1")
        .parse()
        .unwrap()
}

/// D8: a refused range is refused in every form an address can be written in, and by name; nothing is connected to.
#[test]
fn d8_refused_addresses_in_all_their_forms() {
    let target = Target::new();
    let port = address(&target.url("/")).port();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0177.0.0.1",
        "2130706433",
        "127.0.0.1.",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "localhost",
    ];
    let text: String = hosts
        .iter()
        .enumerate()
        .map(|(n, host)| {
            endpoint(
                &format!("e{n}"),
                &format!("http://{host}:{port}/"),
                "allow_http = true",
            )
        })
        .collect();
    let daemon = Daemon::start(&format!("[network]\ndeny = [\"loopback\"]\n{text}"));
    daemon.accept(&event("a", "e1"));
    for (n, host) in hosts.iter().enumerate() {
        let dead = daemon.until_dead(&format!("e{n}"), 1);
        assert_eq!(dead[0]["last"]["class"], "blocked", "{host}: {dead:?}");
        let message = dead[0]["last"]["message"].as_str().unwrap();
        assert!(
            message.contains("is refused by \"loopback\" in [network] deny"),
            "{message}"
        );
    }
    assert_eq!(target.connections(), 0);

    // An exception is let through, and a reload is enough for it.
    daemon.write_config(&format!(
        "[network]\ndeny = [\"loopback\"]\nallow = [\"127.0.0.1\"]\n{text}"
    ));
    assert_eq!(daemon.post("/v1/reload", &json!({})).0, 200);
    daemon.accept(&event("a", "e2"));
    for name in ["e0", "e2", "e4", "e9"] {
        daemon.until_settled(name);
        assert_eq!(daemon.row(name)["dead"], 1, "{name}");
    }
    assert_eq!(
        daemon.until_dead("e6", 2).len(),
        2,
        "another address of the range"
    );
    assert!(target.connections() > 0);
}

/// D8: cloud metadata is refused without a word in the configuration, also at the end of a redirect, and where it is
/// the event that says where to go.
#[test]
fn d8_metadata_is_refused_by_default() {
    let luring = Scripted::new(|_| answer(307, "location: http://169.254.169.254/latest/meta-data/\r\n"));
    let daemon = Daemon::start(
        &(endpoint("straight", "http://169.254.169.254/", "allow_http = true")
            + &endpoint("lured", &luring.url(), "follow_redirects = 3")
            + &endpoint("told", "http://{{ data.n }}/", "allow_http = true")),
    );
    daemon.accept(&event("a", "0xa9fea9fe"));
    for name in ["straight", "lured", "told"] {
        let dead = daemon.until_dead(name, 1);
        assert_eq!(dead[0]["last"]["class"], "blocked", "{dead:?}");
    }
    assert_eq!(luring.requests(), 1);
}

/// D8: redirects are followed only on request, as often as that says; secrets stay with the host they are for.
#[test]
fn d8_redirects() {
    let mut target = Target::new();
    let there = target.url("/ok");
    let away = Scripted::new(move |_| answer(308, &format!("location: {there}\r\n")));
    let round = Scripted::new(|_| answer(302, "location: /again\r\n"));
    let auth = "auth = { type = \"bearer\", token = \"t\" }\nheaders = { X-Secret = \"s\", Accept = \"text/x\" }\n\
                sign = [{ scheme = \"github\", secrets = [\"s\"] }]\nretry = { max_attempts = 1 }\n";
    let daemon = Daemon::start(
        &(endpoint("never", &away.url(), auth)
            + &endpoint("once", &away.url(), &format!("{auth}follow_redirects = 1"))
            + &endpoint("round", &round.url(), &format!("{auth}follow_redirects = 3"))),
    );
    daemon.accept(&event("a", "e1"));
    let request = target.next();
    assert_eq!(
        (request.method.as_str(), header(&request, "accept")),
        ("POST", "text/x")
    );
    assert!(String::from_utf8_lossy(&request.body).contains("\"e1\""));
    for name in ["authorization", "x-secret", "x-hub-signature-256"] {
        assert_eq!(header(&request, name), "", "{name}");
    }
    daemon.until_settled("once");
    for name in ["never", "round"] {
        let dead = daemon.until_dead(name, 1);
        assert_eq!(dead[0]["last"]["class"], "http_3xx", "{dead:?}");
    }
    let heads = round.heads();
    assert_eq!(heads.len(), 4, "the request and three redirects");
    assert!(
        heads
            .iter()
            .all(|head| head.starts_with("post ") && head.contains("authorization: bearer t"))
    );
    assert_eq!((target.requests(), away.requests()), (1, 2));
}

/// D9: requests go through an HTTP proxy, with its credentials, which are shown nowhere; the proxy resolves names.
#[test]
fn d9_http_proxies() {
    let mut target = Target::new();
    let plain = Proxy::new(Speaks::Http, address(&target.url("/")));
    let tls = Tls::new();
    let tunnel = Proxy::new(Speaks::Http, address(&tls.url("localhost")));
    let proxy = |url: &str, rest: &str| {
        format!("proxy = \"{url}\"\nallow_http = true\nretry = {{ max_attempts = 1 }}\n{rest}")
    };
    let wrong = plain.url("http").replace("pa%3Ass", "wr0ng");
    let text = endpoint(
        "plain",
        "http://far.invalid:81/hook?x=1",
        &proxy(&plain.url("http"), ""),
    ) + &endpoint(
        "tunnel",
        "https://localhost:82/hook",
        &proxy(&tunnel.url("http"), "tls = { ca = \"ca.pem\" }"),
    ) + &endpoint("wrong", "http://far.invalid:81/", &proxy(&wrong, ""))
        + &endpoint("literal", "http://169.254.1.1/", &proxy(&plain.url("http"), ""));
    let mut daemon = Setup::new(&text).stopped();
    std::fs::write(daemon.path("ca.pem"), tls.authority()).unwrap();
    daemon.restart();
    daemon.accept(&event("a", "e1"));
    let request = target.next();
    assert_eq!(
        (&*request.path, header(&request, "host")),
        ("/hook?x=1", "far.invalid:81")
    );
    for name in ["plain", "tunnel"] {
        daemon.until_settled(name);
        assert_eq!(daemon.row(name)["dead"], 0, "{name}");
    }
    assert_eq!(tls.requests(), 1);
    let (_, attempts) = daemon.get("/v1/attempts?endpoint=tunnel");
    let exchange = &attempts["items"][0]["exchange"];
    assert!(
        exchange["tls_us"].is_u64() && exchange["connect_us"].is_u64(),
        "{attempts}"
    );
    let dead = daemon.until_dead("wrong", 1);
    assert_eq!(dead[0]["last"]["status"], 407, "{dead:?}");
    let dead = daemon.until_dead("literal", 1);
    assert_eq!(dead[0]["last"]["class"], "blocked", "{dead:?}");
    assert_eq!(tunnel.asked(), ["CONNECT localhost:82 HTTP/1.1"]);
    let mut asked = plain.asked();
    asked.sort();
    assert_eq!(
        asked,
        [
            "POST http://far.invalid:81/hook?x=1 HTTP/1.1",
            "without credentials: POST http://far.invalid:81/ HTTP/1.1"
        ]
    );
    let shown =
        daemon.http("GET", "/v1/config", None).1 + &daemon.http("GET", "/v1/dead", None).1 + &daemon.log();
    assert!(!shown.contains("pa%3Ass") && !shown.contains("wr0ng") && shown.contains("http://***@127.0.0.1"));
}

/// D9: the same through a SOCKS proxy; with socks5 names are resolved here and held to the rules, with socks5h there.
#[test]
fn d9_socks_proxies() {
    let target = Target::new();
    let proxy = Proxy::new(Speaks::Socks5, address(&target.url("/")));
    let way = |scheme: &str| {
        format!(
            "proxy = \"{}\"\nallow_http = true\nretry = {{ max_attempts = 1 }}",
            proxy.url(scheme)
        )
    };
    let text = endpoint("here", "http://localhost:81/ok", &way("socks5"))
        + &endpoint("there", "http://far.invalid:81/ok", &way("socks5h"))
        + &endpoint("unknown", "http://far.invalid:81/ok", &way("socks5"));
    let daemon = Daemon::start(&text);
    daemon.accept(&event("a", "e1"));
    for name in ["here", "there"] {
        daemon.until_settled(name);
        assert_eq!(daemon.row(name)["dead"], 0, "{name}");
    }
    let dead = daemon.until_dead("unknown", 1);
    assert_eq!(dead[0]["last"]["class"], "dns", "{dead:?}");
    let mut asked = proxy.asked();
    asked.sort();
    assert!(
        asked == ["127.0.0.1", "far.invalid"] || asked == ["an IPv6 address", "far.invalid"],
        "{asked:?}"
    );
}

//! What we read off a connection, judged by what hyper reads off the same bytes: right answers, broken ones, and right
//! ones that were bent at random, in pieces of any size.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;

use super::deadline::Deadline;
use super::line::{Line, Outgoing};
use crate::delivery::fields::Fields;
use crate::delivery::render::OutgoingRequest;

/// What came of an exchange.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// There was no answer.
    Nothing,
    /// What the head says, what came of the body, and whether that was all of it.
    Answer(u16, HeaderMap, Vec<u8>, bool),
}

/// A host that reads a request and says `answer`, `bytes` at a time.
fn host(answer: Vec<u8>, bytes: usize) -> DuplexStream {
    let (near, mut far) = duplex(bytes);
    tokio::spawn(async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match far.read_buf(&mut request).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let _ = far.write_all(&answer).await;
    });
    near
}

async fn seen_by_hyper(method: &Method, stream: DuplexStream) -> Seen {
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    let Ok(response) = requests.send_request(request).await else {
        return Seen::Nothing;
    };
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let is_all = loop {
        match body.frame().await {
            Some(Ok(frame)) => bytes.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    Seen::Answer(head.status.as_u16(), head.headers, bytes, is_all)
}

async fn seen_by_us(method: &Method, stream: DuplexStream) -> Seen {
    let mut line = Line::new("host", stream);
    let request = OutgoingRequest {
        method: method.clone(),
        url: "http://host/".parse().unwrap(),
        headers: Fields::default(),
        body: Bytes::new(),
    };
    let deadline = Deadline::new(Instant::now(), Duration::from_secs(60));
    line.put(Outgoing::new(&request).unwrap(), deadline);
    let Ok(mut head) = std::future::poll_fn(|context| line.poll_head(context)).await else {
        return Seen::Nothing;
    };
    let mut bytes = Vec::new();
    let is_all = loop {
        match std::future::poll_fn(|context| line.poll_piece(&mut head.framing, context)).await {
            Ok(Some(piece)) => bytes.extend(piece),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    Seen::Answer(head.status.as_u16(), head.headers.into(), bytes, is_all)
}

fn judge(method: Method, answer: &[u8], bytes: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let (hyper, us) = runtime.block_on(async {
        (
            seen_by_hyper(&method, host(answer.to_vec(), bytes)).await,
            seen_by_us(&method, host(answer.to_vec(), bytes)).await,
        )
    });
    assert_eq!(
        us,
        hyper,
        "{method} {:?} by {bytes}",
        String::from_utf8_lossy(answer)
    );
}

/// Lines and bodies that are right, and some that are not.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let begins = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 503 Not now\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n",
        "\r\n\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/2 200 OK\r\n",
    ]);
    let fields = prop::collection::vec(
        prop::sample::select(vec![
            "content-length: 5\r\n",
            "Content-Length: 5, 5\r\n",
            "content-length: 6\r\n",
            "content-length: 05\r\n",
            "content-length: x\r\n",
            "content-length:\r\n",
            "transfer-encoding: chunked\r\n",
            "Transfer-Encoding: gzip, Chunked\r\n",
            "transfer-encoding: gzip\r\n",
            "connection: close\r\n",
            "x-a:  b \r\n",
            "x-a: c\r\n",
            "x-a : c\r\n",
            " folded\r\n",
            "x-b:\r\n",
            "x-c: caf\u{e9}\n",
        ]),
        0..4,
    );
    let bodies = prop::sample::select(vec![
        "",
        "hello",
        "hello and more",
        "hell",
        "5\r\nhello\r\n0\r\n\r\n",
        "2;a=b\r\nhe\r\n3 \r\nllo\r\n0\r\nx: y\r\n\r\nmore",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
        "5\r\nhel",
        "5\nhello\r\n0\r\n\r\n",
    ]);
    (begins, fields, bodies).prop_map(|(begin, fields, body)| {
        let mut answer = begin.to_owned();
        let _ = write!(answer, "{}\r\n{body}", fields.concat());
        answer.into_bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// E4, E6: no answer, however it is bent, says something else to us than to a library that all the world uses.
    #[test]
    fn e4_answers_are_read_as_hyper_reads_them(
        answer in answers(),
        method in prop::sample::select(vec![Method::GET, Method::POST, Method::HEAD]),
        bytes in 1..64_usize,
        bent in prop::option::of((any::<prop::sample::Index>(), any::<u8>(), 0..3)),
    ) {
        let mut answer = answer;
        if let Some((place, byte, how)) = bent {
            let place = place.index(answer.len());
            match how {
                0 => answer.truncate(place),
                1 => answer[place] = byte,
                _ => answer.insert(place, byte),
            }
        }
        judge(method, &answer, bytes);
    }
}

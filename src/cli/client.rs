//! The way to the daemon: HTTP/1.1 over its control socket, one connection a request.

use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::failure::{Done, Failure};
use crate::control::types::{ErrorBody, Page};

/// Where the socket is when nothing says otherwise.
const SOCKET_DEFAULT: &str = "/run/posthaste/control.sock";
/// A daemon that works answers a question much sooner. Changes may take as long as they need.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Options of every verb that asks the daemon.
#[derive(Clone, Debug, Default, Args)]
pub struct Connect {
    /// Control socket of the daemon
    #[arg(long, env = "POSTHASTE_SOCKET", value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// Configuration file that names the control socket
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// JSON lines, the fields of the control API, instead of a table
    #[arg(long, global = true)]
    pub json: bool,
}

impl Connect {
    /// A client for the socket meant: `--socket`, else what the configuration names, else the usual place.
    ///
    /// # Errors
    /// [`Failure::Wrong`] when the configuration file cannot be read.
    pub fn client(&self) -> Result<Client, Failure> {
        let socket = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(config)) => socket_of(config)?,
            (None, None) => PathBuf::from(SOCKET_DEFAULT),
        };
        Ok(Client { socket })
    }
}

/// Reads `[control] socket` and nothing else: an operator need not be allowed to read the daemon's secrets,
/// and the rest of the file may be broken at the moment.
fn socket_of(config: &Path) -> Result<PathBuf, Failure> {
    let wrong = |problem: String| Failure::Wrong(format!("{}: {problem}", config.display()));
    let text = std::fs::read_to_string(config).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error| wrong(format!("{error}")))?;
    let socket = table
        .get("control")
        .and_then(|control| control.get("socket"))
        .and_then(toml::Value::as_str);
    // As in every path of the configuration, a relative one starts at the folder of the file.
    let folder = config.parent().unwrap_or(Path::new(""));
    Ok(folder.join(socket.unwrap_or(SOCKET_DEFAULT)))
}

/// A client of the control API.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client for the daemon at `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks.
    ///
    /// # Errors
    /// [`Failure`] as the daemon's answer says, or [`Failure::Unreachable`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let asked = self.request(Method::GET, path, Bytes::new());
        let bytes = tokio::time::timeout(QUESTION_TIMEOUT, asked)
            .await
            .map_err(|_| self.unreachable("it took the question and did not answer"))??;
        self.read(&bytes)
    }

    /// Changes something.
    ///
    /// # Errors
    /// The same.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.send(Method::POST, path, body).await
    }

    /// Sets something as a whole.
    ///
    /// # Errors
    /// The same.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.send(Method::PUT, path, body).await
    }

    /// Changes a part of something.
    ///
    /// # Errors
    /// The same.
    pub async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        self.send(Method::PATCH, path, body).await
    }

    /// Removes something.
    ///
    /// # Errors
    /// The same.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let bytes = self.request(Method::DELETE, path, Bytes::new()).await?;
        self.read(&bytes)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Usage(error.to_string()))?;
        let bytes = self.request(method, path, body.into()).await?;
        self.read(&bytes)
    }

    /// Walks through a list, page by page, until it ends or `most` items have come. `path` may have a query.
    ///
    /// # Errors
    /// Those of [`Client::get`] and of `each`.
    pub async fn each<T: DeserializeOwned>(
        &self,
        path: &str,
        most: usize,
        mut each: impl FnMut(T) -> Done,
    ) -> Done {
        let mut left = most;
        let mut cursor: Option<String> = None;
        while left > 0 {
            let limit = left.min(500).to_string();
            let page = [("limit", Some(limit.as_str())), ("cursor", cursor.as_deref())];
            let page: Page<T> = self.get(&with_query(path, &page)).await?;
            for item in page.items.into_iter().take(left) {
                each(item)?;
                left -= 1;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.refused(&error))?;
        let broken = |error: hyper::Error| self.unreachable(&format!("the connection broke: {error}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "posthaste")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::Usage(format!("{path:?} cannot be asked for: {error}")))?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        tokio::pin!(exchange, connection);
        // The connection has to be driven for the exchange to move on; it may end first, with the answer read.
        let (status, bytes) = tokio::select! {
            exchanged = &mut exchange => exchanged.map_err(broken)?,
            _ = &mut connection => exchange.await.map_err(broken)?,
        };
        if status.is_success() {
            Ok(bytes)
        } else {
            Err(failure_of(status, &bytes))
        }
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(bytes).map_err(|error| {
            Failure::Wrong(format!(
                "what answers at {} does not answer as this version of posthaste does: {error}",
                self.socket.display()
            ))
        })
    }

    fn refused(&self, error: &std::io::Error) -> Failure {
        if error.kind() == ErrorKind::PermissionDenied {
            return Failure::Unreachable(format!(
                "you may not open {}: its group may, see [control] group in the configuration",
                self.socket.display()
            ));
        }
        self.unreachable(&error.to_string())
    }

    fn unreachable(&self, why: &str) -> Failure {
        Failure::Unreachable(format!(
            "the daemon can't be reached at {} ({why}): is it running? try: systemctl status posthaste, or: \
             posthaste run",
            self.socket.display()
        ))
    }
}

fn failure_of(status: StatusCode, bytes: &[u8]) -> Failure {
    let Ok(ErrorBody { error }) = serde_json::from_slice(bytes) else {
        let text = String::from_utf8_lossy(bytes);
        return Failure::Wrong(format!("the daemon answered {status}: {}", text.trim()));
    };
    let mut message = error.message;
    for problem in &error.problems {
        // Writing to a String cannot fail.
        let _ = write!(message, "\n  {problem}");
    }
    match status {
        StatusCode::BAD_REQUEST => Failure::Usage(message),
        _ => Failure::Wrong(message),
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters, so that any id fits into a path.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `path` with the query parameters that have a value.
#[must_use]
pub fn with_query(path: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let mut out = path.to_owned();
    for (name, value) in pairs {
        if let Some(value) = value {
            out.push(if out.contains('?') { '&' } else { '?' });
            out.push_str(name);
            out.push('=');
            out.push_str(&encoded(value));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_fits_into_a_path() {
        assert_eq!(encoded("crm-1:7"), "crm-1%3A7");
        assert_eq!(encoded("a/b ?ü"), "a%2Fb%20%3F%C3%BC");
        let pairs = [("a", Some("x y")), ("b", None), ("c", Some("*"))];
        assert_eq!(with_query("/p", &pairs), "/p?a=x%20y&c=%2A");
    }

    #[tokio::test]
    async fn nobody_there_is_exit_code_3_with_advice() {
        let client = Client::new(PathBuf::from("/nonexistent/control.sock"));
        let failure = client.get::<serde_json::Value>("/v1/status").await.unwrap_err();
        let Failure::Unreachable(text) = failure else {
            panic!("{failure:?}");
        };
        assert!(text.contains("/nonexistent/control.sock"), "{text}");
        assert!(text.contains("systemctl status posthaste"), "{text}");
    }

    #[test]
    fn the_socket_is_named_by_option_file_or_default() {
        let folder = tempfile::tempdir().unwrap();
        let named = folder.path().join("named.toml");
        std::fs::write(&named, "[control]\nsocket = \"/tmp/x.sock\"\n").unwrap();
        let relative = folder.path().join("relative.toml");
        std::fs::write(&relative, "[control]\nsocket = \"run/x.sock\"\n").unwrap();
        let silent = folder.path().join("silent.toml");
        std::fs::write(&silent, "[store]\npath = \"/tmp\"\n").unwrap();
        let client = |socket: Option<&str>, config: Option<&Path>| {
            let connect = Connect {
                socket: socket.map(PathBuf::from),
                config: config.map(Path::to_owned),
                json: false,
            };
            connect.client().map(|client| client.socket)
        };
        assert_eq!(client(Some("/a"), Some(&named)), Ok(PathBuf::from("/a")));
        assert_eq!(client(None, Some(&named)), Ok(PathBuf::from("/tmp/x.sock")));
        assert_eq!(
            client(None, Some(&relative)),
            Ok(folder.path().join("run/x.sock"))
        );
        assert_eq!(client(None, Some(&silent)), Ok(PathBuf::from(SOCKET_DEFAULT)));
        assert_eq!(client(None, None), Ok(PathBuf::from(SOCKET_DEFAULT)));
        assert!(client(None, Some(Path::new("/nonexistent.toml"))).is_err());
    }
}

//! Credentials on finished requests. Those that never change are made ready once; tokens that are fetched come
//! from [`token`], lists of tokens from [`rotating`]. What a request is for is not known here, and no text that
//! is made here shows a credential.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::render::OutgoingRequest;
use crate::domain::endpoint::AuthPolicy;
use crate::domain::outcome::ErrorClass;
use crate::domain::secret::Secret;

mod answer;
mod rotating;
pub mod token;

use rotating::Ring;
use token::TokenSource;

/// What is put on one request.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Option<(Box<str>, Secret)>,
    /// Which of several tokens this is.
    serial: usize,
}

impl Pass {
    fn header(name: &HeaderName, text: &str) -> Result<Self, String> {
        Ok(Self {
            headers: vec![(name.clone(), sensitive(name, text)?)],
            ..Self::default()
        })
    }

    /// Puts it on `request`; a header of the same name gives way.
    pub fn put_on(&self, request: &mut OutgoingRequest) {
        for (name, value) in &self.headers {
            request.headers.insert(name.clone(), value.clone());
        }
        if let Some((name, value)) = &self.query {
            request.url.query_pairs_mut().append_pair(name, value.expose());
        }
    }
}

fn sensitive(name: &HeaderName, text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        format!("auth: what {name} is to say holds a line break or another control character")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why there are no credentials for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unauthorised {
    /// The kind of it.
    pub class: ErrorClass,
    /// The status that was answered instead of a token, if one was.
    pub status: Option<u16>,
    /// One sentence that names the token endpoint.
    pub message: String,
}

/// Gives an endpoint's requests their credentials.
#[derive(Debug)]
pub enum Authenticator {
    /// The same on every request; may be nothing.
    Fixed(Arc<Pass>),
    /// A token that is fetched.
    Fetched(Arc<TokenSource>),
    /// One of several tokens.
    Rotating(Ring),
}

impl Authenticator {
    /// For `policy`; `source` gives the tokens of an OAuth 2 policy.
    ///
    /// # Errors
    /// One sentence: a credential can't be put into a header, or what `source` says.
    pub fn new(
        policy: &AuthPolicy,
        source: impl FnOnce(&crate::domain::endpoint::OAuth2Policy) -> Result<Arc<TokenSource>, String>,
    ) -> Result<Self, String> {
        let pass = match policy {
            AuthPolicy::None => Pass::default(),
            AuthPolicy::HeaderKey { name, value } => Pass::header(name, value.expose())?,
            AuthPolicy::QueryKey { name, value } => Pass {
                query: Some((name.clone(), value.clone())),
                ..Pass::default()
            },
            AuthPolicy::Bearer { token } => {
                Pass::header(&AUTHORIZATION, &format!("Bearer {}", token.expose()))?
            }
            AuthPolicy::Basic { username, password } => {
                Pass::header(&AUTHORIZATION, &basic(username.expose(), password.expose()))?
            }
            AuthPolicy::OAuth2(policy) => return Ok(Self::Fetched(source(policy)?)),
            AuthPolicy::Rotating(policy) => return Ok(Self::Rotating(Ring::new(policy)?)),
        };
        Ok(Self::Fixed(Arc::new(pass)))
    }

    /// The credentials for a request that has to end by `deadline`.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn pass(&self, deadline: Instant) -> Result<Arc<Pass>, Unauthorised> {
        match self {
            Self::Fixed(pass) => Ok(Arc::clone(pass)),
            Self::Fetched(source) => source.pass(deadline).await,
            Self::Rotating(ring) => Ok(ring.pass()),
        }
    }

    /// Other credentials, after the endpoint has refused `refused` with a 401; `refusals` counts those of this
    /// try. `None` if there are no others to try: a fetched token is replaced once, of a list each is tried.
    ///
    /// # Errors
    /// Why no other could be had.
    pub async fn after_refusal(
        &self,
        refused: &Pass,
        refusals: usize,
        deadline: Instant,
    ) -> Result<Option<Arc<Pass>>, Unauthorised> {
        match self {
            Self::Fixed(_) => Ok(None),
            Self::Fetched(source) if refusals == 1 => {
                source.replaced(refused.serial, deadline).await.map(Some)
            }
            Self::Fetched(_) => Ok(None),
            Self::Rotating(ring) => Ok(ring.after(refused.serial, refusals)),
        }
    }

    /// What a request would carry if it were sent now, for people: nothing is fetched and nothing moves on.
    #[must_use]
    pub fn preview(&self) -> Arc<Pass> {
        match self {
            Self::Fixed(pass) => Arc::clone(pass),
            Self::Fetched(source) => source.preview(),
            Self::Rotating(ring) => ring.preview(),
        }
    }
}

/// The value of `authorization` for a user (RFC 7617 §2).
fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::tests::{composed, endpoint, event};
    use crate::domain::time::Timestamp;

    fn authenticated(policy: &AuthPolicy) -> Result<OutgoingRequest, String> {
        let endpoint = endpoint("http://127.0.0.1/hook?a=b");
        let mut request = composed(&endpoint, &event("e", "{}"), 1, Timestamp(0))?;
        let authenticator = Authenticator::new(policy, |_| Err("nothing is fetched here".to_owned()))?;
        authenticator.preview().put_on(&mut request);
        Ok(request)
    }

    /// D1: each kind of credential that never changes, in its place and not to be shown.
    #[test]
    fn d1_fixed_credentials() {
        let secret = Secret::new;
        for (policy, name, value) in [
            (
                AuthPolicy::HeaderKey {
                    name: HeaderName::from_static("x-api-key"),
                    value: secret("k1"),
                },
                "x-api-key",
                "k1",
            ),
            (
                AuthPolicy::Bearer { token: secret("t.1") },
                "authorization",
                "Bearer t.1",
            ),
            (
                // RFC 7617 §2, the example.
                AuthPolicy::Basic {
                    username: secret("Aladdin"),
                    password: secret("open sesame"),
                },
                "authorization",
                "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
            ),
        ] {
            let request = authenticated(&policy).unwrap();
            assert_eq!(request.headers.get(name).unwrap(), value);
            assert!(request.headers.get(name).unwrap().is_sensitive(), "{name}");
            assert_eq!(request.url.query(), Some("a=b"));
            assert!(!format!("{policy:?}").contains(value));
        }
    }

    /// D1: a key in the query stands behind what is there, encoded.
    #[test]
    fn d1_a_key_in_the_query() {
        let policy = AuthPolicy::QueryKey {
            name: "api_key".into(),
            value: Secret::new("a&b=c d"),
        };
        let request = authenticated(&policy).unwrap();
        assert_eq!(request.url.query(), Some("a=b&api_key=a%26b%3Dc+d"));
    }

    #[test]
    fn d1_a_credential_that_no_header_can_hold_is_not_shown() {
        let policy = AuthPolicy::Bearer {
            token: Secret::new("hunter2\n"),
        };
        let error = authenticated(&policy).unwrap_err();
        assert!(
            error.contains("line break") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

//! Access tokens that are fetched (OAuth 2.0, RFC 6749): kept in memory, shared by all requests, renewed before
//! they expire. One request for a token is under way at a time; who needs one waits for it, and shares its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use reqwest::Url;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded::{Serializer, byte_serialize};

use super::answer::{self, Grant as Granted};
use super::{Pass, Unauthorised};
use crate::delivery::failure::Failure;
use crate::delivery::fields::Fields;
use crate::delivery::render::OutgoingRequest;
use crate::delivery::send::{Answer, Bounds, Clients, Sender};
use crate::domain::endpoint::{AuthStyle, Grant, OAuth2Policy, RequestPolicy};
use crate::domain::outcome::ErrorClass;
use crate::domain::secret::Secret;

/// A token is renewed once this share of its life has passed, in percent.
const RENEW_AT_PERCENT: u32 = 80;
/// The bound on a request for a token; who waits for it may give up earlier.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// After a renewal has begun there is none for so long, which is longer than one takes.
const RENEWAL_PAUSE: Duration = Duration::from_secs(40);
/// Bytes of a token endpoint's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// The tokens in use. Endpoints with the same policy share theirs, and a policy that stays over a reload keeps its
/// token, and the refresh token that has taken the place of the configured one.
#[derive(Debug, Default)]
pub struct TokenSources {
    by_policy: Mutex<HashMap<OAuth2Policy, Weak<Tokens>>>,
}

impl TokenSources {
    /// The source of tokens for `policy`, whose requests go the way that those of `request` do.
    ///
    /// # Errors
    /// One sentence: no request can be made to its `token_url`.
    pub fn source(
        &self,
        policy: &OAuth2Policy,
        request: &RequestPolicy,
        clients: &Clients,
    ) -> Result<Arc<TokenSource>, String> {
        let url = Url::parse(policy.token_url.expose())
            .map_err(|why| format!("auth: token_url {}: {why}", policy.token_url_masked))?;
        Ok(Arc::new(TokenSource {
            policy: policy.clone(),
            sender: clients.sender(request, url.scheme() == "http")?,
            url,
            tokens: self.tokens(policy),
        }))
    }

    fn tokens(&self, policy: &OAuth2Policy) -> Arc<Tokens> {
        let mut by_policy = self.by_policy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tokens) = by_policy.get(policy).and_then(Weak::upgrade) {
            return tokens;
        }
        let tokens = Arc::new(Tokens::new(policy));
        by_policy.retain(|_, known| known.strong_count() > 0);
        by_policy.insert(policy.clone(), Arc::downgrade(&tokens));
        tokens
    }
}

/// Where an endpoint's tokens come from.
#[derive(Debug)]
pub struct TokenSource {
    policy: OAuth2Policy,
    url: Url,
    sender: Sender,
    tokens: Arc<Tokens>,
}

/// What is known of one client's tokens.
#[derive(Debug)]
struct Tokens {
    held: ArcSwapOption<Held>,
    fetching: AsyncMutex<Fetching>,
}

impl Tokens {
    fn new(policy: &OAuth2Policy) -> Self {
        let refresh_token = match &policy.grant {
            Grant::ClientCredentials => None,
            Grant::RefreshToken(token) => Some(token.clone()),
        };
        Self {
            held: ArcSwapOption::empty(),
            fetching: AsyncMutex::new(Fetching {
                refresh_token,
                count: 0,
                failed: None,
            }),
        }
    }
}

/// A token that is good as far as we know.
#[derive(Debug)]
struct Held {
    pass: Arc<Pass>,
    /// When it expires; `None`: when it is refused.
    expires: Option<Instant>,
    /// When it is renewed.
    renew: Option<Instant>,
}

impl Held {
    fn is_good(&self, now: Instant) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// What only the one request for a token that is under way may touch.
#[derive(Debug)]
struct Fetching {
    /// The refresh token to use.
    refresh_token: Option<Secret>,
    /// How often a token was fetched.
    count: usize,
    /// When the last one could not be had, and why.
    failed: Option<(Instant, Unauthorised)>,
}

impl TokenSource {
    /// A token for a request that has to end by `deadline`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn pass(self: &Arc<Self>, deadline: Instant) -> Result<Arc<Pass>, Unauthorised> {
        let now = Instant::now();
        match self.tokens.held.load_full().filter(|held| held.is_good(now)) {
            Some(held) => {
                if held.renew.is_some_and(|renew| renew <= now) {
                    self.renew(&held);
                }
                Ok(Arc::clone(&held.pass))
            }
            None => self.fetched(None, deadline).await,
        }
    }

    /// Another token than the one whose `serial` was refused.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn replaced(
        self: &Arc<Self>,
        serial: usize,
        deadline: Instant,
    ) -> Result<Arc<Pass>, Unauthorised> {
        self.fetched(Some(serial), deadline).await
    }

    /// What a request would carry, whether or not there is a token yet.
    pub fn preview(&self) -> Arc<Pass> {
        let held = self.tokens.held.load_full().map(|held| Arc::clone(&held.pass));
        held.unwrap_or_else(|| Arc::new(Pass::header(&AUTHORIZATION, "Bearer fetched").unwrap_or_default()))
    }

    /// A new token, if it can be had by `deadline`.
    ///
    /// It is fetched beside the request that needs it and goes on when that has run out of time, because the answer
    /// may hold the only refresh token that is good from then on.
    async fn fetched(
        self: &Arc<Self>,
        refused: Option<usize>,
        deadline: Instant,
    ) -> Result<Arc<Pass>, Unauthorised> {
        let source = Arc::clone(self);
        let fetching = tokio::spawn(async move { source.in_turn(refused).await });
        match timeout_at(deadline, fetching).await {
            Ok(Ok(fetched)) => fetched,
            _ => Err(self.unauthorised(
                ErrorClass::Timeout,
                None,
                "no answer within the endpoint's timeout",
            )),
        }
    }

    /// Waits for its turn, and fetches a token unless another has just done so.
    async fn in_turn(&self, refused: Option<usize>) -> Result<Arc<Pass>, Unauthorised> {
        let asked = Instant::now();
        let mut fetching = self.tokens.fetching.lock().await;
        if let Some(held) = self.tokens.held.load_full()
            && Some(held.pass.serial) != refused
            && held.is_good(asked)
        {
            return Ok(Arc::clone(&held.pass));
        }
        // Whoever waited while this failed would only hear the same.
        if let Some((failed, why)) = &fetching.failed
            && asked <= *failed
        {
            return Err(why.clone());
        }
        self.fetch(&mut fetching).await
    }

    /// Fetches a new token beside the requests that go on with `held`.
    fn renew(self: &Arc<Self>, held: &Arc<Held>) {
        let (source, held) = (Arc::clone(self), Arc::clone(held));
        // From now on `held` is not due any more, so that nobody else starts this.
        self.postpone(&held);
        tokio::spawn(async move {
            let mut fetching = source.tokens.fetching.lock().await;
            if let Err(why) = source.fetch(&mut fetching).await {
                tracing::warn!(
                    why = why.message,
                    "an access token could not be renewed before its time"
                );
            }
        });
    }

    /// Puts the renewal of `held` off, unless another token has taken its place by now.
    fn postpone(&self, held: &Arc<Held>) {
        let postponed = Held {
            pass: Arc::clone(&held.pass),
            expires: held.expires,
            renew: Instant::now().checked_add(RENEWAL_PAUSE),
        };
        let current = Some(Arc::clone(held));
        self.tokens
            .held
            .compare_and_swap(&current, Some(Arc::new(postponed)));
    }

    async fn fetch(&self, fetching: &mut Fetching) -> Result<Arc<Pass>, Unauthorised> {
        let started = Instant::now();
        let bounds = Bounds {
            timeout: FETCH_TIMEOUT,
            response_bytes_max: ANSWER_BYTES_MAX,
        };
        let request = self.request(fetching.refresh_token.as_ref());
        let granted = match self.sender.send(&request, bounds, started).await.result {
            Ok(answer) => self.granted(answer),
            Err(failure) => Err(self.broken(&failure)),
        };
        let held = granted.and_then(|granted| self.hold(fetching, granted, started));
        match held {
            Ok(held) => {
                let pass = Arc::clone(&held.pass);
                self.tokens.held.store(Some(Arc::new(held)));
                fetching.failed = None;
                Ok(pass)
            }
            Err(why) => {
                fetching.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    fn hold(
        &self,
        fetching: &mut Fetching,
        granted: Granted,
        started: Instant,
    ) -> Result<Held, Unauthorised> {
        let text = format!("Bearer {}", granted.access_token.expose());
        let pass = Pass::header(&AUTHORIZATION, &text).map_err(|_| {
            self.unauthorised(ErrorClass::InvalidResponse, None, "the access_token is no token")
        })?;
        if granted.refresh_token.is_some() && fetching.refresh_token.is_some() {
            fetching.refresh_token = granted.refresh_token;
        }
        fetching.count += 1;
        let after = |share: u32| {
            let life = granted.lifetime?.checked_mul(share)? / 100;
            started.checked_add(life)
        };
        Ok(Held {
            pass: Arc::new(Pass {
                serial: fetching.count,
                ..pass
            }),
            expires: after(100),
            renew: after(RENEW_AT_PERCENT),
        })
    }

    fn granted(&self, answer: Answer) -> Result<Granted, Unauthorised> {
        if let Some(failure) = &answer.broken {
            return Err(self.broken(failure));
        }
        let status = answer.status.as_u16();
        let secrets: Vec<_> = self.secrets().collect();
        if answer.status.is_success() {
            return answer::granted(&answer.body, &secrets).map_err(|lacks| {
                self.unauthorised(
                    ErrorClass::InvalidResponse,
                    None,
                    &format!("it answered {status} {lacks}"),
                )
            });
        }
        let says = answer::refusal(&answer.body, &secrets);
        let class = ErrorClass::of_status(status);
        Err(self.unauthorised(class, Some(status), &format!("it answered {status}{says}")))
    }

    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let refresh_token = match &self.policy.grant {
            Grant::ClientCredentials => None,
            Grant::RefreshToken(token) => Some(token),
        };
        self.policy
            .client_secret
            .iter()
            .chain(refresh_token)
            .chain(self.policy.params.iter().map(|(_, value)| value))
    }

    fn broken(&self, failure: &Failure) -> Unauthorised {
        self.unauthorised(failure.class, None, &failure.cause)
    }

    fn unauthorised(&self, class: ErrorClass, status: Option<u16>, why: &str) -> Unauthorised {
        let url = &self.policy.token_url_masked;
        let see = match class {
            ErrorClass::Http4xx => "check client_id, client_secret, scope and token_url in auth",
            _ => "check token_url in auth",
        };
        Unauthorised {
            class,
            status,
            message: format!("no access token from {url}: {why}; {see}"),
        }
    }

    /// The request for a token (RFC 6749 §4.4.2 and §6).
    fn request(&self, refresh_token: Option<&Secret>) -> OutgoingRequest {
        let policy = &self.policy;
        let mut headers = Fields::default();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(crate::delivery::render::USER_AGENT),
        );
        let mut form = Serializer::new(String::new());
        match refresh_token {
            None => form.append_pair("grant_type", "client_credentials"),
            Some(token) => form
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", token.expose()),
        };
        match (&policy.client_secret, policy.style) {
            (Some(secret), AuthStyle::Basic) => {
                if let Some(value) = basic(&policy.client_id, secret) {
                    headers.insert(AUTHORIZATION, value);
                }
            }
            (secret, _) => {
                form.append_pair("client_id", policy.client_id.expose());
                if let Some(secret) = secret {
                    form.append_pair("client_secret", secret.expose());
                }
            }
        }
        if !policy.scope.is_empty() {
            form.append_pair("scope", &policy.scope);
        }
        for (name, value) in &policy.params {
            form.append_pair(name, value.expose());
        }
        OutgoingRequest {
            method: http::Method::POST,
            url: self.url.clone(),
            headers,
            body: form.finish().into(),
        }
    }
}

/// Id and secret as a user's name and password, each encoded first (RFC 6749 §2.3.1), so always fit for a header.
fn basic(id: &Secret, secret: &Secret) -> Option<HeaderValue> {
    let encoded = |text: &Secret| byte_serialize(text.expose().as_bytes()).collect::<String>();
    super::sensitive(&AUTHORIZATION, &super::basic(&encoded(id), &encoded(secret))).ok()
}

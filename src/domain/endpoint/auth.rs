//! Who an endpoint's requests say they come from: the kinds of credentials, checked. How they are fetched and
//! put on a request is `delivery::auth`'s business.

use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::domain::names::Names;
use crate::domain::secret::Secret;

/// The credentials of an endpoint's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuthPolicy {
    /// None, but for what stands in `url` and `headers`.
    #[default]
    None,
    /// A key in a header of its own.
    HeaderKey {
        /// The header.
        name: HeaderName,
        /// The key.
        value: Secret,
    },
    /// A key among the query parameters.
    QueryKey {
        /// The parameter.
        name: Box<str>,
        /// The key.
        value: Secret,
    },
    /// `authorization: Bearer …` with a token that does not change (RFC 6750 §2.1).
    Bearer {
        /// The token.
        token: Secret,
    },
    /// `authorization: Basic …` (RFC 7617).
    Basic {
        /// The user's name.
        username: Secret,
        /// The user's password.
        password: Secret,
    },
    /// `authorization: Bearer …` with a token that is fetched when it is needed.
    OAuth2(Box<OAuth2Policy>),
    /// One of several tokens.
    Rotating(Box<RotatingPolicy>),
}

impl AuthPolicy {
    /// The headers that it sets on every request, whatever else would have stood in them.
    #[must_use]
    pub fn headers(&self) -> Vec<&HeaderName> {
        match self {
            Self::None | Self::QueryKey { .. } => Vec::new(),
            Self::HeaderKey { name, .. } => vec![name],
            Self::Bearer { .. } | Self::Basic { .. } | Self::OAuth2(_) => vec![&AUTHORIZATION],
            Self::Rotating(policy) => {
                let version = policy.version_header.iter();
                std::iter::once(&policy.header).chain(version).collect()
            }
        }
    }
}

/// Where an access token comes from (RFC 6749). Endpoints with the same policy share their token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OAuth2Policy {
    /// The token endpoint, an absolute http or https URL.
    pub token_url: Secret,
    /// The same for people, without what may be secret in it.
    pub token_url_masked: Box<str>,
    /// How we are known there.
    pub client_id: Secret,
    /// How we prove it; public clients have none.
    pub client_secret: Option<Secret>,
    /// What the token is to be good for; empty: what the server gives.
    pub scope: Box<str>,
    /// What the token is asked for with.
    pub grant: Grant,
    /// Where id and secret go.
    pub style: AuthStyle,
    /// More parameters of the token request, such as `audience`.
    pub params: Vec<(Box<str>, Secret)>,
}

/// What an access token is asked for with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The client's own credentials (RFC 6749 §4.4).
    ClientCredentials,
    /// A refresh token (RFC 6749 §6).
    RefreshToken(Secret),
}

/// Where the client's id and secret go in a token request (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthStyle {
    /// Into the form in its body.
    Body,
    /// Into an `authorization: Basic` header.
    Basic,
}

impl AuthStyle {
    /// Both with their names in the file.
    pub const NAMES: &'static Names<Self> = &[("body", Self::Body), ("basic", Self::Basic)];
}

/// A list of tokens of which one is in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RotatingPolicy {
    /// The header that carries it.
    pub header: HeaderName,
    /// The tokens, in the order of their use; at least one.
    pub values: Vec<RotatingValue>,
    /// A header that says which version it is.
    pub version_header: Option<HeaderName>,
    /// When the next one has its turn.
    pub rotate: Rotate,
}

/// One of several tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RotatingValue {
    /// The token.
    pub value: Secret,
    /// What the version header says with it.
    pub version: Box<str>,
}

/// When the next of several tokens has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rotate {
    /// When the one in use is refused by a 401.
    OnRefusal,
    /// With each request.
    EachRequest,
}

impl Rotate {
    /// Both with their names in the file.
    pub const NAMES: &'static Names<Self> =
        &[("on_401", Self::OnRefusal), ("each_request", Self::EachRequest)];
}

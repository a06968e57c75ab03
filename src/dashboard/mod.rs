//! The web dashboard: the files of one page, as the daemon serves them. The page is a client of the control API like
//! any other; it knows nothing of the daemon but `/v1/…`, and this room knows nothing but its files.

/// One file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// What is in it.
    pub text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file of the page. They hold no data, so they are served to whoever may connect, without a token.
pub const ASSETS: [Asset; 6] = [
    Asset {
        path: "/",
        content_type: "text/html; charset=utf-8",
        text: include_str!("web/index.html"),
    },
    Asset {
        path: "/dashboard/style.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("web/style.css"),
    },
    Asset {
        path: "/dashboard/main.js",
        content_type: SCRIPT,
        text: include_str!("web/main.js"),
    },
    Asset {
        path: "/dashboard/api.js",
        content_type: SCRIPT,
        text: include_str!("web/api.js"),
    },
    Asset {
        path: "/dashboard/show.js",
        content_type: SCRIPT,
        text: include_str!("web/show.js"),
    },
    Asset {
        path: "/dashboard/lists.js",
        content_type: SCRIPT,
        text: include_str!("web/lists.js"),
    },
];

/// Headers of every file. Scripts and styles come from this daemon alone and nothing inline is run (CSP level 3), no
/// other page may frame this one, and no address of it is told to others.
pub const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    // A new daemon's page is never mixed with scripts of the one before.
    ("cache-control", "no-cache"),
];

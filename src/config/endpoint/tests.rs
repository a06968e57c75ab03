//! Credentials, signatures and the way of requests as an operator writes them.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::{fs, iter};

use crate::config::effective;
use crate::config::tests::{only, problems, read, with};
use crate::domain::endpoint::{AuthPolicy, Grant, Preset, SignScheme, TimestampFormat};

fn auth(lines: &str) -> String {
    with(&format!("[endpoint.auth]\n{lines}"))
}

fn sign(lines: &str) -> String {
    with(&format!("[[endpoint.sign]]\n{lines}"))
}

const OAUTH2: &str = "type = \"oauth2\"\ntoken_url = \"https://t.example/\"\nclient_id = \"c\"\n";

/// Each text gives the one problem beside it, or none.
fn expect(cases: &[(String, &str)]) {
    for (text, expected) in cases {
        let found = problems(text);
        assert!(
            found.contains(expected) && found.lines().count() <= 1,
            "{text}\n{found}"
        );
        assert_eq!(found.is_empty(), expected.is_empty(), "{text}\n{found}");
    }
}

/// D1, D2, D3: what is missing, what means nothing, and what no request could carry.
#[test]
fn d1_rules_of_auth() {
    let cases = [
        ("type = \"none\"", ""),
        (
            "type = \"digest\"",
            "auth.type: \"digest\" is not known here; write one of none api_key",
        ),
        (
            "token = \"t\"",
            "auth.token: token means nothing with type = \"none\"; leave it away, or write type = \"bearer\"",
        ),
        ("type = \"bearer\"", "token is missing"),
        (
            "type = \"bearer\"\ntoken = \"\"",
            "auth.token: there is nothing in it",
        ),
        (
            "type = \"bearer\"\ntoken = \"a\\nb\"",
            "auth.token: it holds a line break",
        ),
        ("type = \"api_key\"\nname = \"X-Key\"\nvalue = \"v\"", ""),
        (
            "type = \"api_key\"\nname = \"X-Key\"\nvalue = \"v\"\nin = \"body\"",
            "auth.in: \"body\" is not known here",
        ),
        (
            "type = \"api_key\"\nname = \"X Key\"\nvalue = \"v\"",
            "\"X Key\" is not the name of a header",
        ),
        (
            "type = \"api_key\"\nname = \"X Key\"\nvalue = \"v\"\nin = \"query\"",
            "",
        ),
        (
            "type = \"api_key\"\nname = \"webhook-id\"\nvalue = \"v\"",
            "is set by posthaste itself",
        ),
        ("type = \"basic\"\nusername = \"u\"\npassword = \"\"", ""),
        (
            "type = \"basic\"\nusername = \"u:v\"\npassword = \"p\"",
            "auth.username: a user name with a colon",
        ),
        (
            "type = \"rotating\"\nheader = \"X-T\"\nvalues = []",
            "auth.values: no token is listed",
        ),
        (
            "type = \"rotating\"\nheader = \"X-T\"\nvalues = [{ version = \"1\" }]",
            "value is missing",
        ),
        (
            "type = \"rotating\"\nheader = \"X-T\"\nvalues = [{ value = \"t\", until = 1 }]",
            "unknown key `until`",
        ),
    ];
    expect(&cases.map(|(lines, expected)| (auth(lines), expected)));
    let cases = [
        ("client_secret = \"s\"", ""),
        ("", "client_secret is missing"),
        (
            "client_secret = \"s\"\nrefresh_token = \"r\"",
            "uses no refresh_token",
        ),
        ("grant = \"refresh_token\"", "refresh_token is missing"),
        ("grant = \"refresh_token\"\nrefresh_token = \"r\"", ""),
        (
            "client_secret = \"s\"\nauth_style = \"header\"",
            "auth.auth_style: \"header\" is not known here",
        ),
    ];
    expect(&cases.map(|(lines, expected)| (auth(&format!("{OAUTH2}{lines}")), expected)));
    let plain = OAUTH2.replace("https://", "http://") + "client_secret = \"s\"";
    expect(&[
        (
            auth(&plain),
            "auth.token_url: http:// shows client_secret and tokens",
        ),
        (
            auth(&plain).replace("[endpoint.auth]", "allow_http = true\n[endpoint.auth]"),
            "",
        ),
        (auth(&plain.replace("t.example", "127.0.0.1:9")), ""),
    ]);
}

/// C4, D1, D5: braces in credentials and signatures would be sent as they are; what a reference stands for may have some.
#[test]
fn c4_d1_d5_templates_are_refused_where_none_can_stand() {
    let refused =
        "a template can't stand here: the braces would be sent as they are; write a secret as ${env:NAME}";
    let bearer = |token: &str| auth(&format!("type = \"bearer\"\ntoken = \"{token}\""));
    for (text, key) in [
        (bearer("{{ secrets.k }}"), "auth.token"),
        (bearer("{% if now %}a{% endif %}"), "auth.token"),
        (
            auth("type = \"basic\"\nusername = \"{{ data.u }}\"\npassword = \"p\""),
            "auth.username",
        ),
        (
            auth("type = \"api_key\"\nname = \"{{ data.n }}\"\nvalue = \"p\""),
            "auth.name",
        ),
        (
            auth(&format!(
                "{OAUTH2}client_secret = \"s\"\nparams = {{ a = \"{{{{ data.a }}}}\" }}"
            )),
            "auth.params",
        ),
        (
            auth("type = \"rotating\"\nheader = \"X\"\nvalues = [\"a\", { value = \"{{ secrets.k }}\" }]"),
            "auth.values",
        ),
        (sign("secrets = [\"{{ secrets.k }}\"]"), "sign[1].secrets"),
        (
            sign("scheme = \"github\"\nsecrets = [{ secret = \"{{ secrets.k }}\" }]"),
            "sign[1].secrets",
        ),
    ] {
        let found = problems(&text);
        assert!(found.contains(&format!("{key}: {refused}")), "{text}\n{found}");
        assert_eq!(found.lines().count(), 1, "{text}\n{found}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "{{ not a template }}").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let own = "scheme = \"custom\"\nheader = \"X-Sig\"\nsecrets = [\"s\"]\ncontent = \"{{ body }}\"\nvalue = \"v={{ signature }}\"";
    let step = "[[endpoint.step]]\nname = \"a\"\nurl = \"https://s.example/\"\nauth = { type = \"bearer\", token = \"{{ x }}\" }";
    expect(&[
        (bearer(&format!("${{file:{}}}", file.display())), ""),
        (sign(own), ""),
        (with(step), "step[1].auth.token: a template can't stand here"),
    ]);
}

/// D1: an endpoint's own table replaces that of `[defaults]` whole.
#[test]
fn d1_auth_of_an_endpoint_replaces_the_default() {
    let text = auth("type = \"basic\"\nusername = \"u\"\npassword = \"p\"");
    let defaults = "[defaults.auth]\ntype = \"bearer\"\ntoken = \"t\"\n";
    assert!(matches!(
        only(&format!("{text}{defaults}")).auth,
        AuthPolicy::Basic { .. }
    ));
    let bare = with("");
    assert!(matches!(
        only(&format!("{bare}{defaults}")).auth,
        AuthPolicy::Bearer { .. }
    ));
}

/// D4, D5: what a scheme can't do without, what it says itself, and dates.
#[test]
fn d4_rules_of_sign() {
    let custom = "scheme = \"custom\"\nsecrets = [\"s\"]\nheader = \"X-S\"\n";
    let cases = [
        ("scheme = \"github\"\nsecrets = [\"anything\"]".to_owned(), ""),
        (
            "scheme = \"gitlab\"\nsecrets = [\"s\"]".to_owned(),
            "sign[1].scheme: \"gitlab\" is not known here",
        ),
        (
            "scheme = \"github\"\nsecrets = [\"\"]".to_owned(),
            "can't be empty",
        ),
        (
            "scheme = \"github\"\nsecrets = [\"s\"]\nheader = \"X\"".to_owned(),
            "sign[1].header: scheme = \"github\" says this itself",
        ),
        (
            "scheme = \"standard-ed25519\"\nsecrets = [\"whsec_AAAA\"]".to_owned(),
            "begins with whsk_",
        ),
        (
            "scheme = \"github\"\nsecrets = [\"s\", { secret = \"o\", until = \"2026-12-01T00:00:00Z\" }]"
                .to_owned(),
            "",
        ),
        (
            "scheme = \"github\"\nsecrets = [{ secret = \"o\", until = \"tomorrow\" }]".to_owned(),
            "\"tomorrow\" is not a date with a time",
        ),
        (
            "scheme = \"github\"\nsecrets = [{ until = \"2026-12-01T00:00:00Z\" }]".to_owned(),
            "secret is missing",
        ),
        (custom.to_owned(), ""),
        (
            "scheme = \"custom\"\nsecrets = [\"s\"]".to_owned(),
            "header is missing",
        ),
        (
            format!("{custom}content = \"{{{{ timestamp }}}}\""),
            "sign[1].content: the signed text leaves the body out",
        ),
        (
            format!("{custom}value = \"v1\""),
            "sign[1].value: the header would not hold the signature",
        ),
        (
            format!("{custom}algorithm = \"md5\""),
            "sign[1].algorithm: \"md5\" is not known here",
        ),
        (
            format!("{custom}timestamp_header = \"Host\""),
            "\"Host\" is set by posthaste itself",
        ),
    ];
    expect(&cases.map(|(lines, expected)| (sign(&lines), expected)));

    let text = sign(&format!("{custom}timestamp = \"unix_ms\""));
    let SignScheme::Custom(custom) = &only(&text).sign[0].scheme else {
        unreachable!("it is custom")
    };
    assert_eq!(custom.timestamp, TimestampFormat::UnixMs);
    let bare = sign("secrets = [\"${env:CRM_SECRET}\"]");
    assert_eq!(only(&bare).sign[0].scheme, SignScheme::Preset(Preset::Standard));
}

/// D8, D9: ranges, names, redirects and proxies.
#[test]
fn d8_rules_of_the_network() {
    let cases = [
        (
            "[network]\ndeny = [\"private\", \"10.0.0.0/8\", \"192.0.2.1\", \"fc00::/7\"]",
            "",
        ),
        (
            "[network]\ndeny = [\"lan\"]",
            "network.deny: \"lan\" is no range of addresses; write one of link-local metadata private loopback",
        ),
        (
            "[network]\nallow = \"10.0.0.1\"",
            "network.allow: \"10.0.0.1\" has to be an array",
        ),
        (
            "[network]\ndns_cache = \"long\"",
            "network.dns_cache: \"long\" is not a duration",
        ),
        ("follow_redirects = 11", "follow_redirects: 11 is out of range"),
        ("proxy = \"\"", ""),
        ("proxy = \"socks5h://u:p@127.0.0.1:1080\"", ""),
        (
            "proxy = \"ftp://proxy.example\"",
            "proxy: the value is not the URL of a proxy",
        ),
        (
            "proxy = \"proxy.example:3128\"",
            "proxy: the value is not the URL of a proxy",
        ),
    ];
    expect(&cases.map(|(lines, expected)| (with(lines), expected)));
    let network = read(&with("[network]\ndns_cache = \"1m\""))
        .unwrap()
        .config
        .network;
    assert_eq!(network.policy.dns_cache, Duration::from_secs(60));
    assert_eq!(
        only(&with("[network]\ndns_cache = \"1m\"")).request.network,
        network.policy
    );
}

/// D6: a client certificate and its key are read together, and have to belong together.
#[test]
fn d6_client_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (name, own) in ["a", "b"].iter().zip(iter::repeat_with(|| {
        rcgen::generate_simple_self_signed(["posthaste".to_owned()]).unwrap()
    })) {
        fs::write(path(&format!("{name}.crt")), own.cert.pem()).unwrap();
        fs::write(path(&format!("{name}.key")), own.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(path(&format!("{name}.key")), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let tls = |cert: &str, key: &str| {
        let line = |key: &str, name: &str| match name {
            "" => String::new(),
            name => format!("{key} = \"{}\"\n", path(name)),
        };
        with(&format!(
            "[endpoint.tls]\n{}{}",
            line("client_cert", cert),
            line("client_key", key)
        ))
    };
    expect(&[
        (tls("a.crt", "a.key"), ""),
        (
            tls("a.crt", ""),
            "tls.client_cert: the certificate is of no use without its key",
        ),
        (
            tls("", "a.key"),
            "tls.client_key: the key is of no use without its certificate",
        ),
        (
            tls("a.crt", "b.key"),
            "client_cert is not for the key in client_key",
        ),
        (tls("a.key", "a.key"), "holds no certificate"),
        (tls("a.crt", "a.crt"), "holds no private key"),
        (tls("a.crt", "none"), "can't be read"),
    ]);
    let text = tls("a.crt", "a.key");
    assert!(only(&text).request.tls.identity.is_some());
    assert!(read(&text).unwrap().warnings.is_empty());
    fs::set_permissions(path("a.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = read(&text).unwrap().warnings;
    assert!(
        warnings[0].message.contains("can read the private key"),
        "{warnings:?}"
    );
}

/// D1: a header that `auth` sets itself would be written in vain, which its author is told.
#[test]
fn d1_headers_that_auth_replaces_are_doubtful() {
    let bearer = "[endpoint.auth]\ntype = \"bearer\"\ntoken = \"t\"";
    let key = "[endpoint.auth]\ntype = \"api_key\"\nname = \"X-Key\"\nvalue = \"v\"";
    let rotating =
        "[endpoint.auth]\ntype = \"rotating\"\nheader = \"X-T\"\nvalues = [\"a\"]\nversion_header = \"X-V\"";
    for (lines, expected) in [
        (
            format!("headers = {{ authorization = \"x\" }}\n{bearer}"),
            "headers.authorization: auth sets",
        ),
        (
            format!("headers = {{ X-KEY = \"x\" }}\n{key}"),
            "headers.X-KEY: auth sets",
        ),
        (
            format!("headers = {{ X-V = \"x\" }}\n{rotating}"),
            "headers.X-V: auth sets",
        ),
        (
            format!("{bearer}\n[[endpoint.route]]\nwhen = \"true\"\nheaders = {{ Authorization = \"x\" }}"),
            "headers.Authorization: auth sets",
        ),
        (format!("headers = {{ X-Key = \"x\" }}\n{bearer}"), ""),
        (
            format!("headers = {{ X-Key = \"x\" }}\n{key}\nin = \"query\""),
            "",
        ),
        ("headers = { Authorization = \"x\" }".to_owned(), ""),
    ] {
        let warnings = read(&with(&lines)).unwrap().warnings;
        let texts: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(texts.is_empty(), expected.is_empty(), "{lines}: {texts:?}");
        assert!(
            texts.iter().all(|text| text.contains(expected)) && texts.len() <= 1,
            "{lines}: {texts:?}"
        );
    }
    let defaults = "[defaults.headers]\nAuthorization = \"Bearer d\"\n";
    let text = format!("{defaults}{}", with(bearer));
    assert!(
        read(&text).unwrap().warnings.is_empty(),
        "an endpoint may replace what all others have"
    );
}

/// C6: what is shown of credentials and ways has every secret masked, and is a configuration again.
#[test]
fn c6_effective_credentials_are_masked() {
    let texts = [
        auth("type = \"api_key\"\nname = \"X-Key\"\nvalue = \"S3CRET\""),
        auth("type = \"api_key\"\nname = \"key\"\nvalue = \"S3CRET\"\nin = \"query\""),
        auth("type = \"bearer\"\ntoken = \"S3CRET\""),
        auth("type = \"basic\"\nusername = \"S3CRET\"\npassword = \"S3CRET\""),
        auth(&format!(
            "{OAUTH2}client_secret = \"S3CRET\"\nparams = {{ a = \"S3CRET\" }}\ngrant = \"refresh_token\"\nrefresh_token = \"S3CRET\""
        )),
        auth(
            "type = \"rotating\"\nheader = \"X-T\"\nvalues = [\"S3CRET\", { value = \"S3CRET\", version = \"2\" }]\nversion_header = \"X-V\"",
        ),
        sign(
            "scheme = \"github\"\nsecrets = [\"S3CRET\", { secret = \"S3CRET\", until = \"2026-12-01T00:00:00Z\" }]",
        ),
        sign(
            "scheme = \"custom\"\nsecrets = [\"S3CRET\"]\nheader = \"X-S\"\ntimestamp_header = \"X-T\"\ncontent = \"{{ body }}\"",
        ),
        with(
            "proxy = \"http://S3CRET:S3CRET@127.0.0.1:3128\"\nfollow_redirects = 2\n[network]\ndeny = [\"10.0.0.0/8\"]",
        ),
    ];
    for text in texts {
        let loaded = read(&text).unwrap();
        let shown = effective(&loaded.config);
        let printed = format!("{loaded:?} {shown}");
        assert!(!printed.contains("S3CRET"), "{text}\n{printed}");
        let again = toml::to_string(&shown).unwrap();
        let again = read(&again).unwrap().config;
        assert_eq!(effective(&again), shown, "{text}");
    }
    let AuthPolicy::OAuth2(policy) = &only(&auth(&format!("{OAUTH2}client_secret = \"s\""))).auth else {
        unreachable!("it is oauth2")
    };
    assert_eq!(policy.grant, Grant::ClientCredentials);
}

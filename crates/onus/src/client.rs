//! The HTTP client: TLS against the pinned authority only, this client's certificate, JSON in and out.

use crate::home::{Config, Home};
use crate::show::Failure;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

/// The largest answer that is read.
const ANSWER: u64 = 256 << 20;

/// A connection to one gateway's API.
pub struct Client {
    agent: Agent,
    base: String,
}

fn tls() -> ureq::tls::TlsConfigBuilder {
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}

fn agent(tls: TlsConfig) -> Agent {
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // A proxy would see nothing, but a redirect could lead elsewhere.
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_global(Some(Duration::from_secs(90)))
        .build()
        .new_agent()
}

fn base(server: &str) -> Result<String, Failure> {
    let base = server.trim_end_matches('/');
    if base.starts_with("https://") {
        Ok(base.to_owned())
    } else {
        Err(Failure::usage(format!("`{server}` is not https://HOST:PORT")))
    }
}

fn roots(ca_pem: &str) -> Result<RootCerts, Failure> {
    let ca = Certificate::from_pem(ca_pem.as_bytes())
        .map_err(|fault| Failure::caused("the authority's certificate can't be read", &fault))?;
    Ok(RootCerts::new_with_certs(&[ca]))
}

impl Client {
    /// Trusts whoever answers: only to fetch the authority's certificate, which is then compared.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub fn trusting_anybody(server: &str) -> Result<Self, Failure> {
        Ok(Self { agent: agent(tls().disable_verification(true).build()), base: base(server)? })
    }

    /// Trusts the pinned authority, and shows no certificate: to enrol and to log in.
    ///
    /// # Errors
    /// When address or authority make no sense.
    pub fn stranger(server: &str, ca_pem: &str) -> Result<Self, Failure> {
        Ok(Self { agent: agent(tls().root_certs(roots(ca_pem)?).build()), base: base(server)? })
    }

    /// This client, as it enrolled.
    ///
    /// # Errors
    /// When nobody has enrolled, or the login is over.
    pub fn of(home: &Home) -> Result<Self, Failure> {
        let config = home.config()?;
        still_logged_in(&config)?;
        let unread =
            |fault: ureq::Error| Failure::caused("the client certificate can't be read", &fault).next("onus login");
        let chain = home.read("client.pem")?;
        let certificate = Certificate::from_pem(chain.as_bytes()).map_err(unread)?;
        let key = PrivateKey::from_pem(home.key()?.as_bytes()).map_err(unread)?;
        let shown = ClientCert::new_with_certs(&[certificate], key);
        let tls = tls().root_certs(roots(&home.read("ca.pem")?)?).client_cert(Some(shown)).build();
        Ok(Self { agent: agent(tls), base: base(&config.server)? })
    }

    /// Asks for text.
    ///
    /// # Errors
    /// What the gateway answers, or that it can't be reached.
    pub fn text(&self, path: &str) -> Result<String, Failure> {
        let response = self.agent.get(format!("{}{path}", self.base)).call();
        let (status, _, body) = self.read(response)?;
        if status == 200 { Ok(body) } else { Err(refused(status, &body)) }
    }

    /// Asks for text, and for a header of the answer.
    ///
    /// # Errors
    /// As [`Client::text`].
    pub fn text_with(&self, path: &str, header: &str) -> Result<(String, Option<String>), Failure> {
        let response = self.agent.get(format!("{}{path}", self.base)).call();
        let (status, headers, body) = self.read(response)?;
        let found = headers.get(header).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if status == 200 { Ok((body, found)) } else { Err(refused(status, &body)) }
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// As [`Client::text`].
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        parse(&self.text(path)?)
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// As [`Client::text`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.post(format!("{}{path}", self.base)).content_type("application/json");
        self.answer(request.send(body.to_string()))
    }

    /// Puts something in its place.
    ///
    /// # Errors
    /// As [`Client::text`].
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.put(format!("{}{path}", self.base)).content_type("application/json");
        self.answer(request.send(body.to_string()))
    }

    fn answer(&self, response: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let (status, _, body) = self.read(response)?;
        if status == 200 { parse(&body) } else { Err(refused(status, &body)) }
    }

    fn read(
        &self,
        response: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<(u16, ureq::http::HeaderMap, String), Failure> {
        let unreached = |fault: ureq::Error| {
            Failure::caused(format!("cannot reach the gateway at {}", self.base), &fault)
                .next("is `onus serve` running there, and is its authority the one pinned in ca.pem?")
        };
        let mut response = response.map_err(unreached)?;
        let body = response.body_mut().with_config().limit(ANSWER).read_to_string().map_err(unreached)?;
        Ok((response.status().as_u16(), response.headers().clone(), body))
    }
}

fn parse(body: &str) -> Result<Value, Failure> {
    serde_json::from_str(body).map_err(|fault| Failure::caused("the gateway's answer is not JSON", &fault))
}

/// What the gateway says is wrong.
fn refused(status: u16, body: &str) -> Failure {
    let Ok(answer) = serde_json::from_str::<Value>(body) else {
        return Failure::new(format!("the gateway answered with status {status}"));
    };
    let problems = answer["problems"].as_array().into_iter().flatten();
    Failure {
        what: answer["error"].as_str().unwrap_or("the gateway refused without a reason").to_owned(),
        next: answer["next"].as_str().map(str::to_owned),
        problems: problems.filter_map(|problem| problem.as_str().map(str::to_owned)).collect(),
        status: 1,
    }
}

/// Says so before the handshake does, which can't say why.
///
/// # Errors
/// When the login is over.
pub fn still_logged_in(config: &Config) -> Result<(), Failure> {
    if onus_gateway::now().0 < config.not_after {
        return Ok(());
    }
    Err(Failure::new(format!("the login of `{}` has expired", config.subject)).next("onus login"))
}

/// One segment of a path: names may hold `/` and `@`.
pub fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            // A lone `.` or `..` would be taken for the folder above.
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("team/alice@x"), "team%2Falice%40x");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(segment("a?b#c"), "a%3Fb%23c");
    }

    #[test]
    fn only_https_is_spoken() {
        assert!(Client::trusting_anybody("http://localhost").is_err());
        assert!(Client::trusting_anybody("https://localhost:7443/").is_ok_and(|c| c.base == "https://localhost:7443"));
    }

    #[test]
    fn a_refusal_is_told_whole() {
        let failure = refused(422, r#"{"error":"e","next":"n","problems":["a","b"]}"#);
        assert_eq!((failure.what.as_str(), failure.next.as_deref(), failure.problems.len()), ("e", Some("n"), 2));
        assert!(refused(502, "<html>").what.contains("502"));
    }
}

//! The shape that every kind of issuer has, and the loop that revokes until it is proven. No kind is known here.

use crate::IssueFault;
use onus_core::ids::SessionId;
use onus_core::time::{Millis, Timestamp};
use std::fmt;
use std::future::Future;
use std::time::Duration;
use zeroize::Zeroizing;

/// What a session needs from an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The session; the credential's name comes from it.
    pub session: SessionId,
    /// The upstream's own roles that the credential gets, at least one.
    pub member_of: Vec<String>,
    /// The credential opens nothing from here on, even if revoking fails.
    pub valid_until: Timestamp,
    /// The database that the session uses.
    pub database: String,
    /// Schemas to search by default; empty leaves the upstream's default. A convenience, not a boundary: a session can
    /// change it.
    pub search_path: Vec<String>,
    /// The longest that one statement may run by default. A session can change it.
    pub statement_timeout: Option<Millis>,
}

/// A credential for one session. For the gateway's own connection to the upstream; never to be given to a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The name to log in with, and to revoke.
    pub role_name: String,
    /// What proves that name.
    pub secret: UpstreamSecret,
}

/// What proves a name to an upstream. Wiped when dropped, absent from `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum UpstreamSecret {
    /// A password.
    Password(Zeroizing<String>),
    /// A client certificate and its key, in PEM.
    ClientCertificate {
        /// The certificate chain.
        cert_pem: String,
        /// The key.
        key_pem: Zeroizing<String>,
    },
}

impl Issued {
    /// The password, if that is what proves the name.
    pub fn password(&self) -> Option<&Zeroizing<String>> {
        match &self.secret {
            UpstreamSecret::Password(password) => Some(password),
            UpstreamSecret::ClientCertificate { .. } => None,
        }
    }
}

impl fmt::Debug for UpstreamSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(…)",
            Self::ClientCertificate { .. } => "ClientCertificate(…)",
        })
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issued({}, {:?})", self.role_name, self.secret)
    }
}

/// What one attempt to revoke came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Revoked {
    /// The upstream itself was asked afterwards: the name is gone and nothing runs under it. Only this counts as done.
    pub proven: bool,
    /// How many of its connections were ended.
    pub terminated: u32,
    /// Databases in which it owned something that now belongs to the configured owner. What is left behind there was
    /// made by the session: somebody should look at it.
    pub reassigned_in: Vec<String>,
    /// Why it can't be proven, where that is known.
    pub reason: Option<&'static str>,
}

/// A credential of ours that an upstream still knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// Its name.
    pub role_name: String,
    /// The upstream's own deadline for it, as the upstream writes it (UTC).
    pub valid_until: Option<String>,
    /// Connections that it has now.
    pub connections: u32,
}

/// A kind of upstream credential. Each one must pass [`crate::contract`].
pub trait Issuer: Sync {
    /// Makes a credential. After a fault that leaves open whether it exists, revoke its name.
    fn issue(&self, order: &Order) -> impl Future<Output = Result<Issued, IssueFault>> + Send;
    /// Ends a credential: ends its connections, removes it, and asks whether it is gone. May be called any number of
    /// times, by anyone, for a name that never existed; that is then proven too.
    fn revoke(&self, role_name: &str) -> impl Future<Output = Result<Revoked, IssueFault>> + Send;
    /// All credentials of ours that the upstream knows, for comparing with the ledger after a crash.
    fn discover(&self) -> impl Future<Output = Result<Vec<Discovered>, IssueFault>> + Send;
}

/// How [`revoke_until_proven`] ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The credential is gone.
    Proven(Revoked),
    /// Cancelled before that. The credential may still exist: its upstream deadline is what remains.
    Cancelled,
    /// This kind of credential can't be revoked; the reason stands in it.
    Impossible(Revoked),
}

/// Revokes again and again, with waits from 100 ms doubling to 30 s, until it is proven or `cancel` completes.
///
/// `on_attempt` sees each attempt's number (from 1) and result, to record and announce it.
pub async fn revoke_until_proven<I: Issuer>(
    issuer: &I,
    role_name: &str,
    mut on_attempt: impl FnMut(u32, &Result<Revoked, IssueFault>) + Send,
    cancel: impl Future<Output = ()> + Send,
) -> Ended {
    let mut cancel = std::pin::pin!(cancel);
    let mut wait = Duration::from_millis(100);
    let mut attempt = 0u32;
    loop {
        attempt = attempt.saturating_add(1);
        let result = tokio::select! {
            result = issuer.revoke(role_name) => result,
            () = &mut cancel => return Ended::Cancelled,
        };
        on_attempt(attempt, &result);
        match result {
            Ok(revoked) if revoked.proven => return Ended::Proven(revoked),
            Ok(revoked) if revoked.reason.is_some() => return Ended::Impossible(revoked),
            _ => (),
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => (),
            () = &mut cancel => return Ended::Cancelled,
        }
        wait = (wait * 2).min(Duration::from_secs(30));
    }
}

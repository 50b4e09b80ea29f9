//! What every issuer of per-session credentials must do, as functions that panic where it doesn't. For tests: an issuer's
//! tests bring the issuer and an [`Upstream`] to use its credentials on. Standing credentials can't pass, and needn't.

use crate::{Issued, Issuer, Order, Revoked};
use onus_core::ids::SessionId;
use onus_core::time::Timestamp;
use std::future::Future;
use std::time::Duration;

/// A real upstream, as a client of it sees it.
pub trait Upstream: Sync {
    /// A connection that is logged in.
    type Connection: Send;
    /// Logs in with a credential, or says why the upstream refused.
    fn log_in(&self, issued: &Issued) -> impl Future<Output = Result<Self::Connection, String>> + Send;
    /// Whether the connection still answers.
    fn answers(&self, connection: &mut Self::Connection) -> impl Future<Output = bool> + Send;
    /// Starts something that would run for minutes; returns when the upstream has begun with it.
    fn start_long(&self, connection: &mut Self::Connection) -> impl Future<Output = ()> + Send;
    /// Makes the credential own something that outlives the connection, wherever it can.
    fn own_something(&self, connection: &mut Self::Connection) -> impl Future<Output = ()> + Send;
    /// An order that the issuer can fill, for this session.
    fn order(&self, session: SessionId) -> Order;
}

fn session(name: &str) -> SessionId {
    SessionId::parse(name).expect("the contract's own names are ids")
}

async fn issue<I: Issuer, U: Upstream>(issuer: &I, upstream: &U, name: &str) -> Issued {
    issuer.issue(&upstream.order(session(name))).await.expect("a credential is issued")
}

async fn revoke<I: Issuer>(issuer: &I, issued: &Issued) -> Revoked {
    let revoked = issuer.revoke(&issued.role_name).await.expect("revoking does not fail");
    assert!(revoked.proven, "revoking must be proven: {revoked:?}");
    revoked
}

async fn is_refused<U: Upstream>(upstream: &U, issued: &Issued, when: &str) {
    assert!(upstream.log_in(issued).await.is_err(), "the credential still opens {when}");
}

/// Issued, it logs in; revoked, it doesn't.
pub async fn opens_until_revoked<I: Issuer, U: Upstream>(issuer: &I, upstream: &U) {
    let issued = issue(issuer, upstream, "contract-opens").await;
    let mut connection = upstream.log_in(&issued).await.expect("the credential opens");
    assert!(upstream.answers(&mut connection).await);
    let found = issuer.discover().await.expect("discovering does not fail");
    assert!(found.iter().any(|d| d.role_name == issued.role_name && d.connections > 0), "not discovered: {found:?}");
    let revoked = revoke(issuer, &issued).await;
    assert_eq!(revoked.terminated, 1);
    assert!(!upstream.answers(&mut connection).await, "a connection outlives its credential");
    is_refused(upstream, &issued, "after it was revoked").await;
    assert!(!issuer.discover().await.expect("discovering").iter().any(|d| d.role_name == issued.role_name));
}

/// Revoking twice, and revoking what never was, is proven too.
pub async fn revoking_again_is_proven<I: Issuer, U: Upstream>(issuer: &I, upstream: &U) {
    let issued = issue(issuer, upstream, "contract-twice").await;
    revoke(issuer, &issued).await;
    assert_eq!(revoke(issuer, &issued).await.terminated, 0);
    let never = Issued { role_name: issued.role_name.replace("twice", "never"), secret: issued.secret.clone() };
    revoke(issuer, &never).await;
}

/// A second issuer, that knows nothing of the first, finds and revokes what the first left behind.
pub async fn survives_a_crash<I: Issuer, U: Upstream>(crashed: I, after: &I, upstream: &U) {
    let issued = issue(&crashed, upstream, "contract-crash").await;
    let mut connection = upstream.log_in(&issued).await.expect("the credential opens");
    drop(crashed);
    let found = after.discover().await.expect("discovering does not fail");
    let left = found.iter().find(|d| d.role_name == issued.role_name).expect("what was left behind is discovered");
    assert!(after.revoke(&left.role_name).await.expect("revoking").proven);
    assert!(!upstream.answers(&mut connection).await, "a connection outlives its credential");
    is_refused(upstream, &issued, "after the crash was tidied up").await;
}

/// What runs is ended at once, not waited for.
pub async fn ends_what_runs<I: Issuer, U: Upstream>(issuer: &I, upstream: &U) {
    let issued = issue(issuer, upstream, "contract-runs").await;
    let mut connection = upstream.log_in(&issued).await.expect("the credential opens");
    upstream.start_long(&mut connection).await;
    let revoked = tokio::time::timeout(Duration::from_secs(10), revoke(issuer, &issued)).await;
    assert_eq!(revoked.expect("revoking waits for what runs").terminated, 1);
    is_refused(upstream, &issued, "while something ran").await;
}

/// A credential that owns something is revoked all the same.
pub async fn ends_an_owner<I: Issuer, U: Upstream>(issuer: &I, upstream: &U) {
    let issued = issue(issuer, upstream, "contract-owns").await;
    let mut connection = upstream.log_in(&issued).await.expect("the credential opens");
    upstream.own_something(&mut connection).await;
    let revoked = revoke(issuer, &issued).await;
    assert!(!revoked.reassigned_in.is_empty(), "what a session leaves behind is reported: {revoked:?}");
    is_refused(upstream, &issued, "after it owned something").await;
}

/// The upstream itself refuses a credential after its deadline, whether or not anyone revokes it.
pub async fn expires_by_itself<I: Issuer, U: Upstream>(issuer: &I, upstream: &U) {
    let mut order = upstream.order(session("contract-expired"));
    order.valid_until = Timestamp(1_000_000_000_000);
    let issued = issuer.issue(&order).await.expect("a credential is issued");
    is_refused(upstream, &issued, "after its deadline").await;
    revoke(issuer, &issued).await;
}

//! After a crash: sessions that an earlier life of this gateway left open, and credentials that it left behind.
//!
//! The ledger knows both: a session is in it before it exists, and so is a credential. Nothing is guessed from the
//! other side: a role there that the ledger does not know is left alone, for it may be another gateway's.

use crate::gateway::Gateway;
use crate::upstream::{Target, UpstreamError};
use onus_core::command::Command;
use onus_core::event::{EndReason, SessionTotals};
use onus_core::ids::{CredentialId, SessionId};
use onus_core::state::LiveCredential;
use onus_issue::RoleName;
use std::sync::Arc;
use std::time::Duration;

/// Ends what is left, in the background.
pub(crate) fn begin(gateway: &Arc<Gateway>) {
    let (sessions, credentials): (Vec<SessionId>, Vec<(CredentialId, LiveCredential)>) = {
        let state = gateway.shared().state();
        (
            state.sessions.values().filter(|s| s.gateway == gateway.settings.name).map(|s| s.id.clone()).collect(),
            state.credentials.iter().map(|(id, c)| (id.clone(), c.clone())).collect(),
        )
    };
    if !sessions.is_empty() || !credentials.is_empty() {
        tracing::info!(
            sessions = sessions.len(),
            credentials = credentials.len(),
            "ending what an earlier life of this gateway left open"
        );
    }
    let owner = Arc::clone(gateway);
    tokio::spawn(async move {
        for session in sessions {
            close(&owner, session).await;
        }
    });
    for (id, credential) in credentials {
        let gateway = Arc::clone(gateway);
        tokio::spawn(async move { revoke(&gateway, id, credential).await });
    }
}

/// Notes the end of a session, anchoring its journal as far as it was written.
async fn close(gateway: &Arc<Gateway>, session: SessionId) {
    let reader = Arc::clone(gateway);
    let id = session.clone();
    let anchor = tokio::task::spawn_blocking(move || {
        let segments: Vec<Vec<u8>> =
            reader.journal_segments(&id).ok()?.into_iter().map(std::fs::read).collect::<Result<_, _>>().ok()?;
        let verified = onus_journal::verify(id.as_str(), &segments, &[]);
        if !verified.ok() {
            tracing::error!(session = %id, findings = ?verified.findings, "a journal was damaged");
            return None;
        }
        Some((verified.last_seq, verified.head.to_string()))
    })
    .await
    .ok()
    .flatten();
    let mut commands = Vec::new();
    if let Some((records, head)) = anchor {
        commands.push(Command::AnchorJournal { session: session.clone(), records, head, closed: true });
    }
    commands.push(Command::CloseSession { session, reason: EndReason::GatewayDied, totals: SessionTotals::default() });
    if let Err(error) = gateway.control.give(commands, gateway.actor()).await {
        tracing::warn!(%error, "the end of a session could not be noted");
    }
}

/// Revokes a credential until that is proven, however long the other side is away.
async fn revoke(gateway: &Arc<Gateway>, id: CredentialId, credential: LiveCredential) {
    let mut wait = Duration::from_millis(200);
    loop {
        match try_revoke(gateway, &credential).await {
            Ok(retired) => {
                let done = Command::NoteRevocation {
                    credential: id.clone(),
                    proven: retired.proven,
                    attempts: retired.attempts,
                    note: Some("after the gateway died".to_owned()),
                };
                if gateway.give(done, gateway.actor()).await.is_ok() {
                    return;
                }
            }
            Err(what) => tracing::warn!(credential = %id, %what, "a credential is not revoked yet"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(30));
    }
}

async fn try_revoke(gateway: &Arc<Gateway>, credential: &LiveCredential) -> Result<crate::upstream::Retired, String> {
    if credential.issuer == "ssh-certificate" {
        // Its key was in the gateway's memory alone, and is gone with it.
        return Ok(crate::upstream::Retired { proven: true, attempts: 1, at: std::time::Instant::now(), note: None });
    }
    let target = {
        let state = gateway.shared().state();
        let resource = state.estate.resources.get(&credential.resource);
        let resource = resource.ok_or_else(|| format!("resource `{}` is no longer declared", credential.resource))?;
        Target::parse(&credential.resource, resource).map_err(|error| error.to_string())?
    };
    let role = RoleName::parse(&credential.name).map_err(|error| error.to_string())?;
    let (owner, id) = (Arc::clone(gateway), credential.resource.clone());
    let admin = tokio::task::spawn_blocking(move || owner.admins.of(&id, &target, &owner.vault))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error: UpstreamError| error.to_string())?;
    admin.retire(role).await.map_err(|error| error.to_string())
}

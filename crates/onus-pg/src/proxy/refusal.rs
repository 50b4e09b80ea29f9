//! How a refusal is spelled: the poison that goes upstream in the statement's place, and the words for the client.
//!
//! The server must see a failure, so that its transaction fails too and the client can't commit half of its work.
//! What it sees is a fixed text that is no SQL; its error is swallowed and ours is sent instead, in its place and
//! order.

use crate::message::{Diagnostic, Severity};
use bytes::Bytes;
use onus_pep::{EndCause, Refusal, RefusalKind};

/// A Query that fails in the server's parser, in any transaction state.
pub(super) const POISON_QUERY: &[u8] = b"Q\0\0\0\x11onus_refused\0";

/// A Parse that fails in the server's parser: it stores no statement, and has a name so as not to touch the
/// unnamed one.
pub(super) const POISON_PARSE: &[u8] = b"P\0\0\0\x20onus_refused\0onus_refused\0\0\0";

/// The ErrorResponse for a refused frame.
pub(super) fn answer(refusal: &Refusal<'_>) -> Bytes {
    let Refusal { kind, decision, view } = refusal;
    let why = decision.reasons.first().map(String::as_str);
    let why = why.or(decision.determining.first().map(|d| d.why.as_str())).unwrap_or("no policy permits it");
    let (code, message) = match kind {
        RefusalKind::Denied { code } => (code.unwrap_or("42501"), format!("refused by onus: {why}")),
        RefusalKind::Expired => ("57014", "refused by onus: nobody confirmed it in time".to_owned()),
        RefusalKind::Declined { by, reason } => ("42501", format!("refused by onus: {by} declined it: {reason}")),
        RefusalKind::Overtaken => {
            ("57014", "refused by onus: the rules changed while it waited; run it again".to_owned())
        }
    };
    let detail = decision
        .determining
        .iter()
        .map(|d| format!("policy `{}`, owned by {}: {}", d.policy, d.owner, d.why))
        .chain(decision.reasons.iter().filter(|reason| reason.as_str() != why).cloned())
        .collect::<Vec<_>>()
        .join("\n");
    let hint = match kind {
        RefusalKind::Denied { code: Some(_) } => None,
        RefusalKind::Expired | RefusalKind::Overtaken => {
            Some("run it again when those who confirm are there".to_owned())
        }
        RefusalKind::Denied { .. } | RefusalKind::Declined { .. } => {
            let ask = decision.determining.first().map(|d| format!("ask {}, or ", d.owner)).unwrap_or_default();
            Some(format!(
                "{ask}request a role that permits it: onus request {} --role ROLE --purpose \"…\"",
                view.resource
            ))
        }
    };
    Diagnostic {
        severity: Severity::Error,
        code,
        message: &message,
        detail: (!detail.is_empty()).then_some(&detail),
        hint: hint.as_deref(),
    }
    .to_bytes()
}

/// The FATAL ErrorResponse that ends a session.
pub(super) fn fatal(cause: EndCause, code: Option<&str>, text: &str) -> Bytes {
    let usual = match cause {
        EndCause::Killed | EndCause::LeaseLapsed | EndCause::ClientLeft => "57P01",
        EndCause::DeadlinePassed | EndCause::Terminated => "28000",
        EndCause::JournalFailed => "58030",
        EndCause::UpstreamClosed => "08006",
        EndCause::ClientViolation | EndCause::UpstreamViolation => "08P01",
        EndCause::Broken => "XX000",
    };
    // Five digits and capitals, or the usual one: the code may come from outside.
    let given = code.filter(|c| c.len() == 5 && c.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()));
    Diagnostic {
        severity: Severity::Fatal,
        code: given.unwrap_or(usual),
        message: &format!("session ended by onus: {text}"),
        detail: None,
        hint: None,
    }
    .to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::head;

    #[test]
    fn what_goes_upstream_of_our_own_is_well_framed() {
        for own in [POISON_QUERY, POISON_PARSE] {
            assert_eq!(head(own).unwrap().unwrap().1, own.len());
        }
    }
}

//! The ledger as C2SP tlog-tiles lays it out: checkpoint and hash tiles for anybody, entries for subjects.

use crate::answer::Problem;
use crate::archive::TileAnswer;
use crate::caller::Caller;
use crate::server::{Api, blocking};
use axum::extract::{FromRequestParts, Path, Request, State as Of};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

const BYTES: [(axum::http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/octet-stream")];

/// The newest signed checkpoint.
pub(crate) async fn checkpoint(Of(api): Of<Arc<Api>>) -> Result<Response, Problem> {
    let newest = api.gateway.shared().checkpoint().ok_or_else(|| Problem::missing("the ledger is empty"))?;
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], newest.note).into_response())
}

/// One tile or bundle, by its path.
pub(crate) async fn tile(
    Of(api): Of<Arc<Api>>,
    Path(rest): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let nothing = || Problem::missing("the ledger has no such tile");
    let size = api.gateway.shared().checkpoint().ok_or_else(nothing)?.size;
    match api.archive.tile(api.gateway.shared(), size, &format!("tile/{rest}")).ok_or_else(nothing)? {
        TileAnswer::Hashes(bytes) => Ok((BYTES, bytes).into_response()),
        TileAnswer::Entries { from, count } => {
            // Hashes say nothing about anybody; entries name people.
            let (mut parts, _) = request.into_parts();
            Caller::from_request_parts(&mut parts, &api).await?;
            let stored = blocking(&api.gateway, move |gateway| gateway.stored(from, count)).await?;
            let stored = stored.map_err(|fault| Problem::unavailable("the ledger could not be read", &fault))?;
            if stored.len() != count {
                return Err(nothing());
            }
            let mut bundle = Vec::new();
            for entry in stored {
                let length = u16::try_from(entry.bytes.len()).map_err(|_| nothing())?;
                bundle.extend_from_slice(&length.to_be_bytes());
                bundle.extend_from_slice(&entry.bytes);
            }
            Ok((BYTES, bundle).into_response())
        }
    }
}

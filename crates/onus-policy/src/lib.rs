//! The Cedar policy decision point: schema, validation, roles as templates, slicing, replay.
//!
//! It takes texts and values and gives answers; it reads no file, asks no clock and keeps nothing but a bounded cache
//! of linked role templates, which changes no answer. It does not know any protocol: the caller passes in the table of
//! actions that the protocols' classifiers can produce.
//!
//! ```text
//! texts ── set: statements ─ annotations ─ strict validation ──► PolicySet ── decide(view, operation, now) ─► Decision
//!                                                                    │ static policies sliced by action, once
//!                                                                    │ the session's own role linked, cached
//! ```

pub mod cases;
pub mod replay;
pub mod schema;
pub mod set;

mod annotations;
mod decide;
mod links;
mod request;
mod slice;
mod statements;
mod uses;

pub use annotations::{KnownParties, PLANES, Policy, PolicyEffect};
pub use cases::{CaseResult, CasesError, run_cases};
pub use replay::{Change, Recorded, Replay, replay};
pub use schema::{Schema, SchemaError};
pub use set::{PolicyProblem, PolicySet, Role};

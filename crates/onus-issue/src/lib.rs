//! Issuers of upstream credentials: issue, revoke until that is proven, and discover what is left after a crash.
//!
//! A credential that is issued here goes to the gateway and never to a client. Nothing here decides who may have one,
//! and nothing here records it: the caller notes the credential in the ledger *before* it issues it, so that after a
//! crash there is no credential that nobody knows of.

pub mod contract;
mod fault;
mod issuer;
pub mod pg_tls;
mod pool;
pub mod postgres_role;
mod quote;
mod role_name;
mod scram;
pub mod ssh_certificate;
pub mod stored;

pub use fault::IssueFault;
pub use issuer::{Discovered, Ended, Issued, Issuer, Order, Revoked, UpstreamSecret, revoke_until_proven};
pub use postgres_role::{PgAdmin, PgAdminConfig};
pub use role_name::{ROLE_PREFIX, RoleName, RoleNameError};

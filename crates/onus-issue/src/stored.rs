//! The alternative where an upstream can't make roles for us: one standing credential, used for every session, sealed at
//! rest by the caller. It can't be revoked with a session, and says so.

use crate::issuer::UpstreamSecret;
use crate::{Discovered, IssueFault, Issued, Issuer, Order, PgAdmin, Revoked, scram};
use std::fmt;
use zeroize::Zeroizing;

/// Why revoking a standing credential proves nothing.
pub const STATIC_CREDENTIAL: &str = "static credential";

/// A standing credential: a role's name and what proves it.
pub struct StoredCredential {
    role_name: String,
    secret: UpstreamSecret,
}

impl fmt::Debug for StoredCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredCredential({}, {:?})", self.role_name, self.secret)
    }
}

impl StoredCredential {
    /// Takes a credential that the caller opened from its seal.
    pub fn new(role_name: String, secret: UpstreamSecret) -> Self {
        Self { role_name, secret }
    }

    /// Gives the role `fresh`, made by [`fresh_password`], and uses it from now on.
    ///
    /// The caller seals and stores `fresh` *before* this, next to the old one: after a crash in between, one of the two
    /// opens. Sessions that are open go on; only new connections need the new password.
    pub async fn rotate(&mut self, admin: &PgAdmin, fresh: FreshPassword) -> Result<(), IssueFault> {
        if !matches!(self.secret, UpstreamSecret::Password(_)) {
            return Err(IssueFault::Config("a client certificate is rotated where it was issued"));
        }
        admin.set_password(&self.role_name, &fresh.0).await?;
        self.secret = UpstreamSecret::Password(fresh.0);
        Ok(())
    }
}

/// A new random password of 256 bits. Its own type, because its verifier is not stretched: a password that a person chose
/// must not get there.
pub struct FreshPassword(Zeroizing<String>);

impl FreshPassword {
    /// The password, for sealing.
    pub fn reveal(&self) -> &Zeroizing<String> {
        &self.0
    }
}

impl fmt::Debug for FreshPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshPassword(…)")
    }
}

/// Makes a password for [`StoredCredential::rotate`].
pub fn fresh_password() -> Result<FreshPassword, IssueFault> {
    scram::fresh_password().map(FreshPassword)
}

impl Issuer for StoredCredential {
    /// Hands the credential to the gateway. Roles, deadline and schemas of the order have no effect on it.
    async fn issue(&self, _order: &Order) -> Result<Issued, IssueFault> {
        Ok(Issued { role_name: self.role_name.clone(), secret: self.secret.clone() })
    }
    /// Does nothing, and proves nothing.
    async fn revoke(&self, _role_name: &str) -> Result<Revoked, IssueFault> {
        Ok(Revoked { reason: Some(STATIC_CREDENTIAL), ..Revoked::default() })
    }
    /// Finds nothing: there is nothing per session.
    async fn discover(&self) -> Result<Vec<Discovered>, IssueFault> {
        Ok(Vec::new())
    }
}

//! The login rule, as a pure function over the stored record and what was presented. It counts no attempts (see
//! [`crate::throttle`]) and loads no records.

use crate::csr::VerifiedCsr;
use crate::fingerprint::KeyFingerprint;
use crate::password::{PasswordCheck, PasswordHash, verify_nothing};
use crate::subject::SubjectName;
use std::collections::BTreeSet;

/// What a subject has to present besides its enrolled key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecondProof {
    /// A password: every human.
    Password(PasswordHash),
    /// Nothing: a workload or agent, whose key is all that it can hold. Never for a human.
    KeyAlone,
}

/// Whether a subject may log in at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In good standing.
    Active,
    /// Disabled, expired or offboarded.
    Inactive,
}

/// What is stored about a subject's login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLogin {
    /// The subject.
    pub subject: SubjectName,
    /// What it has to present besides its key.
    pub second: SecondProof,
    /// The keys that were enrolled for it.
    pub enrolled_keys: BTreeSet<KeyFingerprint>,
    /// Its standing.
    pub standing: Standing,
}

/// Why a login is refused, for the record. To the client, all are [`REFUSED`]: the differences would tell a stranger
/// which subjects exist and which half of a guess was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefused {
    /// There is no such subject.
    #[error("no such subject")]
    UnknownSubject,
    /// The password is wrong, or missing.
    #[error("wrong password")]
    WrongPassword,
    /// The subject is not in good standing.
    #[error("the subject is not active")]
    Inactive,
    /// The key belongs to nobody, or to someone else.
    #[error("the key is not enrolled for this subject")]
    KeyNotEnrolled,
}

/// What a client is told of any [`LoginRefused`].
pub const REFUSED: &str = "login refused; check name and password, and that this machine's key is enrolled";

/// Proof that one login succeeded: the one thing that makes the CA issue a client certificate. Consumed there, and it
/// can't be copied, so one login gives one certificate.
///
/// ```compile_fail
/// fn twice(
///     ca: &onus_authn::ca::CertificateAuthority,
///     passed: onus_authn::login::LoginPassed,
///     serial: onus_authn::serial::Serial,
/// ) {
///     let _ = ca.issue_client(passed, 0, 1000, serial);
///     let _ = ca.issue_client(passed, 0, 1000, serial);
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct LoginPassed {
    subject: SubjectName,
    csr: VerifiedCsr,
}

impl LoginPassed {
    /// Who logged in.
    pub fn subject(&self) -> &SubjectName {
        &self.subject
    }
    /// With which key.
    pub fn fingerprint(&self) -> &KeyFingerprint {
        self.csr.fingerprint()
    }
    pub(crate) fn into_parts(self) -> (SubjectName, VerifiedCsr) {
        (self.subject, self.csr)
    }
}

/// Applies the login rule: active subject, right password, and a request signed by a key enrolled for this subject.
///
/// `stored` is the record found under the presented name, or `None`; the password is hashed either way, so that the
/// time taken doesn't tell. Takes tens of milliseconds: keep it off an async thread.
pub fn login(
    stored: Option<&StoredLogin>,
    password: Option<&str>,
    csr: VerifiedCsr,
) -> Result<LoginPassed, LoginRefused> {
    let presented = password.unwrap_or("");
    let Some(stored) = stored else {
        let _ = verify_nothing(presented);
        return Err(LoginRefused::UnknownSubject);
    };
    let check = match &stored.second {
        SecondProof::Password(hash) => hash.verify(presented),
        SecondProof::KeyAlone => {
            // Spend the time here too, or its absence tells that this name is a workload's.
            let _ = verify_nothing(presented);
            PasswordCheck::Right
        }
    };
    if check == PasswordCheck::Wrong {
        return Err(LoginRefused::WrongPassword);
    }
    if stored.standing != Standing::Active {
        return Err(LoginRefused::Inactive);
    }
    if !stored.enrolled_keys.contains(csr.fingerprint()) {
        return Err(LoginRefused::KeyNotEnrolled);
    }
    Ok(LoginPassed { subject: stored.subject.clone(), csr })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csr::ClientKey;
    use crate::password::NewPassword;
    use zeroize::Zeroizing;

    #[test]
    fn each_condition_is_needed() {
        let csr = |key: &ClientKey| VerifiedCsr::from_pem(&key.csr_pem().unwrap()).unwrap();
        let (enrolled, other) = (ClientKey::generate().unwrap(), ClientKey::generate().unwrap());
        let password = NewPassword::parse(Zeroizing::new("correct horse battery".to_owned())).unwrap();
        let alice = StoredLogin {
            subject: SubjectName::parse("alice").unwrap(),
            second: SecondProof::Password(password.hash().unwrap()),
            enrolled_keys: BTreeSet::from([enrolled.fingerprint()]),
            standing: Standing::Active,
        };
        let right = Some("correct horse battery");
        let passed = login(Some(&alice), right, csr(&enrolled)).unwrap();
        assert_eq!((passed.subject().as_str(), passed.fingerprint()), ("alice", &enrolled.fingerprint()));

        assert_eq!(login(None, right, csr(&enrolled)), Err(LoginRefused::UnknownSubject));
        assert_eq!(login(Some(&alice), None, csr(&enrolled)), Err(LoginRefused::WrongPassword));
        assert_eq!(login(Some(&alice), Some(""), csr(&enrolled)), Err(LoginRefused::WrongPassword));
        assert_eq!(login(Some(&alice), right, csr(&other)), Err(LoginRefused::KeyNotEnrolled));
        let disabled = StoredLogin { standing: Standing::Inactive, ..alice.clone() };
        assert_eq!(login(Some(&disabled), right, csr(&enrolled)), Err(LoginRefused::Inactive));
        let workload = StoredLogin { second: SecondProof::KeyAlone, ..alice.clone() };
        assert!(login(Some(&workload), None, csr(&enrolled)).is_ok());
        assert_eq!(login(Some(&workload), right, csr(&other)), Err(LoginRefused::KeyNotEnrolled));
    }
}

//! Enrolling and logging in: the two things that a stranger may ask for, and the codes that let a stranger enrol.
//!
//! Both are braked by subject and source before anything is looked up, and hash a password whether or not the name is
//! known. A code is checked before it is consumed: somebody who guesses wrong must not use up somebody else's.

use crate::answer::{Body, Problem, id};
use crate::caller::{Caller, Peer};
use crate::rights;
use crate::server::{Api, blocking};
use crate::ssh;
use axum::Json;
use axum::extract::State as Of;
use axum::http::StatusCode;
use onus_authn::ca::ClientCertificate;
use onus_authn::code::{CodeRefused, EnrolmentCode, PrintedCode};
use onus_authn::csr::VerifiedCsr;
use onus_authn::fingerprint::KeyFingerprint;
use onus_authn::login::{REFUSED, SecondProof, Standing, StoredLogin, login as apply_login};
use onus_authn::password::{MAX_PASSWORD_BYTES, NewPassword, PasswordHash};
use onus_authn::serial::Serial;
use onus_authn::subject::SubjectName;
use onus_core::command::Command;
use onus_core::event::Actor;
use onus_core::ids::SubjectId;
use onus_core::refusal::Refusal;
use onus_core::time::Millis;
use onus_core::view::SubjectKind;
use onus_gateway::vault::{Vault, VaultError};
use onus_gateway::{ControlError, Gateway, now};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// How long a code can be used.
pub const CODE_LIFETIME: Millis = Millis(86_400_000);

/// The vault's kinds.
const CODE: &str = "code";
const PASSWORD: &str = "password";

/// A code in the vault, with whoever gave it out: the key that it enrols is enrolled in their name.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Invitation {
    code: EnrolmentCode,
    by: Actor,
}

/// Makes a code for a subject in place of any earlier one. Whether `by` may is the caller's to have asked.
///
/// # Errors
/// When there is no such subject, or the vault can't be written.
pub async fn mint_code(gateway: &Arc<Gateway>, subject: &SubjectId, by: Actor) -> Result<PrintedCode, Problem> {
    if !gateway.shared().state().in_good_standing(subject) {
        return Err(Problem::missing(format!("there is no subject `{subject}` in good standing")));
    }
    let name = SubjectName::parse(subject.as_str())
        .map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let (code, printed) = EnrolmentCode::mint(name, now().plus(CODE_LIFETIME).0)
        .map_err(|fault| Problem::unavailable("no code could be made", &fault))?;
    let stored = serde_json::to_vec(&Invitation { code, by }).expect("plain data can be written as JSON");
    put(gateway, CODE, subject, stored).await?;
    Ok(printed)
}

async fn put(gateway: &Arc<Gateway>, kind: &'static str, name: &SubjectId, secret: Vec<u8>) -> Result<(), Problem> {
    let name = name.clone();
    let put = blocking(gateway, move |gateway| gateway.vault.put(kind, name.as_str(), &secret)).await?;
    put.map_err(|fault| Problem::unavailable("the vault is not available", &fault))
}

/// Fetches or takes a secret. Codes and password hashes only: neither opens anything by itself.
async fn secret<S: std::ops::Deref<Target = Vec<u8>> + 'static>(
    gateway: &Arc<Gateway>,
    kind: &'static str,
    name: &SubjectId,
    how: fn(&Vault, &str, &str) -> Result<Option<S>, VaultError>,
) -> Result<Option<Vec<u8>>, Problem> {
    let name = name.clone();
    let found = blocking(gateway, move |gateway| {
        how(&gateway.vault, kind, name.as_str()).map(|found| found.map(|secret| secret.to_vec()))
    })
    .await?;
    found.map_err(|fault| Problem::unavailable("the vault is not available", &fault))
}

#[derive(Deserialize)]
pub(crate) struct Invite {
    subject: String,
}

pub(crate) async fn invite(
    Of(api): Of<Arc<Api>>,
    caller: Caller,
    Body(Invite { subject }): Body<Invite>,
) -> Result<Json<Value>, Problem> {
    let subject: SubjectId = id(&subject)?;
    if !rights::may_invite(&api.gateway.shared().state(), &caller.subject, &subject) {
        return Err(Problem::forbidden(format!(
            "`{}` may not invite `{subject}`; an administrator may, or for others than administrators the lifecycle \
             plane's owner",
            caller.subject
        )));
    }
    let printed = mint_code(&api.gateway, &subject, caller.actor()).await?;
    tracing::info!(%subject, by = %caller.subject, "an enrolment code was given out");
    Ok(Json(json!({"subject": subject, "code": printed.reveal(), "expires": now().plus(CODE_LIFETIME)})))
}

#[derive(Deserialize)]
pub(crate) struct Enrol {
    subject: String,
    code: String,
    #[serde(default)]
    password: Option<String>,
    csr: String,
}

fn braked(api: &Api, subject: &str, peer: &Peer) -> Result<(), Problem> {
    api.throttle()
        .admit(subject, &peer.source.to_string(), now().0)
        .map_err(|wait| Problem::new(StatusCode::TOO_MANY_REQUESTS, wait.to_string()))
}

fn request(csr: &str) -> Result<VerifiedCsr, Problem> {
    VerifiedCsr::from_pem(csr).map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

/// What a stranger is told whose code opens nothing, whether or not there is such a subject.
fn no_code() -> Problem {
    Problem::unproven("no enrolment code fits; check subject and code, and that it is not older than a day")
        .next("ask a lifecycle owner for a new code: `onus invite SUBJECT`")
}

pub(crate) async fn enrol(
    Of(api): Of<Arc<Api>>,
    peer: Peer,
    Body(Enrol { subject, code, password, csr }): Body<Enrol>,
) -> Result<Json<Value>, Problem> {
    braked(&api, &subject, &peer)?;
    // What is wrong with the request itself is said before the code is used up.
    let (asked, csr) = (csr.clone(), request(&csr)?);
    let name = SubjectId::parse(&subject).map_err(|_| no_code())?;
    let password = password
        .map(|text| NewPassword::parse(text.clone().into()).map(|new| (new, text)))
        .transpose()
        .map_err(|refused| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, refused.to_string()))?;
    let gateway = &api.gateway;
    let stored = secret(gateway, CODE, &name, Vault::fetch).await?;
    let invitation = |bytes: &[u8]| serde_json::from_slice::<Invitation>(bytes).ok();
    let found = stored.as_ref().and_then(|bytes| invitation(bytes)).ok_or_else(no_code)?;
    match found.code.clone().redeem(&code, now().0) {
        Ok(redeemed) if redeemed.subject().as_str() == name.as_str() => {}
        Err(CodeRefused::Malformed) => {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, CodeRefused::Malformed.to_string()));
        }
        Ok(_) | Err(_) => return Err(no_code()),
    }
    let kind = gateway.shared().state().estate.subjects.get(&name).map(|subject| subject.kind).ok_or_else(no_code)?;
    if kind == SubjectKind::Human && password.is_none() {
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "a person needs a password besides the key")
            .next("enrol with a password of at least 12 characters"));
    }
    // COMMIT POINT: of all who present this code at once, one gets it.
    let taken = secret(gateway, CODE, &name, Vault::take).await?;
    if taken.as_ref().and_then(|bytes| invitation(bytes)).as_ref() != Some(&found) {
        return Err(no_code());
    }
    let text = match password {
        Some((new, text)) => {
            let hash = api.hashing(move || new.hash()).await?;
            let hash = hash.map_err(|fault| Problem::unavailable("the password could not be hashed", &fault))?;
            put(gateway, PASSWORD, &name, hash.as_phc().as_bytes().to_vec()).await?;
            Some(text)
        }
        None => {
            // A workload that had a password has none from here on.
            secret(gateway, PASSWORD, &name, Vault::take).await?;
            None
        }
    };
    let command = Command::EnrollKey { subject: name.clone(), key: csr.fingerprint().to_string() };
    match gateway.give(command, found.by.clone()).await {
        Ok(_) | Err(ControlError::Refused(Refusal::NothingToDo)) => {}
        Err(error) => {
            // Nothing was enrolled, so the code is still good.
            if let Some(bytes) = &taken {
                put(gateway, CODE, &name, bytes.clone()).await?;
            }
            return Err(error.into());
        }
    }
    let certificate = certify(&api, &name, text, csr).await?;
    api.throttle().passed(&subject, &peer.source.to_string());
    Ok(Json(shown(&api, &certificate, &asked).await))
}

#[derive(Deserialize)]
pub(crate) struct Login {
    subject: String,
    #[serde(default)]
    password: Option<String>,
    csr: String,
}

pub(crate) async fn login(
    Of(api): Of<Arc<Api>>,
    peer: Peer,
    Body(Login { subject, password, csr }): Body<Login>,
) -> Result<Json<Value>, Problem> {
    braked(&api, &subject, &peer)?;
    if password.as_ref().is_some_and(|text| text.len() > MAX_PASSWORD_BYTES) {
        return Err(Problem::unproven(REFUSED));
    }
    let (asked, csr) = (csr.clone(), request(&csr)?);
    let name = SubjectId::parse(&subject).map_err(|_| Problem::unproven(REFUSED))?;
    let certificate = certify(&api, &name, password, csr).await?;
    api.throttle().passed(&subject, &peer.source.to_string());
    Ok(Json(shown(&api, &certificate, &asked).await))
}

/// Applies the login rule to what is stored, and certifies the key if it passes.
async fn certify(
    api: &Api,
    subject: &SubjectId,
    password: Option<String>,
    csr: VerifiedCsr,
) -> Result<ClientCertificate, Problem> {
    let gateway = &api.gateway;
    let hash = secret(gateway, PASSWORD, subject, Vault::fetch).await?;
    let stored = stored_login(gateway, subject, hash.as_deref());
    let passed = api.hashing(move || apply_login(stored.as_ref(), password.as_deref(), csr)).await?;
    let passed = passed.map_err(|refused| {
        tracing::info!(%subject, %refused, "login refused");
        Problem::unproven(REFUSED).next("a new code comes from a lifecycle owner: `onus invite SUBJECT`")
    })?;
    let serial = Serial::random().map_err(|fault| Problem::unavailable("no serial could be drawn", &fault))?;
    gateway
        .ca
        .issue_client(passed, now().0, gateway.settings.certificate_lifetime.0, serial)
        .map_err(|fault| Problem::unavailable("no certificate could be issued", &fault))
}

/// The stored record of a subject; `None` also where a person has no password that can be checked: nobody logs in
/// with less than is asked of them.
fn stored_login(gateway: &Gateway, subject: &SubjectId, hash: Option<&[u8]>) -> Option<StoredLogin> {
    let state = gateway.shared().state();
    let declared = state.estate.subjects.get(subject)?;
    let hash = hash.and_then(|bytes| std::str::from_utf8(bytes).ok()).and_then(|phc| PasswordHash::parse(phc).ok());
    let second = match (declared.kind, hash) {
        (_, Some(hash)) => SecondProof::Password(hash),
        (SubjectKind::Human, None) => return None,
        (SubjectKind::Workload | SubjectKind::Agent, None) => SecondProof::KeyAlone,
    };
    let keys = state.standing.get(subject).map(|standing| standing.keys.clone()).unwrap_or_default();
    Some(StoredLogin {
        subject: SubjectName::parse(subject.as_str()).ok()?,
        second,
        enrolled_keys: keys.iter().filter_map(|key| KeyFingerprint::parse(key).ok()).collect(),
        standing: if state.in_good_standing(subject) { Standing::Active } else { Standing::Inactive },
    })
}

/// What a subject gets: its certificate, and one over the same key for SSH. Without the latter a login is still one.
async fn shown(api: &Api, certificate: &ClientCertificate, csr_pem: &str) -> Value {
    let mut answer = ssh::door(api);
    if let Some(line) = ssh::public_line(csr_pem, &certificate.fingerprint) {
        answer["ssh_public_key"] = line.clone().into();
        let (subject, voucher) = (certificate.subject.clone(), certificate.fingerprint.clone());
        let until = certificate.not_after_ms;
        let made =
            blocking(&api.gateway, move |gateway| gateway.ssh_login_certificate(&subject, &line, &voucher, until))
                .await;
        match made {
            Ok(Ok(ssh_certificate)) => answer["ssh_certificate"] = ssh_certificate.into(),
            Ok(Err(fault)) => tracing::error!(%fault, "the key of a login could not be certified for SSH"),
            Err(problem) => {
                tracing::error!(problem = problem.error, "the key of a login could not be certified for SSH")
            }
        }
    }
    let plain = json!({
        "subject": certificate.subject.as_str(),
        "certificate": certificate.cert_pem,
        "ca": api.gateway.ca.cert_pem(),
        "not_after": certificate.not_after_ms,
        "key": certificate.fingerprint.as_str(),
        "ledger": api.gateway.ledger_key(),
    });
    if let (Some(answer), Value::Object(plain)) = (answer.as_object_mut(), plain) {
        answer.extend(plain);
    }
    answer
}

/// The authority's certificate; who fetches it without trust compares its fingerprint.
pub(crate) async fn ca(Of(api): Of<Arc<Api>>) -> String {
    api.gateway.ca.cert_pem()
}

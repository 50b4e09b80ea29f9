//! The gateway as one value: what the listeners and the API share, started and stopped in order.

use crate::control::{Appended, Control, ControlError, Shared, StartError, now};
use crate::door::{self, ClientCertificate, TlsError};
use crate::journal::Journals;
use crate::pg::CancelKeys;
use crate::policy::{PolicyTexts, Shelf, owners};
use crate::registry::ToSession;
use crate::ssh::keys::{SshKeys, SshKeysError};
use crate::upstream::Admins;
use crate::vault::Vault;
use onus_authn::ca::CertificateAuthority;
use onus_authn::seal::Sealer;
use onus_core::codec;
use onus_core::command::{Command, handle};
use onus_core::event::{Actor, EndReason, Entry};
use onus_core::ids::SessionId;
use onus_core::operation::Durability;
use onus_core::time::{Millis, Timestamp};
use onus_journal::SessionKey;
use onus_ledger::SigningKey;
use onus_policy::PolicyProblem;
use onus_store::{Entry as Stored, LedgerStore, SignedCheckpoint, StoreFault, VaultStore};
use rustls::ServerConfig;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What can be set about a gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory; journals go below it.
    pub data: PathBuf,
    /// The gateway's own name, for the ledger.
    pub name: String,
    /// Host names and addresses that its certificates are for.
    pub public_names: Vec<String>,
    /// How long a subject's login lasts.
    pub certificate_lifetime: Millis,
    /// The least that any journal record must reach before it counts.
    pub durability: Durability,
    /// Sessions at one time, over all protocols.
    pub max_sessions: usize,
    /// Command schemas besides those that are shipped: file names and TOML texts.
    pub commands: Vec<(String, String)>,
}

/// The gateway's own keys.
pub struct Keys {
    /// Makes server and client certificates.
    pub ca: CertificateAuthority,
    /// Seals the vault.
    pub sealer: Sealer,
    /// Journal keys are derived from it.
    pub journal: Zeroizing<[u8; 32]>,
    /// Signs checkpoints.
    pub ledger: SigningKey,
}

/// Where the gateway keeps what it keeps.
pub struct Stores {
    /// The ledger, for the control loop.
    pub ledger: Box<dyn LedgerStore>,
    /// A second handle on the ledger, for reading.
    pub reader: Box<dyn LedgerStore>,
    /// The vault.
    pub vault: Box<dyn VaultStore>,
}

/// Why a gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The control loop.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The folder of journals.
    #[error("cannot open the folder of journals")]
    Journals(#[source] io::Error),
    /// The policy set in force can't be loaded.
    #[error("the policy set in force cannot be loaded: {0}")]
    Policy(String),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A command schema.
    #[error("the command schemas cannot be used: {0}")]
    Commands(#[from] onus_shell::SchemaError),
    /// The SSH keys.
    #[error("the SSH keys cannot be had")]
    Ssh(#[from] SshKeysError),
    /// The ledger can't be read.
    #[error("cannot read the ledger")]
    Store(#[from] StoreFault),
}

/// Why a policy set was not activated.
#[derive(Debug, thiserror::Error)]
pub enum ActivateError {
    /// It has problems; all of them.
    #[error("the policy set has {} problems and was not activated", .0.len())]
    Problems(Vec<PolicyProblem>),
    /// It was turned down or could not be stored.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Its texts could not be stored.
    #[error("the policy set's texts could not be stored")]
    Store(#[from] StoreFault),
}

/// A running gateway.
pub struct Gateway {
    /// What can be set about it.
    pub settings: Settings,
    /// Its authority.
    pub ca: CertificateAuthority,
    /// Sealed secrets.
    pub vault: Vault,
    /// Its SSH authorities and host key.
    pub ssh: SshKeys,
    /// Journals.
    pub journals: Journals,
    pub(crate) shell: Arc<onus_shell::Shell>,
    pub(crate) control: Control,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) admins: Admins,
    pub(crate) cancel_keys: CancelKeys,
    pub(crate) slots: Arc<tokio::sync::Semaphore>,
    pub(crate) texts: Arc<onus_pg::classifier::TextCache>,
    reader: Mutex<Box<dyn LedgerStore>>,
    ledger_key: String,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Gateway {
    /// Folds the ledger, loads the policy set in force and notes the start. Sessions that an earlier life left open are
    /// ended and their credentials revoked, in the background. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When anything that decisions depend on can't be had; a gateway does not start half.
    pub async fn start(settings: Settings, keys: Keys, stores: Stores) -> Result<Arc<Self>, GatewayError> {
        let journals = Journals::open(&settings.data.join("journals"), keys.journal, settings.durability)
            .map_err(GatewayError::Journals)?;
        let ledger_key = keys.ledger.verifier().to_vkey();
        let (control, thread) = Control::start(stores.ledger, keys.ledger)?;
        let vault = Vault::new(stores.vault, Arc::new(keys.sealer));
        let ssh = SshKeys::open(&vault, &settings.public_names)?;
        let mut schemas = onus_shell::Schemas::shipped();
        for (file, text) in &settings.commands {
            schemas.extend_from(file, text)?;
        }
        let gateway = Arc::new(Self {
            shell: Arc::new(onus_shell::Shell::new(Arc::new(schemas))),
            ca: keys.ca,
            ssh,
            vault,
            journals,
            control,
            shelf: Arc::new(Shelf::default()),
            admins: Admins::default(),
            cancel_keys: CancelKeys::default(),
            slots: Arc::new(tokio::sync::Semaphore::new(settings.max_sessions)),
            texts: Arc::new(onus_pg::classifier::TextCache::new(crate::pg::hash_seed(), crate::pg::TEXT_CACHE_BYTES)),
            reader: Mutex::new(stores.reader),
            ledger_key,
            thread: Mutex::new(Some(thread)),
            settings,
        });
        gateway.load_policy()?;
        let started = Command::StartGateway {
            gateway: gateway.settings.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        gateway
            .give(started, gateway.actor())
            .await
            .map_err(|error| GatewayError::Policy(format!("the start could not be noted: {error}")))?;
        crate::recovery::begin(&gateway);
        Ok(gateway)
    }

    /// The gateway as an actor.
    pub fn actor(&self) -> Actor {
        Actor::Gateway(self.settings.name.clone())
    }

    /// Puts the policy set in force on the shelf, from its stored texts.
    fn load_policy(&self) -> Result<(), GatewayError> {
        let Some(policy) = self.shared().state().policy.clone() else {
            return Ok(());
        };
        let wrong = |what: &str| GatewayError::Policy(what.to_owned());
        let digest: [u8; 32] =
            hex::decode(&policy.blob).ok().and_then(|d| d.try_into().ok()).ok_or_else(|| wrong("no digest"))?;
        let blob = self.reader().blob(digest)?.ok_or_else(|| wrong("its texts are not in the store"))?;
        let texts: PolicyTexts = serde_json::from_slice(&blob).map_err(|_| wrong("its texts are not text"))?;
        if texts.digest() != digest {
            return Err(wrong("its texts were changed"));
        }
        // Owners may have left since it was activated: that is judged per session, and must not stop the gateway.
        let set = texts.load().map_err(|problems| {
            GatewayError::Policy(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        if set.digest() != policy.digest {
            return Err(wrong("its digest is another than the ledger's"));
        }
        self.shelf.put(Arc::new(set));
        Ok(())
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Box<dyn LedgerStore>> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives one command and waits until it is durable.
    ///
    /// # Errors
    /// See [`Control::give`].
    pub async fn give(&self, command: Command, by: Actor) -> Result<Vec<Appended>, ControlError> {
        self.control.give(vec![command], by).await
    }

    /// What everybody may read.
    pub fn shared(&self) -> &Arc<Shared> {
        self.control.shared()
    }

    /// The ledger's verifier key (C2SP vkey).
    pub fn ledger_key(&self) -> &str {
        &self.ledger_key
    }

    /// Validates a policy set, stores its texts and puts it in force.
    ///
    /// # Errors
    /// All problems with file and line; or the refusal.
    pub async fn activate_policy(&self, texts: PolicyTexts, by: Actor) -> Result<Vec<Appended>, ActivateError> {
        let texts = texts.known_to(&self.shared().state());
        let set = texts.load().map_err(ActivateError::Problems)?;
        let blob = texts.digest();
        let (digest, policies) = (set.digest().to_owned(), owners(&set));
        let activate = Command::ActivatePolicy { digest, blob: hex::encode(blob), policies };
        // Asked beforehand, so that whoever may not activate a set can't fill shelf and store with some.
        handle(&self.shared().state(), activate.clone(), &by, now()).map_err(ControlError::from)?;
        self.reader().put_blob(blob, &texts.to_bytes())?;
        // On the shelf first: sessions look it up the moment that the event is in the ledger.
        self.shelf.put(Arc::new(set));
        let activated = self.give(activate, by).await;
        let in_force = self.shared().state().policy.as_ref().map(|policy| policy.digest.clone());
        self.shelf.tidy(in_force.as_deref().unwrap_or_default());
        Ok(activated?)
    }

    /// Checks a policy set without putting it in force.
    ///
    /// # Errors
    /// All problems with file and line.
    pub fn check_policy(&self, texts: PolicyTexts) -> Result<onus_policy::PolicySet, Vec<PolicyProblem>> {
        texts.known_to(&self.shared().state()).load()
    }

    /// Ledger entries from a position on. Blocks on the store.
    ///
    /// # Errors
    /// When the store can't be read or an entry can't be understood.
    pub fn entries(&self, from: u64, max: usize) -> Result<Vec<(u64, Entry)>, StartError> {
        let stored = self.reader().read(from, max)?;
        (from..)
            .zip(stored)
            .map(|(position, stored)| match codec::decode(&stored.bytes) {
                Ok(entry) => Ok((position, entry)),
                Err(source) => Err(StartError::Entry { position, source }),
            })
            .collect()
    }

    /// Stored entries from a position on. Blocks on the store.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn stored(&self, from: u64, max: usize) -> Result<Vec<Stored>, StoreFault> {
        self.reader().read(from, max)
    }

    /// Signed checkpoints, in published order. Blocks on the store.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn checkpoints(&self) -> Result<Vec<SignedCheckpoint>, StoreFault> {
        self.reader().checkpoints(0)
    }

    /// A blob by its SHA-256. Blocks on the store.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn blob(&self, digest: [u8; 32]) -> Result<Option<Vec<u8>>, StoreFault> {
        self.reader().blob(digest)
    }

    /// A session's segments, in order.
    ///
    /// # Errors
    /// When there is no such journal.
    pub fn journal_segments(&self, session: &SessionId) -> io::Result<Vec<PathBuf>> {
        self.journals.segments(session)
    }

    /// The key that opens a session's journal.
    pub fn journal_key(&self, session: &SessionId) -> SessionKey {
        self.journals.key(session)
    }

    /// TLS for a door: see [`door::server_tls`].
    ///
    /// # Errors
    /// When the certificate can't be made.
    pub fn server_tls(&self, alpn: &[&[u8]], client: ClientCertificate) -> Result<Arc<ServerConfig>, TlsError> {
        const TEN_YEARS_MS: u64 = 10 * 365 * 86_400_000;
        // No longer than its authority: clients check both.
        let lifetime = TEN_YEARS_MS.min(self.ca.not_after_ms().saturating_sub(now().0));
        door::server_tls(&self.ca, &self.settings.public_names, now().0, lifetime, alpn, client)
    }

    /// Ends every session in order and waits for them, at most as long as given. Then the control loop ends with the
    /// last owner of this value.
    pub async fn shut_down(&self, at_most: Duration) {
        let began = Instant::now();
        for live in self.shared().registry.live().values() {
            let _ = live.mailbox.send(ToSession::End(EndReason::GatewayStopped, None));
        }
        while began.elapsed() < at_most {
            if self.shared().registry.live().is_empty() && self.shared().state().credentials.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.control.stop();
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        now()
    }
}

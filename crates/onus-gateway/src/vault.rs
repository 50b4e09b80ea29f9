//! The vault: sealed secrets and other things that are not for the ledger.
//!
//! Values are sealed before they reach the store and opened after they leave it; the store sees neither.

use onus_authn::seal::Sealer;
use onus_store::{StoreFault, VaultStore};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// Why a secret can't be had or kept.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store failed.
    #[error("the vault is not available")]
    Store(#[from] StoreFault),
    /// What is stored does not open: another seal key, or it was changed.
    #[error("the secret `{kind}/{name}` does not open with this gateway's seal key")]
    Sealed {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Sealed secrets by kind and name. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    store: Arc<Mutex<Box<dyn VaultStore>>>,
    sealer: Arc<Sealer>,
}

impl Vault {
    /// A vault over a store, sealed with this key.
    pub fn new(store: Box<dyn VaultStore>, sealer: Arc<Sealer>) -> Self {
        Self { store: Arc::new(Mutex::new(store)), sealer }
    }

    fn store(&self) -> MutexGuard<'_, Box<dyn VaultStore>> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, kind: &str, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.sealer
            .open(kind, name, sealed)
            .map_err(|_| VaultError::Sealed { kind: kind.to_owned(), name: name.to_owned() })
    }

    /// Keeps a secret. Blocks on the store.
    ///
    /// # Errors
    /// When it can't be sealed or stored.
    pub fn put(&self, kind: &str, name: &str, secret: &[u8]) -> Result<(), VaultError> {
        let sealed = self
            .sealer
            .seal(kind, name, secret)
            .map_err(|_| VaultError::Sealed { kind: kind.to_owned(), name: name.to_owned() })?;
        Ok(self.store().put(kind, name, &sealed)?)
    }

    /// A secret, if there is one. Blocks on the store.
    ///
    /// # Errors
    /// When the store fails or the value does not open.
    pub fn fetch(&self, kind: &str, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let sealed = self.store().fetch(kind, name)?;
        sealed.map(|sealed| self.open(kind, name, &sealed)).transpose()
    }

    /// A secret that can be had once: it is gone afterwards. Blocks on the store.
    ///
    /// # Errors
    /// When the store fails or the value does not open.
    pub fn take(&self, kind: &str, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let sealed = self.store().take(kind, name)?;
        sealed.map(|sealed| self.open(kind, name, &sealed)).transpose()
    }

    /// Throws a secret away; whether there was one. Blocks on the store.
    ///
    /// # Errors
    /// When the store fails.
    pub fn remove(&self, kind: &str, name: &str) -> Result<bool, VaultError> {
        Ok(self.store().remove(kind, name)?)
    }

    /// Names of a kind, sorted. Blocks on the store.
    ///
    /// # Errors
    /// When the store fails.
    pub fn names(&self, kind: &str) -> Result<Vec<String>, VaultError> {
        Ok(self.store().names(kind)?)
    }
}

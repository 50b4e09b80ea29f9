//! The gateway's data directory as `onus init` makes it and `onus serve` takes it up.
//!
//! ```text
//! DIR/              0700
//!   onus.db         ledger, blobs, vault
//!   gateway.json    the gateway's name and the names in its certificates
//!   keys/           0700: ca.key ca.pem ca.fingerprint ledger.key ledger.vkey seal.key journal.key, each 0600
//!   journals/       one folder a session
//! ```

use crate::home::replace;
use crate::show::Failure;
use onus_authn::ca::CertificateAuthority;
use onus_authn::seal::Sealer;
use onus_gateway::Keys;
use onus_ledger::{KeyName, SigningKey, VerifierKey};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// `gateway.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayFile {
    /// The gateway's own name, for the ledger.
    pub name: String,
    /// Host names and addresses that its certificates are for.
    pub public_names: Vec<String>,
}

/// Makes a folder that only its owner can enter.
///
/// # Errors
/// When it can't be made.
pub fn private_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|fault| Failure::caused(format!("cannot make `{}`", path.display()), &fault))
}

/// Writes a key file.
///
/// # Errors
/// When it can't be written.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    replace(path, text.as_bytes())
        .map_err(|fault| Failure::caused(format!("cannot write `{}`", path.display()), &fault))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|fault| Failure::caused(format!("cannot read `{}`", path.display()), &fault))
}

fn seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let text = read(path)?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), seed.as_mut())
        .map_err(|_| Failure::new(format!("`{}` does not hold 64 hex digits", path.display())))?;
    Ok(seed)
}

/// Reads `gateway.json`.
///
/// # Errors
/// When it is missing (the next step is said) or makes no sense.
pub fn gateway_file(data: &Path) -> Result<GatewayFile, Failure> {
    let path = data.join("gateway.json");
    let text = read(&path).map_err(|failure| failure.next(format!("onus init --data {}", data.display())))?;
    serde_json::from_str(&text).map_err(|fault| Failure::caused(format!("`{}`", path.display()), &fault))
}

/// Reads all keys. A folder that others can enter is refused.
///
/// # Errors
/// When one is missing, broken, or readable by others.
pub fn keys(data: &Path) -> Result<Keys, Failure> {
    let folder = data.join("keys");
    for name in ["ca.key", "ledger.key", "seal.key", "journal.key"] {
        let path = folder.join(name);
        let mode = fs::metadata(&path).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!("`{}` can be read by others", path.display()))
                .next(format!("chmod 600 {}", path.display())));
        }
    }
    let ca = CertificateAuthority::from_pem(&read(&folder.join("ca.key"))?, &read(&folder.join("ca.pem"))?)
        .map_err(|fault| Failure::caused("the certificate authority can't be taken up", &fault))?;
    let vkey = read(&folder.join("ledger.vkey"))?;
    let verifier = VerifierKey::parse(vkey.trim())
        .map_err(|fault| Failure::caused(format!("`{}`", folder.join("ledger.vkey").display()), &fault))?;
    let ledger_seed = seed(&folder.join("ledger.key"))?;
    let ledger = SigningKey::from_seed(verifier.name().clone(), &ledger_seed);
    if ledger.verifier().to_vkey() != vkey.trim() {
        return Err(Failure::new("ledger.key and ledger.vkey do not belong together"));
    }
    let sealer = Sealer::new(&seed(&folder.join("seal.key"))?);
    Ok(Keys { ca, sealer, journal: seed(&folder.join("journal.key"))?, ledger })
}

/// Draws 32 random bytes.
///
/// # Errors
/// When the operating system has none.
pub fn random_seed() -> Result<Zeroizing<[u8; 32]>, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|fault| Failure::new(format!("no randomness: {fault}")))?;
    Ok(bytes)
}

/// A ledger key under this name.
///
/// # Errors
/// When the name can't stand in a signed note.
pub fn ledger_key(name: &str, seed: &[u8; 32]) -> Result<SigningKey, Failure> {
    let name = KeyName::new(name).map_err(|fault| Failure::caused("the ledger's name", &fault))?;
    Ok(SigningKey::from_seed(name, seed))
}

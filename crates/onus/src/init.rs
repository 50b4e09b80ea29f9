//! `onus init`: a data directory with its keys. It never overwrites one.

use crate::data::{GatewayFile, ledger_key, private_folder, random_seed, write};
use crate::show::{Failure, Outcome};
use anstream::println;
use clap::Args;
use onus_authn::ca::CertificateAuthority;
use onus_store_sql::SqliteStore;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes a gateway's data directory: an empty ledger, a vault, and keys.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus init --data /var/lib/onus
  onus init --data /var/lib/onus --name onus.example.org --name 10.0.0.7

What it prints last is what clients need: the authority's fingerprint, to enrol, and the ledger's public key, to verify.")]
pub struct InitArgs {
    /// The directory; made if need be, and refused if it holds a gateway already.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A host name or address at which clients reach this gateway; the first also names gateway and ledger.
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    name: Vec<String>,
}

/// The authority's fingerprint as `onus enroll --ca-fingerprint` takes it.
pub fn fingerprint(ca_der: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(ca_der)))
}

/// Runs it.
///
/// # Errors
/// When the directory holds a gateway, or can't be written.
pub fn run(args: &InitArgs) -> Outcome {
    let InitArgs { data, name } = args;
    let keys = data.join("keys");
    if keys.exists() || data.join("onus.db").exists() {
        return Err(Failure::new(format!("`{}` holds a gateway already; nothing was changed", data.display()))
            .next(format!("onus serve --data {}", data.display())));
    }
    let first = name.first().cloned().unwrap_or_else(|| "localhost".to_owned());
    let mut public_names = name.clone();
    if public_names == ["localhost"] {
        public_names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    let now = onus_gateway::now().0;
    let ca = CertificateAuthority::generate(&format!("Onus {first}").chars().take(64).collect::<String>(), now)
        .map_err(|fault| Failure::caused("no certificate authority could be made", &fault))?;
    // Fails now rather than at the first start, if a name can't stand in a certificate.
    ca.issue_server(&public_names, now, 60_000).map_err(|fault| Failure::caused("--name", &fault))?;
    let ledger_seed = random_seed()?;
    let ledger = ledger_key(&format!("{first}/onus"), &ledger_seed)?;
    let vkey = ledger.verifier().to_vkey();
    private_folder(data)?;
    private_folder(&keys)?;
    write(&keys.join("ca.key"), ca.key_pem())?;
    write(&keys.join("ca.pem"), &ca.cert_pem())?;
    write(&keys.join("ca.fingerprint"), &format!("{}\n", fingerprint(ca.cert_der())))?;
    write(&keys.join("ledger.key"), &hex::encode(*ledger_seed))?;
    write(&keys.join("ledger.vkey"), &format!("{vkey}\n"))?;
    write(&keys.join("seal.key"), &hex::encode(*random_seed()?))?;
    write(&keys.join("journal.key"), &hex::encode(*random_seed()?))?;
    let file = GatewayFile { name: first, public_names };
    write(
        &data.join("gateway.json"),
        &serde_json::to_string_pretty(&file).expect("plain data can be written as JSON"),
    )?;
    SqliteStore::open(data.join("onus.db")).map_err(|fault| Failure::caused("the store could not be made", &fault))?;
    println!("data directory  {}", data.display());
    println!("ledger key      {vkey}");
    println!("ca fingerprint  {}", fingerprint(ca.cert_der()));
    println!("\nKeep a copy of `{}` where this machine's disk is not: without it nothing opens.", keys.display());
    println!("next: onus serve --data {} --bootstrap ESTATE_DIR", data.display());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_init_changes_nothing_and_the_keys_are_private_and_load() {
        let dir = tempfile::tempdir().unwrap();
        let args = InitArgs { data: dir.path().join("d"), name: vec!["localhost".into()] };
        assert!(run(&args).is_ok());
        let key = args.data.join("keys/seal.key");
        let before = std::fs::read(&key).unwrap();
        assert!(run(&args).is_err());
        assert_eq!(std::fs::read(&key).unwrap(), before);
        for name in ["ca.key", "ledger.key", "seal.key", "journal.key"] {
            let mode = std::fs::metadata(args.data.join("keys").join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert!(crate::data::keys(&args.data).is_ok());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(crate::data::keys(&args.data).is_err(), "others can read the seal key");
    }
}

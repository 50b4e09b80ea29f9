//! A throw-away certificate authority and one server certificate, by the `openssl` program. Deliberately not a crate:
//! what the tests trust should not be made by the code that is tested.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{KitError, run};

/// Files in PEM, valid for two days. The keys are readable by their owner only.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The authority's certificate: what a client trusts.
    pub ca: PathBuf,
    /// The authority's key, for tests that need another certificate.
    pub ca_key: PathBuf,
    /// The server's certificate, signed by the authority; ECDSA P-256 with SHA-256, so that SCRAM channel binding
    /// (`tls-server-end-point`, RFC 5929) hashes with SHA-256.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
}

/// Makes them in `dir` for `names`: DNS names, or IP addresses as they are.
///
/// An authority and a leaf rather than one self-signed certificate, because strict verifiers refuse an authority's
/// certificate as a server's.
pub fn make(dir: &Path, names: &[&str]) -> Result<Certificates, KitError> {
    let files = Certificates {
        ca: dir.join("ca.pem"),
        ca_key: dir.join("ca.key"),
        server: dir.join("server.pem"),
        server_key: dir.join("server.key"),
    };
    let alternatives: Vec<String> = names
        .iter()
        .map(|name| match name.parse::<std::net::IpAddr>() {
            Ok(_) => format!("IP:{name}"),
            Err(_) => format!("DNS:{name}"),
        })
        .collect();
    let extensions = dir.join("server.ext");
    let text = format!(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName={}\n",
        alternatives.join(",")
    );
    std::fs::write(&extensions, text).map_err(KitError::file("write", &extensions))?;
    let request = dir.join("server.csr");

    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"];
    openssl()
        .args(["req", "-x509", "-days", "2", "-subj", "/CN=onus-testkit authority"])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        .args(key)
        .arg("-keyout")
        .arg(&files.ca_key)
        .arg("-out")
        .arg(&files.ca)
        .done("openssl req, for the authority")?;
    openssl()
        .args(["req", "-subj", "/CN=onus-testkit server"])
        .args(key)
        .arg("-keyout")
        .arg(&files.server_key)
        .arg("-out")
        .arg(&request)
        .done("openssl req, for the server")?;
    openssl()
        .args(["x509", "-req", "-days", "2", "-sha256", "-set_serial", "1000"])
        .arg("-in")
        .arg(&request)
        .arg("-CA")
        .arg(&files.ca)
        .arg("-CAkey")
        .arg(&files.ca_key)
        .arg("-extfile")
        .arg(&extensions)
        .arg("-out")
        .arg(&files.server)
        .done("openssl x509")?;
    for key in [&files.ca_key, &files.server_key] {
        set_mode(key, 0o600)?;
    }
    Ok(files)
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), KitError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(KitError::file("set the permissions of", path))
}

fn openssl() -> Command {
    Command::new("openssl")
}

trait Done {
    fn done(&mut self, name: &str) -> Result<(), KitError>;
}

impl Done for Command {
    fn done(&mut self, name: &str) -> Result<(), KitError> {
        run::output(name, self).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leaf_is_signed_by_the_authority_and_names_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let files = make(dir.path(), &["localhost", "127.0.0.1"]).unwrap();
        let verify = |host: [&str; 2]| {
            run::output(
                "openssl verify",
                openssl()
                    .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
                    .arg(&files.ca)
                    .args(host)
                    .arg(&files.server),
            )
        };
        verify(["-verify_ip", "127.0.0.1"]).unwrap();
        verify(["-verify_hostname", "localhost"]).unwrap();
        verify(["-verify_hostname", "elsewhere"]).unwrap_err();
    }
}

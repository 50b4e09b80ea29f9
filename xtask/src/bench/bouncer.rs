//! pgbouncer to compare with: session mode, TLS towards the client, SCRAM both ways, none towards the server, as the
//! gateway has it here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use onus_testkit::proc::Running;
use onus_testkit::{Cluster, KitError, port, run, tls};

use super::field::{CLIENT, PASSWORD};
use crate::step::Failure;

/// A running pgbouncer. Its folder goes with it.
pub struct Bouncer {
    /// Its process.
    pub process: Running,
    /// Its port.
    pub port: u16,
    _folder: tempfile::TempDir,
}

/// Where pgbouncer is: Debian's place is not on everybody's `PATH`.
pub fn program() -> PathBuf {
    run::find("pgbouncer").unwrap_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"))
}

impl Bouncer {
    /// Starts one in front of the cluster, as the cluster's own user: it refuses to run as root.
    pub fn start(cluster: &Cluster) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new()
            .prefix("onus-bench-")
            .tempdir_in("/tmp")
            .map_err(|source| KitError::File { action: "make a folder in", path: "/tmp".into(), source })?;
        let dir = folder.path();
        let certificates = tls::make(dir, &["localhost", "127.0.0.1"])?;
        let port = port::free()?;
        let users = format!("\"{CLIENT}\" \"{PASSWORD}\"\n");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users_file}\npool_mode = session\n\
             default_pool_size = 500\nmax_client_conn = 2000\nclient_tls_sslmode = require\nserver_tls_sslmode = disable\n\
             client_tls_key_file = {key}\nclient_tls_cert_file = {cert}\nlog_connections = 0\nlog_disconnections = 0\n\
             ignore_startup_parameters = extra_float_digits\n",
            cluster.port(),
            users_file = dir.join("users").display(),
            key = certificates.server_key.display(),
            cert = certificates.server.display(),
        );
        write(&dir.join("users"), &users)?;
        write(&dir.join("pgbouncer.ini"), &settings)?;
        let mut command = Command::new(program());
        command.arg(dir.join("pgbouncer.ini")).current_dir(dir);
        if run::is_root() {
            let account = fs::metadata(format!("/proc/{}", cluster.pid().unwrap_or(0)))
                .map_err(|source| KitError::File { action: "find the user of", path: "the cluster".into(), source })?;
            give(dir, account.uid(), account.gid())?;
            command.uid(account.uid()).gid(account.gid());
        }
        let process = Running::spawn("pgbouncer", &mut command)?;
        process.wait_for("process up", Duration::from_secs(10))?;
        Ok(Self { process, port, _folder: folder })
    }
}

fn write(path: &Path, text: &str) -> Result<(), KitError> {
    let failed = |source| KitError::File { action: "write", path: path.to_owned(), source };
    fs::write(path, text).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)
}

fn give(dir: &Path, uid: u32, gid: u32) -> Result<(), KitError> {
    let failed = |source| KitError::File { action: "give away", path: dir.to_owned(), source };
    for entry in fs::read_dir(dir).map_err(failed)? {
        chown(entry.map_err(failed)?.path(), Some(uid), Some(gid)).map_err(failed)?;
    }
    chown(dir, Some(uid), Some(gid)).map_err(failed)
}

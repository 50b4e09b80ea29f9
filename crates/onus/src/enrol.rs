//! Becoming a subject at this machine: enrol, log in, and see who one is; and letting others in.

use crate::client::{Client, still_logged_in};
use crate::home::{Config, Home, secret};
use crate::init::fingerprint;
use crate::show::{Failure, Outcome, ahead, json, moment, text};
use crate::ssh;
use anstream::println;
use clap::Args;
use onus_authn::csr::ClientKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json as object};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Enrols this machine's key for a subject, with a code from `onus invite`.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus enroll alice --server https://localhost:7443 --ca-fingerprint sha256:3f…
  onus enroll billing-job --server https://onus.example.org:7443 --ca-fingerprint sha256:3f… --code-file code --no-password

The fingerprint is printed by `onus init` and `onus serve`; get it from whoever runs the gateway, not from the network.
Secrets are asked for at the terminal or read from files, and never taken as arguments.")]
pub struct EnrollArgs {
    /// The subject, as the estate declares it.
    subject: String,
    /// The gateway's API.
    #[arg(long, value_name = "https://HOST:PORT")]
    server: String,
    /// SHA-256 of the gateway's authority.
    #[arg(long, value_name = "sha256:HEX")]
    ca_fingerprint: String,
    /// Read the code from this file (`-`: standard input).
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
    /// Read the password from this file (`-`: standard input).
    #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
    password_file: Option<PathBuf>,
    /// A workload or agent: its key is all that it holds.
    #[arg(long)]
    no_password: bool,
}

/// Logs in: a new short-lived certificate for this machine's key.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus login
  onus login --password-file /run/secrets/alice
  With a key in hardware besides:  onus login --ssh-key ~/.ssh/id_ed25519_sk.pub
  A workload, in a timer:  onus login --no-password")]
pub struct LoginArgs {
    /// Read the password from this file (`-`: standard input).
    #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
    password_file: Option<PathBuf>,
    /// A workload or agent: its key is all that it holds.
    #[arg(long)]
    no_password: bool,
    /// Certify this SSH key too, on this machine's word; the certificate is written beside it. While the login lasts
    /// nothing else is asked for.
    #[arg(long, value_name = "FILE.pub")]
    ssh_key: Option<PathBuf>,
}

/// Shows who the gateway takes this client for.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES\n  onus whoami\n  onus whoami --json")]
pub struct WhoamiArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Makes an enrolment code for a subject; it is shown once and good for a day.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus invite alice
  onus invite billing-job --json | jq -r .code > code

Administrators may, and the lifecycle plane's owner for anybody who is no administrator. The key that the code enrols is
recorded in the name of whoever gave the code out.")]
pub struct InviteArgs {
    /// Whom to let in.
    subject: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn password(file: Option<&Path>, none: bool, prompt: &str) -> Result<Option<String>, Failure> {
    if none { Ok(None) } else { Ok(Some(secret(file, prompt)?.to_string())) }
}

/// Enrols.
///
/// # Errors
/// When the authority is another one, or the gateway refuses.
pub fn enroll(home: &Home, args: &EnrollArgs) -> Outcome {
    let server = args.server.trim_end_matches('/');
    let ca = Client::trusting_anybody(server)?.text("/v1/ca")?;
    pinned(&ca, &args.ca_fingerprint)?;
    let code = secret(args.code_file.as_deref(), "enrolment code")?;
    let password = match (&args.password_file, args.no_password) {
        (None, false) => {
            let first = secret(None, "new password (at least 12 characters)")?;
            if *first != *secret(None, "again")? {
                return Err(Failure::new("the two passwords differ"));
            }
            Some(first.to_string())
        }
        (file, none) => password(file.as_deref(), none, "")?,
    };
    // A key of its own for every enrolment: an old one may have been copied.
    let key = ClientKey::generate().map_err(|fault| Failure::caused("no key could be made", &fault))?;
    let csr = key.csr_pem().map_err(|fault| Failure::caused("no request could be made", &fault))?;
    let asked = object!({"subject": args.subject, "code": code.as_str(), "password": password, "csr": csr});
    let answer = Client::stranger(server, &ca)?.post("/v1/enroll", &asked)?;
    home.write("client.key", &key.key_pem())?;
    home.write("ca.pem", &ca)?;
    let config = Config {
        server: server.to_owned(),
        subject: args.subject.clone(),
        not_after: 0,
        ledger: answer["ledger"].as_str().unwrap_or_default().to_owned(),
    };
    keep(home, config, &answer)?;
    println!("enrolled as {}, logged in for {}", args.subject, ahead(&answer["not_after"]));
    println!("next: onus resource list");
    Ok(ExitCode::SUCCESS)
}

/// Whether this is the authority that was named.
fn pinned(ca_pem: &str, expected: &str) -> Result<(), Failure> {
    let der = CertificateDer::from_pem_slice(ca_pem.as_bytes())
        .map_err(|_| Failure::new("what answers there is no Onus gateway: it shows no certificate authority"))?;
    let found = fingerprint(&der);
    if found == expected.trim().to_ascii_lowercase() {
        return Ok(());
    }
    Err(Failure::new(format!("the gateway's authority is {found}, not {expected}"))
        .next("check the fingerprint with whoever runs the gateway; somebody may be in between"))
}

/// Keeps a new certificate.
fn keep(home: &Home, mut config: Config, answer: &Value) -> Result<(), Failure> {
    let certificate = answer["certificate"].as_str().ok_or_else(|| Failure::new("the gateway gave no certificate"))?;
    home.write("client.pem", certificate)?;
    ssh::keep(home, answer)?;
    config.not_after = answer["not_after"].as_u64().unwrap_or(0);
    home.set_config(&config)
}

/// Logs in.
///
/// # Errors
/// When nobody has enrolled here, or the gateway refuses.
pub fn login(home: &Home, args: &LoginArgs) -> Outcome {
    let config = home.config()?;
    if let Some(key) = args.ssh_key.as_deref().filter(|_| still_logged_in(&config).is_ok()) {
        println!("{}", ssh::certify(home, key)?.display());
        return Ok(ExitCode::SUCCESS);
    }
    let key = ClientKey::from_pem(&home.key()?)
        .map_err(|fault| Failure::caused("this machine's key can't be read", &fault).next("onus enroll"))?;
    let csr = key.csr_pem().map_err(|fault| Failure::caused("no request could be made", &fault))?;
    let prompt = format!("password of {}", config.subject);
    let password = password(args.password_file.as_deref(), args.no_password, &prompt)?;
    let asked = object!({"subject": config.subject, "password": password, "csr": csr});
    let answer = Client::stranger(&config.server, &home.read("ca.pem")?)?.post("/v1/login", &asked)?;
    if !config.ledger.is_empty() && answer["ledger"] != config.ledger {
        return Err(Failure::new("the gateway's ledger has another key than when this client enrolled")
            .next("ask whoever runs it; a ledger never changes its key by itself"));
    }
    keep(home, config, &answer)?;
    println!("logged in until {}", moment(&answer["not_after"]));
    if let Some(key) = &args.ssh_key {
        println!("{}", ssh::certify(home, key)?.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows who one is.
///
/// # Errors
/// What the gateway says.
pub fn whoami(home: &Home, args: &WhoamiArgs) -> Outcome {
    let me = Client::of(home)?.get("/v1/whoami")?;
    if args.json {
        return Ok(json(&me));
    }
    println!("{} ({})", text(&me["subject"]), text(&me["kind"]));
    println!("  party         {}", text(&me["party"]));
    println!("  teams         {}", text(&me["teams"]));
    println!("  planes        {}", text(&me["planes"]));
    println!("  administrator {}", text(&me["administrator"]));
    println!("  risk          {}", text(&me["risk"]));
    println!("  logged in for {}", ahead(&me["not_after"]));
    Ok(ExitCode::SUCCESS)
}

/// Makes a code.
///
/// # Errors
/// What the gateway says.
pub fn invite(home: &Home, args: &InviteArgs) -> Outcome {
    let answer = Client::of(home)?.post("/v1/invite", &object!({"subject": args.subject}))?;
    if args.json {
        return Ok(json(&answer));
    }
    println!("{}", text(&answer["code"]));
    anstream::eprintln!("good until {}; give it to {} alone", moment(&answer["expires"]), text(&answer["subject"]));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onus_authn::ca::CertificateAuthority;

    #[test]
    fn only_the_named_authority_is_pinned() {
        let now = 1_790_000_000_000;
        let (ours, theirs) =
            (CertificateAuthority::generate("a", now).unwrap(), CertificateAuthority::generate("a", now).unwrap());
        let expected = fingerprint(ours.cert_der());
        assert!(pinned(&ours.cert_pem(), &expected.to_uppercase().replace("SHA256", "sha256")).is_ok());
        assert!(pinned(&theirs.cert_pem(), &expected).is_err());
        assert!(pinned("no certificate", &expected).is_err());
        // A chain that begins with ours and goes on with theirs pins ours; whatever follows is not looked at.
        assert!(pinned(&format!("{}{}", theirs.cert_pem(), ours.cert_pem()), &expected).is_err());
    }
}

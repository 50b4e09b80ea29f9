//! SSH with the client that one already uses: what it needs to know of the gateway, as a configuration file, as options
//! of one call, and as what a host must have.
//!
//! No secret is handed over: the client proves who it is by this machine's own key and a short certificate.

use crate::client::{Client, still_logged_in};
use crate::home::{Home, replace};
use crate::show::{Failure, Outcome, items, json, text};
use anstream::{eprintln, println};
use clap::Args;
use serde_json::{Value, json as object};
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Files in the home folder.
const CERTIFICATE: &str = "client-cert.pub";
const PUBLIC_KEY: &str = "client.key.pub";
const KNOWN_HOSTS: &str = "known_hosts";
const CONFIG: &str = "ssh_config";
/// Where a host keeps the authority that it is to trust.
const CA_FILE: &str = "/etc/ssh/onus_session_ca.pub";

/// Prints, or writes, an OpenSSH client configuration by which `ssh RESOURCE` goes through the gateway.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus ssh-config --write && ssh web-1
  onus ssh-config --host-pattern 'onus-*' | tee -a ~/.ssh/config

scp, sftp, rsync, git and ansible read the same file. A role, where several are granted: `ssh ROLE.RESOURCE`.")]
pub struct SshConfigArgs {
    /// Write it to ssh_config in the home folder, and say how to include it.
    #[arg(long)]
    write: bool,
    /// What hosts are called; `*` stands for the resource.
    #[arg(long, value_name = "PATTERN", default_value = "*", value_parser = pattern)]
    host_pattern: String,
}

fn pattern(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-*".contains(c);
    match text.matches('*').count() {
        1 if text.chars().all(plain) && !text.starts_with('-') => Ok(text.to_owned()),
        _ => Err("write letters, digits, . _ - and one `*` for the resource".to_owned()),
    }
}

/// What is to be set up on a host, so that it can be reached through the gateway and by nothing else.
#[derive(Debug, Args)]
#[command(after_help = "\
EXAMPLES
  onus resource bootstrap web-1
  onus resource bootstrap web-1 --forwarding --json | jq -r .sshd_config

It changes nothing: it prints what to put where. The account's own start-up files run before anything that the gateway
sends, so who can write them is part of it.")]
pub struct BootstrapArgs {
    /// The resource.
    resource: String,
    /// Some role may forward ports.
    #[arg(long)]
    forwarding: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The gateway's SSH door, as the client must know it.
struct Door {
    host: String,
    port: String,
    /// The name that the gateway's host certificate is for.
    alias: String,
}

impl Door {
    fn of(client: &Client) -> Result<Self, Failure> {
        Self::read(&client.get("/v1/ssh")?)
    }

    fn read(answer: &Value) -> Result<Self, Failure> {
        let address = answer["ssh"].as_str().ok_or_else(|| Failure::new("this gateway has no SSH door"))?;
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "22"));
        let host = host.trim_matches(['[', ']']).to_owned();
        let alias = items(answer, "ssh_hosts").first().and_then(Value::as_str).unwrap_or(&host).to_owned();
        for word in [host.as_str(), port, alias.as_str()] {
            // It becomes part of a configuration that names programs to run.
            let plain = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
            if word.is_empty() || word.starts_with('-') || !word.chars().all(plain) {
                return Err(Failure::new(format!("the gateway names itself `{word}`, which is no host")));
            }
        }
        Ok(Self { host, port: port.to_owned(), alias })
    }
}

/// Keeps what the gateway gave for SSH: the certificate over this machine's key, and whose word its own key has.
///
/// # Errors
/// When a file can't be written.
pub fn keep(home: &Home, answer: &Value) -> Result<(), Failure> {
    if let Some(certificate) = answer["ssh_certificate"].as_str() {
        home.write(CERTIFICATE, &format!("{}\n", certificate.trim_end()))?;
    }
    // Beside the private key: without it OpenSSH does not see that key and certificate belong together.
    if let Some(line) = answer["ssh_public_key"].as_str() {
        home.write(PUBLIC_KEY, &format!("{}\n", line.trim_end()))?;
    }
    if let Some(line) = known_hosts(answer) {
        home.write(KNOWN_HOSTS, &line)?;
    }
    Ok(())
}

/// The `known_hosts` line for the gateway: any key is its own that this authority certified for one of its names.
fn known_hosts(answer: &Value) -> Option<String> {
    let authority = answer["ssh_host_ca"].as_str().map(str::trim).filter(|line| !line.contains(['\n', '\r']))?;
    let plain = |name: &&str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || ".:-_".contains(c))
            && !name.starts_with('-')
    };
    let names: Vec<&str> = items(answer, "ssh_hosts").iter().filter_map(Value::as_str).filter(plain).collect();
    let patterns: Vec<String> = names.iter().map(|name| format!("{name},[{name}]:*")).collect();
    let patterns = if patterns.is_empty() { "*".to_owned() } else { patterns.join(",") };
    Some(format!("@cert-authority {patterns} {authority}\n"))
}

/// Certifies another key, such as one in hardware, and writes the certificate where OpenSSH looks for it.
///
/// # Errors
/// When the file is no public key, or the gateway refuses.
pub fn certify(home: &Home, public: &Path) -> Result<PathBuf, Failure> {
    let name = public.to_string_lossy();
    let Some(stem) = name.strip_suffix(".pub").filter(|stem| !stem.ends_with("-cert")) else {
        return Err(Failure::usage(format!("`{name}` is not a public key's file; it ends in .pub")));
    };
    let key =
        std::fs::read_to_string(public).map_err(|fault| Failure::caused(format!("cannot read `{name}`"), &fault))?;
    let answer = Client::of(home)?.post("/v1/ssh/certificate", &object!({"public_key": key.trim()}))?;
    let certificate =
        answer["ssh_certificate"].as_str().ok_or_else(|| Failure::new("the gateway gave no certificate"))?;
    let beside = PathBuf::from(format!("{stem}-cert.pub"));
    replace(&beside, format!("{}\n", certificate.trim_end()).as_bytes())
        .map_err(|fault| Failure::caused(format!("cannot write `{}`", beside.display()), &fault))?;
    if let Some(line) = known_hosts(&answer) {
        home.write(KNOWN_HOSTS, &line)?;
    }
    Ok(beside)
}

/// A path as OpenSSH's configuration takes it: quoted, and without anything that would be expanded.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_string_lossy();
    if text.contains(['"', '\n', '\r']) || text.contains("${") {
        return Err(Failure::new(format!("OpenSSH can't be told the path `{text}`")).next("use another --home"));
    }
    Ok(format!("\"{}\"", text.replace('%', "%%")))
}

/// Whom to log in as. `+` and not `%`, which newer clients expand in a configuration.
fn user(subject: &str, role: Option<&str>, resource: &str) -> String {
    match role {
        Some(role) => format!("{subject}:{role}+{resource}"),
        None => format!("{subject}+{resource}"),
    }
}

/// The options by which a client reaches the gateway, apart from the user.
fn options(home: &Home, door: &Door) -> Result<Vec<(&'static str, String)>, Failure> {
    Ok(vec![
        ("HostName", door.host.clone()),
        ("Port", door.port.clone()),
        ("IdentityFile", quoted(&home.path("client.key"))?),
        ("CertificateFile", quoted(&home.path(CERTIFICATE))?),
        ("IdentitiesOnly", "yes".to_owned()),
        ("UserKnownHostsFile", quoted(&home.path(KNOWN_HOSTS))?),
        ("GlobalKnownHostsFile", "none".to_owned()),
        ("StrictHostKeyChecking", "yes".to_owned()),
        ("HostKeyAlias", door.alias.clone()),
        ("PreferredAuthentications", "publickey".to_owned()),
    ])
}

/// Runs `onus ssh-config`.
///
/// # Errors
/// What the gateway says; a file that can't be written.
pub fn config(home: &Home, args: &SshConfigArgs) -> Outcome {
    let subject = home.config()?.subject;
    let client = Client::of(home)?;
    let (door, answer) = (Door::of(&client)?, client.get("/v1/resources")?);
    let written = hosts(home, &subject, &door, &answer, &args.host_pattern)?;
    if !args.write {
        anstream::print!("{written}");
        return Ok(ExitCode::SUCCESS);
    }
    home.write(CONFIG, &written)?;
    println!("{}", home.path(CONFIG).display());
    eprintln!("put this line at the top of ~/.ssh/config, once:\n  Include {}", quoted(&home.path(CONFIG))?);
    Ok(ExitCode::SUCCESS)
}

fn hosts(home: &Home, subject: &str, door: &Door, answer: &Value, pattern: &str) -> Result<String, Failure> {
    let mut out = String::from("# Made by `onus ssh-config`; made anew, it replaces what is here.\n");
    let options = options(home, door)?;
    let mut block = |host: &str, user: &str, comment: &str| {
        out.push_str(&format!("\n# {comment}\nHost {host}\n    User {user}\n"));
        options.iter().for_each(|(name, value)| out.push_str(&format!("    {name} {value}\n")));
    };
    for resource in items(answer, "resources").iter().filter(|resource| resource["protocol"] == "ssh") {
        let Some(name) = resource["resource"].as_str() else { continue };
        let host = pattern.replace('*', name);
        // A name is letters, digits and . _ - @ /: in a pattern none of them means anything, but ssh takes what
        // follows an `@` for the host, and a first `-` for an option.
        if host.starts_with('-') || host.contains(['@', '/']) {
            continue;
        }
        let roles = items(resource, "roles");
        let names: Vec<&str> = roles.iter().filter_map(|role| role["role"].as_str()).collect();
        let held = roles.iter().filter(|role| !role["granted_until"].is_null()).count();
        let comment = match (names.is_empty(), held) {
            (true, _) => "no role is offered here".to_owned(),
            (false, 0) => format!("request one with `onus request {name} --role …`: {}", names.join(", ")),
            (false, _) => format!("roles: {}", names.join(", ")),
        };
        block(&host, &user(subject, None, name), &comment);
        for role in roles {
            let Some(role_name) =
                role["role"].as_str().filter(|name| !name.contains(['@', '/']) && !name.starts_with('-'))
            else {
                continue;
            };
            let raw = role["shell"] == "raw";
            let comment = if raw { "observed: recorded, not prevented" } else { "mediated" };
            block(&format!("{role_name}.{host}"), &user(subject, Some(role_name), name), comment);
        }
    }
    Ok(out)
}

/// Runs ssh on a resource in place of this process.
///
/// # Errors
/// When the login is over, or there is no ssh.
pub fn connect(home: &Home, resource: &str, role: Option<&str>, further: &[String]) -> Outcome {
    let config = home.config()?;
    still_logged_in(&config)?;
    home.key()?;
    home.read(CERTIFICATE)
        .map_err(|_| Failure::new("there is no SSH certificate for this machine's key").next("onus login"))?;
    let door = Door::of(&Client::of(home)?)?;
    let mut ssh = Command::new("ssh");
    for (name, value) in options(home, &door)? {
        ssh.arg("-o").arg(format!("{name}={value}"));
    }
    ssh.arg("-l").arg(user(&config.subject, role, resource));
    // Options first, then the host, then what is to run: ssh takes everything behind the host for the command.
    let (flags, command) = divided(further);
    ssh.args(flags).arg("--").arg(&door.host).args(command);
    let fault = ssh.exec();
    Err(Failure::caused("ssh can't be run", &fault).next("install it, or use another client with `onus ssh-config`"))
}

/// Divides what is given to ssh into its options and a command. Options that take a value are known by their letter.
fn divided(further: &[String]) -> (&[String], &[String]) {
    const WITH_VALUE: &str = "BbcDEeFIiJLlmOoPpQRSWw";
    let mut at = 0;
    while let Some(word) = further.get(at) {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else { break };
        if letters == "-" {
            return (&further[..at], &further[at + 1..]);
        }
        // `-vp 22`: a letter with a value ends the bundle, and its value is the rest or the next word.
        let value = letters.find(|letter| WITH_VALUE.contains(letter));
        at += if value == Some(letters.len() - 1) { 2 } else { 1 };
    }
    further.split_at(at.min(further.len()))
}

/// Runs `onus resource bootstrap`.
///
/// # Errors
/// What the gateway says; when there is no such SSH resource.
pub fn bootstrap(home: &Home, args: &BootstrapArgs) -> Outcome {
    let client = Client::of(home)?;
    let (authorities, answer) = (client.get("/v1/ssh")?, client.get("/v1/resources")?);
    let resource =
        items(&answer, "resources").iter().find(|resource| resource["resource"] == args.resource.as_str()).ok_or_else(
            || Failure::new(format!("there is no resource `{}`", args.resource)).next("onus resource list"),
        )?;
    if resource["protocol"] != "ssh" {
        return Err(Failure::new(format!(
            "`{}` is reached by {}, not by ssh",
            args.resource,
            text(&resource["protocol"])
        )));
    }
    let set_up = SetUp::of(resource, &authorities, args.forwarding)?;
    if args.json {
        return Ok(json(&set_up.json()));
    }
    anstream::print!("{}", set_up.told());
    Ok(ExitCode::SUCCESS)
}

/// What a host needs.
struct SetUp {
    resource: String,
    /// `None` where the caller may not see it.
    address: Option<(String, String)>,
    accounts: BTreeSet<String>,
    authority: String,
    sshd: String,
}

impl SetUp {
    fn of(resource: &Value, authorities: &Value, forwarding: bool) -> Result<Self, Failure> {
        let setting = |name: &str| resource["settings"][name][0].as_str().map(str::to_owned);
        let authority = authorities["ssh_session_ca"]
            .as_str()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty() && !line.contains(['\n', '\r']))
            .ok_or_else(|| Failure::new("the gateway gave no authority for sessions"))?;
        let logins = items(resource, "roles").iter().filter_map(|role| role["login"].as_str().map(str::to_owned));
        let mut accounts: BTreeSet<String> = logins.chain(setting("login")).collect();
        accounts.retain(|account| account.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)));
        let matched = match accounts.len() {
            0 => "ACCOUNT".to_owned(),
            _ => accounts.iter().cloned().collect::<Vec<_>>().join(","),
        };
        let forward = if forwarding { "yes" } else { "no" };
        let sshd = format!(
            "\
# Nothing in the client's environment may steer what runs: also remove every AcceptEnv line elsewhere
# (distributions ship one), for it can't be taken back here.
PermitUserEnvironment no

# The accounts that the gateway uses, and nobody else. A certificate is good for the account that it names, as long as
# no AuthorizedPrincipalsFile is set: leave that out (inside a Match, `none` would be taken for a file of that name).
Match User {matched}
    TrustedUserCAKeys {CA_FILE}
    AuthorizedKeysFile none
    AuthenticationMethods publickey
    PasswordAuthentication no
    KbdInteractiveAuthentication no
    AllowTcpForwarding {forward}
    AllowStreamLocalForwarding no
    AllowAgentForwarding no
    X11Forwarding no
    PermitTunnel no
    PermitUserRC no
    PermitTTY yes
Match all
"
        );
        let address = setting("address").map(|address| match address.rsplit_once(':') {
            Some((host, port)) => (host.trim_matches(['[', ']']).to_owned(), port.to_owned()),
            None => (address, "22".to_owned()),
        });
        Ok(Self { resource: text(&resource["resource"]), address, accounts, authority, sshd })
    }

    fn keyscan(&self) -> String {
        match &self.address {
            Some((host, port)) => format!("ssh-keyscan -t ed25519 -p {port} {host}"),
            None => "ssh-keyscan -t ed25519 HOST".to_owned(),
        }
    }

    fn account_commands(&self) -> Vec<String> {
        let accounts =
            if self.accounts.is_empty() { BTreeSet::from(["ACCOUNT".to_owned()]) } else { self.accounts.clone() };
        accounts
            .iter()
            // Whoever takes root's password and shell away may lock themself out of the host.
            .filter(|account| *account != "root")
            .flat_map(|account| {
                [
                    format!("usermod --shell /bin/dash {account}"),
                    // No password, but not locked either: sshd may refuse a locked account whatever it shows.
                    format!("usermod --password '*' {account}"),
                    format!("rm -f ~{account}/.ssh/authorized_keys ~{account}/.ssh/environment ~{account}/.ssh/rc"),
                ]
            })
            .collect()
    }

    fn firewall(&self) -> String {
        let port = self.address.as_ref().map_or("22", |(_, port)| port.as_str());
        format!("let nothing but the gateway reach port {port}: whoever else can is not seen by it")
    }

    fn json(&self) -> Value {
        object!({
            "resource": self.resource, "accounts": self.accounts,
            "session_ca": self.authority, "session_ca_file": CA_FILE,
            "sshd_config": self.sshd, "account_commands": self.account_commands(), "firewall": self.firewall(),
            "host_key": {"on_the_host": "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub", "from_here": self.keyscan(),
                         "setting": "host_keys"},
        })
    }

    fn told(&self) -> String {
        let commands: String = self.account_commands().iter().map(|command| format!("   {command}\n")).collect();
        let sshd: String = self
            .sshd
            .lines()
            .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("   {line}\n") })
            .collect();
        format!(
            "\
On the host of {}, as root:

1. The authority whose certificates it takes, as {CA_FILE}:

   {}

2. /etc/ssh/sshd_config.d/10-onus.conf, then `sshd -t && systemctl reload ssh`:

{sshd}
3. The accounts. What bash, zsh or fish read at their start (~/.bashrc, ~/.zshenv) runs before anything that the gateway
   sends, and whoever can write it runs what they like: dash reads nothing.

{commands}
   For root itself, make sure first that there is another way in. If it must be bash: let root own the home directory
   and its start-up files, and nobody else write them.

4. The firewall: {}.

5. The host's own key. Read it on the host, not over the network:

   ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub

   compare it with what comes over the network:

   {}

   and pin it in the estate, under `{}`:

   settings: {{ host_keys: [\"ssh-ed25519 AAAA…\"] }}    # or its SHA256:… fingerprint
",
            self.resource,
            self.authority,
            self.firewall(),
            self.keyscan(),
            self.resource
        )
    }
}

/// The protocol of a resource, by the gateway's word.
///
/// # Errors
/// When it does not say, or there is no such resource.
pub fn protocol(client: &Client, resource: &str) -> Result<String, Failure> {
    let answer = client.get("/v1/resources")?;
    let found = items(&answer, "resources").iter().find(|one| one["resource"] == resource);
    found.map(|one| text(&one["protocol"])).ok_or_else(|| {
        Failure::new(format!("there is no resource `{resource}`; `onus resource list` shows what there is"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home::find(Some("/h/a b%c".into())).unwrap()
    }

    fn door() -> Value {
        object!({"ssh": "onus.example.org:2222", "ssh_hosts": ["onus.example.org", "10.0.0.1"],
                 "ssh_host_ca": "ssh-ed25519 AAAA onus\n", "ssh_session_ca": "ssh-ed25519 BBBB onus"})
    }

    fn web() -> Value {
        object!({"resource": "web-1", "protocol": "ssh", "settings": {"address": ["10.0.0.7:2200"], "login": ["deploy"]},
            "roles": [{"role": "log-reader", "granted_until": 5, "shell": "governed"},
                      {"role": "root-shell", "granted_until": null, "shell": "raw", "login": "root"}]})
    }

    #[test]
    fn the_authority_is_believed_for_the_gateways_names_only() {
        assert_eq!(
            known_hosts(&door()).unwrap(),
            "@cert-authority onus.example.org,[onus.example.org]:*,10.0.0.1,[10.0.0.1]:* ssh-ed25519 AAAA onus\n"
        );
        let mut evil = door();
        evil["ssh_host_ca"] = object!("ssh-ed25519 AAAA\n* ssh-ed25519 EVIL");
        assert_eq!(known_hosts(&evil), None);
        evil = door();
        evil["ssh_hosts"] = object!(["a *", "b"]);
        assert!(known_hosts(&evil).unwrap().starts_with("@cert-authority b,[b]:* "));
    }

    #[test]
    fn a_host_block_for_each_resource_and_role() {
        let answer = object!({"resources": [web(), {"resource": "orders-db", "protocol": "postgresql", "roles": []},
            {"resource": "-oProxyCommand=x", "protocol": "ssh", "roles": []}]});
        let text = hosts(&home(), "alice", &Door::read(&door()).unwrap(), &answer, "on-*").unwrap();
        assert!(text.contains("\n# roles: log-reader, root-shell\nHost on-web-1\n    User alice+web-1\n"), "{text}");
        assert!(text.contains(
            "\n# observed: recorded, not prevented\nHost root-shell.on-web-1\n    User alice:root-shell+web-1\n"
        ));
        assert!(
            text.contains("    IdentityFile \"/h/a b%%c/client.key\"\n")
                && text.contains("    HostKeyAlias onus.example.org\n")
        );
        assert!(!text.contains("orders-db"));
        let text = hosts(&home(), "alice", &Door::read(&door()).unwrap(), &answer, "*").unwrap();
        assert!(!text.contains("Host -o"), "{text}");
        assert!(pattern("x").is_err() && pattern("* y").is_err() && pattern("-*").is_err() && pattern("on-*").is_ok());
    }

    #[test]
    fn a_gateway_that_names_itself_oddly_gets_no_line_of_its_own() {
        for wrong in ["-oProxyCommand=x:22", "a b:22", "h\n    ProxyCommand x:22", ":22"] {
            let mut answer = door();
            answer["ssh"] = object!(wrong);
            assert!(Door::read(&answer).is_err(), "{wrong}");
        }
        assert!(quoted(Path::new("/a\"b")).is_err() && quoted(Path::new("/${HOME}")).is_err());
    }

    #[test]
    fn options_stand_before_the_host_and_a_command_behind_it() {
        let divide = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (flags, command) = divided(&words);
            (flags.join(" "), command.join(" "))
        };
        let of = |flags: &str, command: &str| (flags.to_owned(), command.to_owned());
        assert_eq!(divide(&["-v", "-L", "1:h:2", "-N"]), of("-v -L 1:h:2 -N", ""));
        assert_eq!(divide(&["-vL1:h:2", "uptime", "-p"]), of("-vL1:h:2", "uptime -p"));
        assert_eq!(divide(&["-tt", "--", "-x"]), of("-tt", "-x"));
        assert_eq!(divide(&["-L"]), of("-L", ""));
    }

    #[test]
    fn what_a_host_needs_is_said_whole() {
        let told = SetUp::of(&web(), &door(), false).unwrap();
        let text = told.told();
        for part in [
            "ssh-ed25519 BBBB onus",
            "Match User deploy,root",
            "TrustedUserCAKeys /etc/ssh/onus_session_ca.pub",
            "AllowTcpForwarding no",
            "usermod --password '*' deploy",
            "PermitUserRC no",
            "AuthorizedKeysFile none",
            "PermitUserEnvironment no",
            "AcceptEnv",
            "usermod --shell /bin/dash deploy",
            "ssh-keyscan -t ed25519 -p 2200 10.0.0.7",
            "host_keys",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        // Inside a Match `none` names a file, and every certificate would be refused.
        assert!(!told.sshd.lines().any(|line| line.trim_start().starts_with("AuthorizedPrincipalsFile")));
        assert!(!text.contains("--shell /bin/dash root"), "nobody is to be locked out of the host");
        assert!(!text.contains("AAAA onus"), "the authority of the gateway's own door is no host's business");
        assert!(SetUp::of(&web(), &door(), true).unwrap().sshd.contains("AllowTcpForwarding yes"));
        assert_eq!(told.json()["accounts"], object!(["deploy", "root"]));
    }
}

//! The gateway as one of the ways to the yard's target: an Onus of its own, whose one SSH resource is that server.

use std::path::Path;

use onus_testkit::gateway::{ESTATE, text_field};
use onus_testkit::{KitError, Rig, RigOptions};

use super::ssh_yard::{Route, Yard};
use crate::step::Failure;

/// The role that is measured: it may do everything, so that what is measured is what runs.
const POLICY: &str = r#"
@id("bench-ssh")
@role("bench-ssh")
@owner("petra")
@plane("elevation")
@unlocks("opaque, observed")
@why("a bench")
permit (principal == ?principal, action, resource == ?resource);
"#;

/// A gateway before the yard's target.
pub struct Before {
    rig: Rig,
}

impl Before {
    /// Starts it and has a grant made.
    pub fn start(onus: &Path, yard: &Yard) -> Result<Self, Failure> {
        eprintln!("── a gateway before the SSH server");
        let target = yard.target();
        let key: String = target.host_keys()[0].public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let resource = format!(
            "  bench-ssh:\n    service: orders\n    protocol: ssh\n    settings:\n      address: 127.0.0.1:{}\n      \
             host_keys: [\"{key}\"]\n      credential: stored-key\n      login: {}\n",
            target.port(),
            target.user()
        );
        let role = "  bench-ssh: { owner: petra, why: a bench, resources: [bench-ssh], max_for: 2h, approvers: \
                    [data-platform], shell: raw }\n";
        let mut estate = ESTATE.to_owned();
        for (after, more) in [("resources:\n", resource.as_str()), ("roles:\n", role)] {
            estate = estate.replacen(after, &format!("{after}{more}"), 1);
        }
        let mut policies = super::field::default_policies()?;
        policies.insert("bench-ssh.cedar".to_owned(), POLICY.to_owned());
        let options = RigOptions { estate: Some(estate), policies: Some(policies), ..RigOptions::default() };
        let rig = Rig::start(onus, options)?;
        let private = yard.key().private.display().to_string();
        rig.ok(
            "root-admin",
            &["secret", "set", "bench-ssh/ssh", "--user", target.user(), "--password-file", &private],
        )?;
        let asked = rig.ok(
            "alice",
            &["request", "bench-ssh", "--role", "bench-ssh", "--purpose", "INC-1: a bench", "--for", "2h", "--json"],
        )?;
        let request = text_field(&asked, "request")
            .ok_or(KitError::Unexpected { what: "the answer of onus request", text: asked.clone() })?;
        rig.ok("bob", &["approve", &request])?;
        Ok(Self { rig })
    }

    /// The way through it.
    pub fn route(&self) -> Route {
        let home = |name: &str| self.rig.home("alice").join(name).display().to_string();
        let options = [
            format!("IdentityFile={}", home("client.key")),
            format!("CertificateFile={}", home("client-cert.pub")),
            format!("UserKnownHostsFile={}", home("known_hosts")),
            "HostKeyAlias=localhost".to_owned(),
            "IdentitiesOnly=yes".to_owned(),
        ];
        let options: Vec<&str> = options.iter().flat_map(|option| ["-o", option.as_str()]).collect();
        let middle = [self.rig.serve.pid()];
        Route::to(("onus", "onus"), ("127.0.0.1", self.rig.ssh_port), "alice+bench-ssh", &options, &middle)
    }

    /// Bytes of journals on disk, for what recording costs.
    pub fn journal_bytes(&self) -> u64 {
        fn below(folder: &Path) -> u64 {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .map(|entry| match entry.metadata() {
                    Ok(found) if found.is_dir() => below(&entry.path()),
                    Ok(found) => found.len(),
                    Err(_) => 0,
                })
                .sum()
        }
        below(&self.rig.data().join("journals"))
    }
}

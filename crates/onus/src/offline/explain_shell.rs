//! `onus explain shell`: what a command line does, what would be sent in its place, and what would be decided about it,
//! by exactly the gateway's code.
//!
//! It runs nothing and connects to nothing. Each line is explained as the first of a fresh session: in the home
//! directory, with no variables.

use super::explain::{Asked, MAX_LINE_BYTES, Problems, decision, known_role, moment, next_line};
use super::policy_dir;
use super::shown::{brief, one_line};
use super::{FAILED, finish};
use clap::Args;
use onus_core::decision::{Decision, judge};
use onus_core::ids::{ResourceId, RoleId, SubjectId};
use onus_core::operation::{Class, Operation};
use onus_policy::PolicySet;
use onus_policy::cases::USUAL_MOMENT;
use onus_shell::{Reading, Scene, Schemas, Shell};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Shows what a command line does, what would be sent in its place, and what policy says, without running it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  What does this line do?
    onus explain shell 'grep -r error /var/log | tail -n 5'
  What would be decided about it for a log reader?
    onus explain shell --policy policies --role log-reader 'cat /etc/shadow'
  With a schema for a program of one's own:
    onus explain shell --schemas ours.toml 'deployctl status'
  One line a line, one answer a line, in the same order:
    printf '%s\\n' '\"uptime\"' '{\"id\":7,\"line\":\"rm -r /\",\"role\":\"log-reader\"}' | \\
      onus explain shell --policy policies --jsonl

EXIT STATUS
  0  everything was read (whatever was decided)
  1  the policies, the schemas or the input could not be read
  2  the command line makes no sense")]
pub struct ExplainShellArgs {
    /// The line; `-` or nothing reads it from standard input.
    #[arg(value_name = "LINE")]
    pub line: Option<String>,
    /// Decide by the policies in this directory; without it, lines are only read.
    #[arg(long, value_name = "DIR")]
    pub policy: Option<PathBuf>,
    /// Check the policies' owners against this estate.
    #[arg(long, value_name = "DIR", requires = "policy")]
    pub estate: Option<PathBuf>,
    /// Decide under this role.
    #[arg(long, value_name = "ROLE", default_value = "log-reader")]
    pub role: String,
    /// Decide under each role that the policies define, instead of one.
    #[arg(long, requires = "policy")]
    pub all_roles: bool,
    /// Read one text a line: a JSON string, or an object with `line` (or `text`, `payload`) and, where it differs from
    /// the options, `id`, `role`, `at`, `risk`, `resource`, `subject`, `cwd`.
    #[arg(long, conflicts_with = "line")]
    pub jsonl: bool,
    /// Print JSON instead of text (with --jsonl that is always so).
    #[arg(long)]
    pub json: bool,
    /// Schemas of further programs, TOML; each replaces a shipped one of the same name. May be repeated.
    #[arg(long, value_name = "FILE")]
    pub schemas: Vec<PathBuf>,
    /// Read it as typed in this directory, from `/` or `~`.
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// The account's home directory, where it is known.
    #[arg(long, value_name = "DIR")]
    pub home_directory: Option<String>,
    /// The account.
    #[arg(long, value_name = "LOGIN")]
    pub login: Option<String>,
    /// Decide as of this moment, UTC.
    #[arg(long, value_name = "RFC3339", default_value = USUAL_MOMENT)]
    pub at: String,
    /// Decide for a subject in this risk band, 0 to 4.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    pub risk: u8,
    /// Decide on this resource.
    #[arg(long, value_name = "R", default_value = "web-1")]
    pub resource: String,
    /// Decide for this subject.
    #[arg(long, value_name = "S", default_value = "alice")]
    pub subject: String,
}

/// Runs the command on standard input and output.
pub fn run(args: &ExplainShellArgs) -> ExitCode {
    finish(answer(args, &mut io::stdin().lock(), &mut BufWriter::new(io::stdout().lock())))
}

fn answer(args: &ExplainShellArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<u8> {
    let explainer = match Explainer::new(args) {
        Ok(explainer) => explainer,
        Err(problems) => {
            problems.lines.iter().for_each(|problem| eprintln!("onus: {problem}"));
            return Ok(problems.status);
        }
    };
    if args.jsonl {
        return explainer.lines(input, out);
    }
    let mut line = Vec::new();
    match args.line.as_deref() {
        Some("-") | None => {
            input.read_to_end(&mut line)?;
            // Its end is how it was handed over, and no part of it.
            if line.last() == Some(&b'\n') {
                line.pop();
            }
        }
        Some(text) => line.extend_from_slice(text.as_bytes()),
    }
    let answer = match explainer.explain(&line, &explainer.asked, &explainer.scene) {
        Ok(answer) => answer,
        Err(problem) => {
            eprintln!("onus: {problem}");
            return Ok(FAILED);
        }
    };
    if args.json {
        serde_json::to_writer(&mut *out, &answer.json())?;
        writeln!(out)?;
    } else {
        answer.print(out)?;
    }
    out.flush()?;
    Ok(0)
}

struct Explainer {
    set: Option<PolicySet>,
    all_roles: bool,
    shell: Shell,
    scene: Scene,
    asked: Asked,
}

impl Explainer {
    fn new(args: &ExplainShellArgs) -> Result<Self, Problems> {
        let named = |what: &str, error: onus_core::ids::IdError| Problems::usage(format!("--{what}: {error}"));
        let asked = Asked {
            role: RoleId::parse(&args.role).map_err(|e| named("role", e))?,
            at: moment(&args.at).map_err(|e| Problems::usage(format!("--at: {e}")))?,
            risk: args.risk,
            database: String::new(),
            resource: ResourceId::parse(&args.resource).map_err(|e| named("resource", e))?,
            subject: SubjectId::parse(&args.subject).map_err(|e| named("subject", e))?,
        };
        let set = match &args.policy {
            Some(dir) => Some(policy_dir::load(dir, args.estate.as_deref()).map_err(Problems::failed)?.set),
            None => None,
        };
        if let Some(set) = &set
            && !args.jsonl
            && !args.all_roles
        {
            known_role(set, &asked.role).map_err(|problem| Problems::usage(format!("--role: {problem}")))?;
        }
        let mut schemas = Schemas::shipped();
        for file in &args.schemas {
            extend(&mut schemas, file).map_err(|problem| Problems::failed(vec![problem]))?;
        }
        let (home, cwd, user) = (args.home_directory.clone(), args.cwd.clone(), args.login.clone());
        let scene = Scene { home, cwd, user, ..Scene::default() };
        Ok(Self { set, all_roles: args.all_roles, shell: Shell::new(Arc::new(schemas)), scene, asked })
    }

    fn explain(&self, line: &[u8], asked: &Asked, scene: &Scene) -> Result<Answer, String> {
        let reading = self.shell.read(line, scene);
        let mut decisions = Vec::new();
        if let Some(set) = &self.set {
            let roles: Vec<RoleId> = match self.all_roles {
                true => set.roles().map(|role| role.id.clone()).collect(),
                false => {
                    known_role(set, &asked.role)?;
                    vec![asked.role.clone()]
                }
            };
            for role in roles {
                let view =
                    Asked { role: role.clone(), ..asked.clone() }.view(set.digest()).map_err(|e| e.to_string())?;
                decisions.push((role, judge(set, &view, &reading.operations, asked.at)));
            }
        }
        Ok(Answer { reading, decisions, all_roles: self.all_roles })
    }

    /// Streams: a line's answer is complete before the next line is read, and nothing is kept.
    fn lines(&self, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<u8> {
        let (mut number, mut answered, mut opaque, mut wrong) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut line = Vec::new();
        loop {
            line.clear();
            let Some(whole) = next_line(input, &mut line)? else { break };
            number += 1;
            if whole && line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let (id, answer) = match whole {
                true => self.line(&line),
                false => (None, Err(format!("the line is longer than {MAX_LINE_BYTES} bytes"))),
            };
            let mut told = Map::new();
            told.extend(id.map(|id| ("id".to_owned(), id)));
            told.insert("line".to_owned(), number.into());
            match answer {
                Ok(answer) => {
                    answered += 1;
                    opaque += u64::from(answer.is_opaque());
                    told.insert("ok".to_owned(), true.into());
                    told.extend(answer.json());
                }
                // What can't be read is opaque, and never permitted.
                Err(error) => {
                    wrong += 1;
                    let error = brief(&error, 400);
                    let unread = json!({"ok": false, "opaque": true, "why_opaque": [error], "operations": [],
                        "classes": ["opaque"], "script": null, "error": error,
                        "decision": {"effect": "deny", "determining": [], "reasons": [error]}});
                    told.extend(unread.as_object().cloned().unwrap_or_default());
                }
            }
            serde_json::to_writer(&mut *out, &told)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        eprintln!("onus: {answered} lines explained, {opaque} opaque, {wrong} unreadable");
        Ok(if answered == 0 && wrong > 0 { FAILED } else { 0 })
    }

    fn line(&self, line: &[u8]) -> (Option<Value>, Result<Answer, String>) {
        let value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(error) => return (None, Err(format!("not a line of JSON in UTF-8: {error}"))),
        };
        let fields = match value {
            Value::String(line) => return (None, self.explain(line.as_bytes(), &self.asked, &self.scene)),
            Value::Object(fields) => fields,
            _ => return (None, Err("neither a JSON string nor an object with `line`".to_owned())),
        };
        (fields.get("id").cloned(), self.asked_by(&fields))
    }

    fn asked_by(&self, fields: &Map<String, Value>) -> Result<Answer, String> {
        let texts: Vec<&Value> = ["line", "text", "payload"].iter().filter_map(|name| fields.get(*name)).collect();
        let [text] = texts[..] else {
            return Err("give it exactly one of `line`, `text` and `payload`".to_owned());
        };
        let line = text.as_str().ok_or("its text is not a JSON string")?;
        let (mut asked, mut scene) = (self.asked.clone(), self.scene.clone());
        let word = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("`{name}` is not a JSON string")),
        };
        if let Some(role) = word("role")? {
            asked.role = RoleId::parse(role).map_err(|e| format!("`role`: {e}"))?;
        }
        if let Some(at) = word("at")? {
            asked.at = moment(at).map_err(|e| format!("`at`: {e}"))?;
        }
        if let Some(resource) = word("resource")? {
            asked.resource = ResourceId::parse(resource).map_err(|e| format!("`resource`: {e}"))?;
        }
        if let Some(subject) = word("subject")? {
            asked.subject = SubjectId::parse(subject).map_err(|e| format!("`subject`: {e}"))?;
        }
        if let Some(cwd) = word("cwd")? {
            scene.cwd = Some(cwd.to_owned());
        }
        if let Some(risk) = fields.get("risk").filter(|risk| !risk.is_null()) {
            let band = risk.as_u64().filter(|band| *band <= 4).ok_or("`risk` is not a number from 0 to 4")?;
            asked.risk = band as u8;
        }
        self.explain(line.as_bytes(), &asked, &scene)
    }
}

fn extend(schemas: &mut Schemas, file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: cannot be read: {e}", file.display()))?;
    schemas.extend_from(&file.display().to_string(), &text).map_err(|e| e.to_string())
}

/// What is said about one line.
struct Answer {
    reading: Reading,
    /// By role; empty without policies.
    decisions: Vec<(RoleId, Decision)>,
    all_roles: bool,
}

impl Answer {
    fn is_opaque(&self) -> bool {
        self.reading.operations.iter().any(|operation| operation.class == Class::Opaque)
    }

    /// The stable form. When changing a field, that is a new field.
    fn json(&self) -> Map<String, Value> {
        let operation = |operation: &Operation| {
            let objects: Vec<Value> = operation
                .objects
                .iter()
                .map(|o| json!({"access": o.access.as_str(), "kind": o.kind, "name": o.name}))
                .collect();
            json!({"action": operation.action, "class": operation.class.as_str(), "objects": objects,
                   "facts": operation.facts, "opaque": operation.opaque})
        };
        let operations = &self.reading.operations;
        let classes: BTreeSet<&str> = operations.iter().map(|operation| operation.class.as_str()).collect();
        let why: BTreeSet<&String> = operations.iter().flat_map(|operation| &operation.opaque).collect();
        let argv = |command: &onus_shell::Simple| command.argv.iter().map(|word| word.display()).collect::<Vec<_>>();
        let told = json!({
            "operations": operations.iter().map(operation).collect::<Vec<_>>(),
            "classes": classes,
            "commands": self.reading.commands.iter().map(argv).collect::<Vec<_>>(),
            "script": self.reading.script,
            "incomplete": self.reading.incomplete,
            "needs_terminal": self.reading.needs_terminal,
            "opaque": self.is_opaque(),
            "why_opaque": why,
        });
        let Value::Object(mut told) = told else { return Map::new() };
        match (&self.decisions[..], self.all_roles) {
            ([], _) => {}
            (decisions, true) => {
                let all = decisions.iter().map(|(role, found)| (role.to_string(), decision(found)));
                told.insert("decisions".to_owned(), Value::Object(all.collect()));
            }
            ([(_, found), ..], false) => drop(told.insert("decision".to_owned(), decision(found))),
        }
        told
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.reading.operations.is_empty() {
            writeln!(out, "it runs nothing")?;
        }
        for operation in &self.reading.operations {
            writeln!(out, "{}", one_line(&operation.action))?;
            for object in &operation.objects {
                let (kind, name) = (one_line(&object.kind), one_line(&object.name));
                writeln!(out, "  {:<10} {kind:<8} {name}", object.access.as_str())?;
            }
            if !operation.facts.is_empty() {
                let facts: Vec<String> = operation.facts.iter().map(|fact| one_line(fact)).collect();
                writeln!(out, "  facts      {}", facts.join(", "))?;
            }
            for why in &operation.opaque {
                writeln!(out, "  opaque     {}", one_line(why))?;
            }
        }
        if self.reading.incomplete {
            writeln!(out, "it goes on: something is left open at its end")?;
        }
        if self.reading.needs_terminal {
            writeln!(out, "it needs a terminal")?;
        }
        match &self.reading.script {
            Some(script) => writeln!(out, "sent in its place: {}", one_line(script))?,
            None => writeln!(out, "nothing could be sent in its place")?,
        }
        for (role, found) in &self.decisions {
            let by: Vec<String> = found
                .determining
                .iter()
                .map(|by| format!("{} of {}: {}", by.policy, by.owner, one_line(&by.why)))
                .chain(found.reasons.iter().map(|reason| one_line(reason)))
                .collect();
            let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join("; ")) };
            writeln!(out, "{role}: {}{by}", found.effect.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Told {
        #[command(flatten)]
        args: ExplainShellArgs,
    }

    fn run(words: &[&str], input: &str) -> (u8, String) {
        let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies");
        let words = [&["explain", "--policy", policies], words].concat();
        let args = Told::try_parse_from(words).unwrap_or_else(|wrong| panic!("{wrong}")).args;
        let mut out = Vec::new();
        let status = answer(&args, &mut input.as_bytes(), &mut out).unwrap();
        (status, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_line_is_decided_as_the_gateway_would() {
        let (status, told) = run(&["--json", "cat /var/log/syslog"], "");
        let told: Value = serde_json::from_str(&told).unwrap();
        let found = (status, &told["decision"]["effect"], &told["opaque"]);
        assert_eq!(found, (0, &json!("permit"), &json!(false)), "{told}");
        let (_, told) = run(&["cat /etc/shadow"], "");
        assert!(told.contains("log-reader: deny by sensitive-files of ivan"), "{told}");
        let (_, told) = run(&["eval \"$x\""], "");
        assert!(told.contains("deny") && told.contains("opaque"), "{told}");
        assert_eq!(run(&["--role", "nobody", "ls"], "").0, 2);
    }

    #[test]
    fn each_line_has_its_answer_and_what_is_no_line_is_denied() {
        let input = "\"ls /var/log\"\n{\"id\":7,\"line\":\"rm -r /\"}\nnonsense\n{\"line\":1}\n";
        let (status, told) = run(&["--jsonl"], input);
        let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let effects: Vec<_> = told.iter().map(|one| one["decision"]["effect"].as_str().unwrap()).collect();
        assert_eq!((status, effects), (0, vec!["permit", "deny", "deny", "deny"]), "{told:?}");
        assert_eq!((&told[1]["id"], &told[2]["ok"], &told[3]["opaque"]), (&json!(7), &json!(false), &json!(true)));
    }
}

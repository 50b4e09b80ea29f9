//! `onus explain sql`: what a text does, and what would be decided about it, by exactly the gateway's code.
//!
//! It classifies and decides; it connects to nothing. Without a catalogue the names of functions and relations outside
//! `pg_catalog` can't be looked up: an unqualified relation is taken to be in `public`, and an unknown function is
//! opaque. A session that did something before this text (a search path, a temporary table) is not modelled: each text
//! is explained as the first of a fresh session.

use super::policy_dir;
use super::shown::{brief, one_line};
use super::{FAILED, USAGE, finish};
use clap::Args;
use onus_core::decision::{Decision, judge};
use onus_core::ids::{GrantId, ResourceId, RoleId, ServiceId, SessionId, SubjectId};
use onus_core::operation::Operation;
use onus_core::time::Timestamp;
use onus_core::view::{Scope, SubjectKind, Tier, View};
use onus_pg::classify::{Catalogue, Classified, Environment, parse, resolve};
use onus_policy::PolicySet;
use onus_policy::cases::USUAL_MOMENT;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// The longest line of input, in bytes: a text of the longest size that is parsed, escaped in the worst way.
pub(super) const MAX_LINE_BYTES: usize = 32 << 20;

/// Shows what a SQL text does and what policy says about it, without running it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
EXAMPLES
  What does this statement do?
    onus explain sql 'DELETE FROM orders'
  What would be decided about it for a writer on a Sunday?
    onus explain sql --policy policies --role writer --at 2026-11-22T09:00:00Z 'DELETE FROM orders'
  One text a line, one answer a line, in the same order:
    printf '%s\\n' '\"SELECT 1\"' '{\"id\":7,\"sql\":\"DROP TABLE t\",\"role\":\"reader\"}' | \\
      onus explain sql --policy policies --jsonl

EXIT STATUS
  0  everything was read (whatever was decided)
  1  the policies, the catalogue or the input could not be read
  2  the command line makes no sense")]
pub struct ExplainArgs {
    /// The text; `-` or nothing reads it from standard input.
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// Decide by the policies in this directory; without it, texts are only classified.
    #[arg(long, value_name = "DIR")]
    pub policy: Option<PathBuf>,
    /// Check the policies' owners against this estate.
    #[arg(long, value_name = "DIR", requires = "policy")]
    pub estate: Option<PathBuf>,
    /// Decide under this role.
    #[arg(long, value_name = "ROLE", default_value = "reader")]
    pub role: String,
    /// Decide under each role that the policies define, instead of one.
    #[arg(long, requires = "policy")]
    pub all_roles: bool,
    /// Read one text a line: a JSON string, or an object with `sql` (or `text`, `payload`) and, where it differs from
    /// the options, `id`, `role`, `at`, `risk`, `database`, `resource`, `subject`.
    #[arg(long, conflicts_with = "text")]
    pub jsonl: bool,
    /// Print JSON instead of text (with --jsonl that is always so).
    #[arg(long)]
    pub json: bool,
    /// Definitions of the database: JSON as `[[rows of relations], [functions], [operators], [casts], [schemas]]`.
    #[arg(long, value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// Decide as of this moment, UTC.
    #[arg(long, value_name = "RFC3339", default_value = USUAL_MOMENT)]
    pub at: String,
    /// Decide for a subject in this risk band, 0 to 4.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=4))]
    pub risk: u8,
    /// Decide in this database.
    #[arg(long, value_name = "D", default_value = "orders")]
    pub database: String,
    /// Decide on this resource.
    #[arg(long, value_name = "R", default_value = "orders-db")]
    pub resource: String,
    /// Decide for this subject.
    #[arg(long, value_name = "S", default_value = "alice")]
    pub subject: String,
}

/// Runs the command on standard input and output.
pub fn run(args: &ExplainArgs) -> ExitCode {
    finish(answer(args, &mut io::stdin().lock(), &mut BufWriter::new(io::stdout().lock())))
}

fn answer(args: &ExplainArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<u8> {
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
    let text = match args.text.as_deref() {
        Some("-") | None => {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes)?;
            match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    eprintln!("onus: the text is not UTF-8 at byte {at}; the gateway refuses such a text unread");
                    return Ok(FAILED);
                }
            }
        }
        Some(text) => text.to_owned(),
    };
    let answer = match explainer.explain(&text, &explainer.asked) {
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

pub(super) struct Problems {
    pub lines: Vec<String>,
    pub status: u8,
}

impl Problems {
    pub(super) fn failed(lines: Vec<String>) -> Self {
        Self { lines, status: FAILED }
    }
    pub(super) fn usage(line: impl Into<String>) -> Self {
        Self { lines: vec![line.into()], status: USAGE }
    }
}

/// For whom and when a text is decided about.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub role: RoleId,
    pub at: Timestamp,
    pub risk: u8,
    pub database: String,
    pub resource: ResourceId,
    pub subject: SubjectId,
}

impl Asked {
    pub(super) fn view(&self, digest: &str) -> Result<View, onus_core::ids::IdError> {
        Ok(View {
            session: SessionId::parse("explained")?,
            epoch: 1,
            as_of: 0,
            subject: self.subject.clone(),
            subject_kind: SubjectKind::Human,
            teams: BTreeSet::new(),
            resource: self.resource.clone(),
            service: ServiceId::parse("explained")?,
            labels: BTreeSet::new(),
            database: self.database.clone(),
            role: self.role.clone(),
            grant: GrantId::parse("explained")?,
            purpose: String::new(),
            scope: Scope::default(),
            opened: self.at,
            deadline: Timestamp(u64::MAX),
            risk: self.risk,
            tier: Tier::Mediated,
            policy_version: 0,
            policy_digest: digest.to_owned(),
        })
    }
}

struct Explainer {
    set: Option<PolicySet>,
    all_roles: bool,
    environment: Environment,
    asked: Asked,
}

impl Explainer {
    fn new(args: &ExplainArgs) -> Result<Self, Problems> {
        let named = |what: &str, error: onus_core::ids::IdError| Problems::usage(format!("--{what}: {error}"));
        let asked = Asked {
            role: RoleId::parse(&args.role).map_err(|e| named("role", e))?,
            at: moment(&args.at).map_err(|e| Problems::usage(format!("--at: {e}")))?,
            risk: args.risk,
            database: args.database.clone(),
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
        let environment = match &args.catalogue {
            Some(file) => {
                let catalogue = catalogue(file).map_err(|problem| Problems::failed(vec![problem]))?;
                Environment::new(Arc::new(catalogue), vec!["$user".to_owned(), "public".to_owned()], None)
            }
            None => Environment::assumed(),
        };
        Ok(Self { set, all_roles: args.all_roles, environment, asked })
    }

    fn explain(&self, sql: &str, asked: &Asked) -> Result<Answer, String> {
        let begun = Instant::now();
        let parsed = parse(sql);
        let parsed_at = Instant::now();
        let classified = resolve(&parsed, &self.environment);
        let resolved_at = Instant::now();
        let operations = classified.operations();
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
                decisions.push((role, judge(set, &view, &operations, asked.at)));
            }
        }
        let decided_at = Instant::now();
        let micros = |from: Instant, to: Instant| to.duration_since(from).as_nanos() as f64 / 1000.0;
        Ok(Answer {
            classified,
            operations,
            decisions,
            all_roles: self.all_roles,
            micros: [
                micros(begun, parsed_at),
                micros(parsed_at, resolved_at),
                micros(resolved_at, decided_at),
                micros(begun, decided_at),
            ],
        })
    }

    /// Streams: a line's answer is complete before the next line is read, and nothing is kept.
    fn lines(&self, input: &mut dyn BufRead, out: &mut dyn Write) -> io::Result<u8> {
        let (mut number, mut answered, mut opaque, mut wrong) = (0_u64, 0_u64, 0_u64, 0_u64);
        let mut effects = std::collections::BTreeMap::<&'static str, u64>::new();
        let begun = Instant::now();
        let mut line = Vec::new();
        loop {
            line.clear();
            let whole = match next_line(input, &mut line) {
                Ok(Some(whole)) => whole,
                Ok(None) => break,
                Err(error) => {
                    eprintln!("onus: the input cannot be read after line {number}: {error}");
                    out.flush()?;
                    return Ok(FAILED);
                }
            };
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
                    for (_, decision) in &answer.decisions {
                        *effects.entry(decision.effect.as_str()).or_default() += 1;
                    }
                    told.insert("ok".to_owned(), true.into());
                    told.extend(answer.json());
                }
                // What can't be read is opaque, and never permitted.
                Err(error) => {
                    wrong += 1;
                    let told_error = brief(&error, 400);
                    told.insert("ok".to_owned(), false.into());
                    told.insert("error".to_owned(), told_error.as_str().into());
                    for (name, empty) in [
                        ("statements", json!([])),
                        ("classes", json!(["opaque"])),
                        ("objects", json!([])),
                        ("functions", json!([])),
                    ] {
                        told.insert(name.to_owned(), empty);
                    }
                    told.insert("opaque".to_owned(), true.into());
                    told.insert("why_opaque".to_owned(), json!([told_error]));
                    told.insert(
                        "decision".to_owned(),
                        json!({"effect": "deny", "determining": [], "reasons": [told_error]}),
                    );
                }
            }
            serde_json::to_writer(&mut *out, &told)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        let effects: Vec<String> = effects.into_iter().map(|(effect, count)| format!("{count} {effect}")).collect();
        eprintln!(
            "onus: {answered} texts explained{}{}, {opaque} opaque, {wrong} unreadable, in {:.2} s",
            if effects.is_empty() { "" } else { ": " },
            effects.join(", "),
            begun.elapsed().as_secs_f64()
        );
        Ok(if answered == 0 && wrong > 0 { FAILED } else { 0 })
    }

    fn line(&self, line: &[u8]) -> (Option<Value>, Result<Answer, String>) {
        let value: Value = match serde_json::from_slice(line) {
            Ok(value) => value,
            Err(error) => return (None, Err(format!("not a line of JSON in UTF-8: {error}"))),
        };
        let fields = match value {
            Value::String(sql) => return (None, self.explain(&sql, &self.asked)),
            Value::Object(fields) => fields,
            _ => return (None, Err("neither a JSON string nor an object with `sql`".to_owned())),
        };
        let id = fields.get("id").cloned();
        let answer = self.asked_by(&fields).and_then(|(sql, asked)| self.explain(sql, &asked));
        (id, answer)
    }

    fn asked_by<'a>(&self, fields: &'a Map<String, Value>) -> Result<(&'a str, Asked), String> {
        let texts: Vec<&Value> = ["sql", "text", "payload"].iter().filter_map(|name| fields.get(*name)).collect();
        let [text] = texts[..] else {
            return Err("give it exactly one of `sql`, `text` and `payload`".to_owned());
        };
        let sql = text.as_str().ok_or("its text is not a JSON string")?;
        let mut asked = self.asked.clone();
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
        if let Some(database) = word("database")? {
            asked.database = database.to_owned();
        }
        if let Some(resource) = word("resource")? {
            asked.resource = ResourceId::parse(resource).map_err(|e| format!("`resource`: {e}"))?;
        }
        if let Some(subject) = word("subject")? {
            asked.subject = SubjectId::parse(subject).map_err(|e| format!("`subject`: {e}"))?;
        }
        match fields.get("risk") {
            None | Some(Value::Null) => {}
            Some(risk) => {
                let band = risk.as_u64().filter(|band| *band <= 4).ok_or("`risk` is not a number from 0 to 4")?;
                asked.risk = band as u8;
            }
        }
        Ok((sql, asked))
    }
}

/// Reads one line without its end; false if it was too long, in which case its rest was skipped. `None` at the end.
pub(super) fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let read = input.take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(true));
    }
    if line.len() <= MAX_LINE_BYTES {
        return Ok(Some(true));
    }
    line.clear();
    loop {
        let rest = input.fill_buf()?;
        let end = rest.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(rest.len(), |end| end + 1);
        if rest.is_empty() || end.is_some() {
            input.consume(used);
            return Ok(Some(false));
        }
        input.consume(used);
    }
}

pub(super) fn known_role(set: &PolicySet, role: &RoleId) -> Result<(), String> {
    if set.roles().any(|known| known.id == role) {
        return Ok(());
    }
    let known: Vec<&str> = set.roles().map(|known| known.id.as_str()).collect();
    Err(format!("the policies define no role `{role}`; they define {}", known.join(", ")))
}

pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| format!("`{}` is not a moment in UTC; write such as {USUAL_MOMENT}", one_line(text)))
}

fn catalogue(file: &Path) -> Result<Catalogue, String> {
    let failed = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let text = std::fs::read(file).map_err(|e| failed(&format!("cannot be read: {e}")))?;
    let rows: [Vec<Vec<String>>; 5] = serde_json::from_slice(&text).map_err(|e| failed(&e))?;
    Catalogue::from_rows(&rows).map_err(|e| failed(&e))
}

/// The real classifier for texts that stand alone, as policy cases need it.
pub(super) fn operations_of(sql: &str) -> Vec<Operation> {
    resolve(&parse(sql), &Environment::assumed()).operations()
}

/// What is said about one text.
struct Answer {
    classified: Classified,
    operations: Vec<Operation>,
    /// By role; empty without policies.
    decisions: Vec<(RoleId, Decision)>,
    all_roles: bool,
    /// Parsing, resolving, deciding, and all.
    micros: [f64; 4],
}

impl Answer {
    fn why_opaque(&self) -> BTreeSet<&str> {
        self.operations.iter().flat_map(|operation| &operation.opaque).map(String::as_str).collect()
    }

    fn is_opaque(&self) -> bool {
        self.operations.iter().any(|operation| operation.class == onus_core::operation::Class::Opaque)
    }

    /// The stable form; `docs/explain.md` describes it. When changing a field, that is a new field.
    fn json(&self) -> Map<String, Value> {
        let operation = |operation: &Operation| {
            json!({
                "action": operation.action,
                "class": operation.class.as_str(),
                "objects": operation.objects.iter().map(object).collect::<Vec<_>>(),
                "functions": functions(std::slice::from_ref(operation)),
                "facts": operation.facts,
                "opaque": operation.opaque,
            })
        };
        let statements: Vec<Value> = self
            .classified
            .statements
            .iter()
            .map(|s| json!({"kind": s.kind, "operations": s.operations.iter().map(operation).collect::<Vec<_>>()}))
            .collect();
        let classes: BTreeSet<_> = self.operations.iter().map(|operation| operation.class).collect();
        let objects: BTreeSet<_> = self.operations.iter().flat_map(|operation| &operation.objects).collect();
        let mut told = Map::new();
        told.insert("statements".to_owned(), statements.into());
        told.insert("classes".to_owned(), classes.iter().map(|class| class.as_str()).collect());
        told.insert("objects".to_owned(), objects.into_iter().map(object).collect());
        told.insert("functions".to_owned(), functions(&self.operations).into_iter().collect());
        told.insert("opaque".to_owned(), self.is_opaque().into());
        told.insert("why_opaque".to_owned(), self.why_opaque().into_iter().collect());
        if self.all_roles {
            let by_role = self.decisions.iter().map(|(role, d)| (role.to_string(), decision(d))).collect::<Map<_, _>>();
            told.insert("decisions".to_owned(), by_role.into());
        } else if let [(role, d)] = &self.decisions[..] {
            told.insert("role".to_owned(), role.as_str().into());
            told.insert("decision".to_owned(), decision(d));
        }
        let [parse, resolve, decide, total] = self.micros;
        told.insert("micros".to_owned(), json!({"parse": parse, "resolve": resolve, "decide": decide, "total": total}));
        told
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        for (number, statement) in self.classified.statements.iter().enumerate() {
            writeln!(out, "statement {}: {}", number + 1, statement.kind)?;
            for operation in &statement.operations {
                writeln!(out, "  {} ({})", operation.action, operation.class)?;
                for object in &operation.objects {
                    let parts: Vec<String> = object.parts.iter().map(|part| one_line(part)).collect();
                    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
                    writeln!(
                        out,
                        "    {} {} {}{parts}",
                        object.access.as_str(),
                        one_line(&object.kind),
                        one_line(&object.name)
                    )?;
                }
                if !operation.facts.is_empty() {
                    let facts: Vec<String> = operation.facts.iter().map(|fact| one_line(fact)).collect();
                    writeln!(out, "    facts: {}", facts.join(", "))?;
                }
                for why in &operation.opaque {
                    writeln!(out, "    opaque: {}", one_line(why))?;
                }
            }
        }
        for (role, decision) in &self.decisions {
            writeln!(out, "as {role}: {}", decision.effect.as_str())?;
            for by in &decision.determining {
                writeln!(out, "  by {} of {}: {}", by.policy, by.owner, one_line(&by.why))?;
            }
            for reason in &decision.reasons {
                writeln!(out, "  {}", one_line(reason))?;
            }
            if let Some(confirmation) = &decision.confirmation {
                let by: Vec<String> = confirmation.by.iter().map(|by| one_line(by)).collect();
                writeln!(out, "  {} may confirm it within {}", by.join(" or "), confirmation.within)?;
            }
        }
        Ok(())
    }
}

fn object(object: &onus_core::operation::Object) -> Value {
    json!({"access": object.access.as_str(), "kind": object.kind, "name": object.name, "parts": object.parts})
}

fn functions(operations: &[Operation]) -> BTreeSet<String> {
    let objects = operations.iter().flat_map(|operation| &operation.objects);
    objects.filter(|object| object.kind == "function").map(|object| object.name.clone()).collect()
}

pub(super) fn decision(decision: &Decision) -> Value {
    let determining: Vec<Value> = decision
        .determining
        .iter()
        .map(|by| json!({"policy": by.policy.as_str(), "owner": by.owner.as_str(), "why": by.why}))
        .collect();
    let mut told = json!({"effect": decision.effect.as_str(), "determining": determining, "reasons": decision.reasons});
    if let Some(confirmation) = &decision.confirmation {
        told["confirmation"] = json!({"by": confirmation.by, "within_ms": confirmation.within.0});
    }
    told
}

#[cfg(test)]
mod tests;

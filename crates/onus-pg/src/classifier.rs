//! The classifier as the wire sees it: `classify` with its two stages cached, and one session's environment.
//!
//! What a text says is kept for the whole process in [`TextCache`]; what it means is kept per session, as long as
//! nothing changed that bears on it. It classifies nothing itself.

use crate::classify::{Environment, Parsed, SessionEffect, parse, parse_search_path, resolve, template_key};
use crate::proxy::{Classify, StatementInfo};
use foldhash::quality::FixedState;
use onus_core::operation::Operation;
use onus_pep::{Statement, StatementId};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

const SHARDS: usize = 16;
/// What a kept parse is taken to weigh beside its text; trees are not measured.
const PARSED_BYTES: usize = 4096;
/// Longer texts are not kept per session.
const MAX_KEPT_TEXT: usize = 64 * 1024;
/// Texts kept per session.
const MAX_KEPT: usize = 1024;

/// Parses of texts, for the whole process. Keys are compared whole; the seed keeps clients from making them collide.
pub struct TextCache {
    shards: [Mutex<Shard>; SHARDS],
    hash: FixedState,
    shard_bytes: usize,
}

struct Shard {
    parsed: HashMap<Box<[u8]>, Arc<Parsed>, FixedState>,
    bytes: usize,
}

impl TextCache {
    /// A cache of about `bytes` bytes; `seed` is random and secret.
    pub fn new(seed: u64, bytes: usize) -> Self {
        let hash = FixedState::with_seed(seed);
        let shard = |_| Mutex::new(Shard { parsed: HashMap::with_hasher(FixedState::with_seed(seed)), bytes: 0 });
        Self { shards: std::array::from_fn(shard), hash, shard_bytes: bytes / SHARDS }
    }

    fn parsed(&self, key: &[u8], text: &str) -> Arc<Parsed> {
        // Not the bits that the shard's own table uses first.
        let shard = &self.shards[(self.hash.hash_one(key) >> 32) as usize % SHARDS];
        // A panic while holding the lock leaves at worst an entry missing: the map itself is whole.
        let lock = || shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().parsed.get(key) {
            return known.clone();
        }
        let parsed = Arc::new(parse(text));
        let weight = key.len() + PARSED_BYTES;
        if weight < self.shard_bytes {
            let mut shard = lock();
            if shard.bytes + weight > self.shard_bytes {
                shard.parsed.clear();
                shard.bytes = 0;
            }
            if shard.parsed.insert(key.into(), parsed.clone()).is_none() {
                shard.bytes += weight;
            }
        }
        parsed
    }
}

/// One session's classifier.
pub struct SqlClassifier {
    texts: Arc<TextCache>,
    environment: Environment,
    known: HashMap<Box<[u8]>, Arc<StatementInfo>, FixedState>,
    known_at: u64,
    /// Named by the client, not yet in the environment: there they would outdate all that is known, and only
    /// `EXECUTE` asks for them.
    named: Vec<(String, Arc<Parsed>)>,
    last_id: u64,
    key: Vec<u8>,
    /// Effects since the session was last idle, if all of it succeeded so far.
    since_idle: Option<Vec<SessionEffect>>,
}

impl SqlClassifier {
    /// A session that has just logged in.
    pub fn new(texts: Arc<TextCache>, environment: Environment) -> Self {
        let known = HashMap::with_hasher(texts.hash.clone());
        let known_at = environment.generation();
        Self {
            texts,
            environment,
            known,
            known_at,
            named: Vec::new(),
            last_id: 0,
            key: Vec::new(),
            since_idle: Some(Vec::new()),
        }
    }

    /// The session's environment, to be given a newer catalogue.
    pub fn environment_mut(&mut self) -> &mut Environment {
        &mut self.environment
    }

    /// Fills `key` for the text: its template, or, told apart by a first byte, itself.
    fn parsed(&mut self, text: &str) -> Arc<Parsed> {
        self.set_key(text);
        self.texts.parsed(&self.key, text)
    }

    fn set_key(&mut self, text: &str) {
        if template_key(text.as_bytes(), &mut self.key) {
            self.key.push(b't');
        } else {
            self.key.clear();
            self.key.extend_from_slice(text.as_bytes());
            self.key.push(b'x');
        }
    }

    fn info(&mut self, operations: Vec<Operation>, effects: Vec<SessionEffect>) -> Arc<StatementInfo> {
        self.last_id += 1;
        let touches_prepared = effects.iter().any(|e| {
            use SessionEffect::{Deallocates, DiscardsAll, Prepares};
            matches!(e, Prepares { .. } | Deallocates(_) | DiscardsAll)
        });
        let statement = Arc::new(Statement::new(StatementId(self.last_id), operations));
        let changes_session = !effects.is_empty();
        Arc::new(StatementInfo { statement, changes_session, touches_prepared, effects: effects.into() })
    }

    fn take_names(&mut self) {
        for (name, parsed) in self.named.drain(..) {
            self.environment.note_named(&name, parsed);
        }
    }
}

/// Whether the word is anywhere in the text, in any case. Keywords can't be written in any other way.
fn mentions_execute(text: &str) -> bool {
    text.as_bytes().windows(7).any(|w| w.eq_ignore_ascii_case(b"execute"))
}

impl Classify for SqlClassifier {
    fn classify(&mut self, text: &str) -> Arc<StatementInfo> {
        if self.known_at != self.environment.generation() {
            self.known.clear();
            self.known_at = self.environment.generation();
        }
        self.set_key(text);
        if let Some(info) = self.known.get(&self.key[..]) {
            return info.clone();
        }
        let executes = mentions_execute(text);
        if executes {
            self.take_names();
        }
        let parsed = self.texts.parsed(&self.key, text);
        let classified = resolve(&parsed, &self.environment);
        let info = self.info(classified.operations(), classified.effects);
        // What `EXECUTE` runs changes with names that are not in the environment yet.
        if !executes && self.key.len() <= MAX_KEPT_TEXT {
            if self.known.len() >= MAX_KEPT {
                self.known.clear();
            }
            self.known.insert(self.key.as_slice().into(), info.clone());
        }
        info
    }

    fn generation(&self) -> u64 {
        self.environment.generation()
    }

    fn named(&mut self, name: &str, text: &str) {
        let parsed = self.parsed(text);
        self.named.push((name.to_owned(), parsed));
        if self.named.len() >= MAX_KEPT {
            self.take_names();
        }
    }

    fn closed(&mut self, _: &str) {
        // SQL-level statements share the name, so all that ever had it stays possible: the environment forgets a name
        // only with DEALLOCATE.
    }

    fn prepared(&mut self, name: &str) -> Option<Arc<StatementInfo>> {
        self.take_names();
        let all: Vec<_> = self.environment.prepared(name)?.to_vec();
        let (mut operations, mut effects) = (Vec::new(), Vec::new());
        for parsed in all {
            let classified = resolve(&parsed, &self.environment);
            for operation in classified.operations() {
                if !operations.contains(&operation) {
                    operations.push(operation);
                }
            }
            effects.extend(classified.effects);
        }
        Some(self.info(operations, effects))
    }

    fn relayed(&mut self, info: &StatementInfo) {
        self.environment.apply(&info.effects);
    }

    fn settled(&mut self, info: &StatementInfo, ran: bool) {
        match &mut self.since_idle {
            Some(effects) if ran => effects.extend(info.effects.iter().cloned()),
            _ => self.since_idle = None,
        }
    }

    fn ready(&mut self, status: u8, in_flight: bool) {
        if status != b'I' {
            return;
        }
        // Idle, but with more on its way: which of the two a forgotten effect would belong to can't be told.
        let effects = self.since_idle.replace(Vec::new());
        if let Some(effects) = effects.filter(|effects| !in_flight && !effects.is_empty()) {
            self.environment.confirm(&effects);
        }
    }

    fn parameter(&mut self, name: &str, value: &str) {
        // Servers from 18 on report it. What it says is one more path that is possible.
        if name == "search_path" {
            let path = parse_search_path(value);
            self.environment.apply(&[SessionEffect::SetsSearchPath(path)]);
        }
        // Pinned at log-in. Whatever changed them, a text that could now be read in two ways is opaque from here on.
        let unpinned = match name {
            "client_encoding" => !value.eq_ignore_ascii_case("UTF8"),
            "standard_conforming_strings" => value != "on",
            _ => false,
        };
        if unpinned && self.environment.lexing_is_pinned() {
            self.environment.apply(&[SessionEffect::SetsLexing]);
        }
    }

    fn opaque(&mut self, why: &str) -> Arc<StatementInfo> {
        self.info(vec![Operation::opaque("sql.opaque", why)], vec![SessionEffect::Unknown])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onus_core::operation::Class;

    fn session() -> SqlClassifier {
        SqlClassifier::new(Arc::new(TextCache::new(7, 1 << 20)), Environment::assumed())
    }

    #[test]
    fn texts_that_differ_in_integers_share_a_statement_and_others_do_not() {
        let mut c = session();
        let one = c.classify("select * from orders where id = 1");
        assert!(Arc::ptr_eq(&one, &c.classify("select * from orders where id = 23")));
        assert!(!Arc::ptr_eq(&one, &c.classify("select * from orders where id = '1'")));
        let delete = c.classify("delete from orders where id = 1");
        assert_ne!(one.statement.id(), delete.statement.id());
        assert!(delete.statement.operations().iter().any(|o| o.class == Class::Write));
    }

    #[test]
    fn a_template_is_not_mistaken_for_a_text_that_looks_like_its_key() {
        let mut c = session();
        let template = c.classify("select 1");
        let text = c.classify("select \u{1}");
        assert_ne!(template.statement.id(), text.statement.id());
    }

    #[test]
    fn a_relayed_path_changes_what_names_mean_and_a_parsed_one_does_not() {
        let mut c = session();
        let before = c.classify("select * from orders");
        let set = c.classify("set search_path = hr");
        assert!(set.changes_session);
        assert!(Arc::ptr_eq(&before, &c.classify("select * from orders")));
        c.relayed(&set);
        let after = c.classify("select * from orders");
        assert_ne!(before.statement.operations(), after.statement.operations());
    }

    #[test]
    fn a_server_that_reads_strings_another_way_makes_them_opaque() {
        let mut c = session();
        let opaque = |i: &StatementInfo| i.statement.operations().iter().any(|o| o.class == Class::Opaque);
        let text = r"select 'a\' from orders";
        assert!(!opaque(&c.classify(text)));
        c.parameter("standard_conforming_strings", "off");
        assert!(opaque(&c.classify(text)));
        assert!(!opaque(&c.classify("select 1 from orders")), "no string, no doubt");
    }

    #[test]
    fn execute_is_decided_by_all_that_was_named_so() {
        let mut c = session();
        let opaque = |i: &StatementInfo| i.statement.operations().iter().any(|o| o.class == Class::Opaque);
        assert!(opaque(&c.classify("execute p")));
        c.named("p", "select 1");
        assert!(!opaque(&c.classify("execute p")));
        c.named("p", "delete from orders");
        let both = c.classify("EXECUTE p");
        assert!(both.statement.operations().iter().any(|o| o.class == Class::Write));
        assert!(c.prepared("p").is_some_and(|i| i.statement.operations().iter().any(|o| o.class == Class::Write)));
        assert!(c.prepared("q").is_none());
    }

    #[test]
    fn a_full_cache_forgets_and_still_answers() {
        let mut c = SqlClassifier::new(Arc::new(TextCache::new(7, 16 * 10_000)), Environment::assumed());
        for i in 0..3000 {
            let info = c.classify(&format!("select c{i} from t{i}"));
            assert!(!info.statement.operations().is_empty());
        }
    }
}

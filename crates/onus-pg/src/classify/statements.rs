//! Stage 1 for whole statements other than queries: what each one is, and what it touches.
//!
//! A statement that is not listed is opaque. When the grammar gains one, add an arm here and, for a new verb, a line
//! in `actions`.

use super::Parsed;
use super::draft::{Draft, DraftEffect, Reason, Subject};
use super::environment::SessionEffect;
use super::tree::{Node, Value};
use super::walk::{SettingChange, Walk, constant, name_in, name_of, written};
use onus_core::operation::Access;
use std::sync::Arc;

/// The grammar's numbers of object kinds that are told apart, and a word for each kind.
fn object_word(kind: i64) -> &'static str {
    const WORDS: [&str; 53] = [
        "unknown",
        "access-method",
        "aggregate",
        "amop",
        "amproc",
        "attribute",
        "cast",
        "column",
        "collation",
        "conversion",
        "database",
        "default",
        "default-privileges",
        "domain",
        "domain-constraint",
        "event-trigger",
        "extension",
        "foreign-data-wrapper",
        "foreign-server",
        "foreign-table",
        "function",
        "index",
        "language",
        "large-object",
        "materialized-view",
        "operator-class",
        "operator",
        "operator-family",
        "parameter",
        "policy",
        "procedure",
        "publication",
        "publication-schema",
        "publication-relation",
        "role",
        "routine",
        "rule",
        "schema",
        "sequence",
        "subscription",
        "statistics",
        "constraint",
        "table",
        "tablespace",
        "transform",
        "trigger",
        "text-search-configuration",
        "text-search-dictionary",
        "text-search-parser",
        "text-search-template",
        "type",
        "user-mapping",
        "view",
    ];
    usize::try_from(kind).ok().and_then(|index| WORDS.get(index)).copied().unwrap_or("unknown")
}

/// Kinds whose names are relations' names.
fn is_relation(word: &str) -> bool {
    matches!(word, "table" | "view" | "materialized-view" | "index" | "sequence" | "foreign-table")
}

/// Kinds that are attached to a relation, and named in a list after it.
fn is_of_relation(word: &str) -> bool {
    matches!(word, "column" | "trigger" | "rule" | "policy" | "constraint")
}

/// Dropping, renaming or moving one of these belongs to whoever administers the server.
fn administers(word: &str) -> Option<&'static str> {
    match word {
        "role" => Some("sql.role"),
        "policy" => Some("sql.policy"),
        "database" | "tablespace" | "publication" | "subscription" => Some("sql.system"),
        "foreign-data-wrapper" | "foreign-server" | "user-mapping" => Some("sql.remote"),
        _ => None,
    }
}

const CASCADE: i64 = 2;

/// A word for the sub-commands of ALTER TABLE, by the grammar's number.
fn alter_word(subtype: i64) -> &'static str {
    match subtype {
        1 | 2 => "add-column",
        3 | 4 => "column-default",
        5 => "drop-not-null",
        6 => "set-not-null",
        7 | 8 => "expression",
        9..=13 => "storage",
        14 => "drop-column",
        15..=17 | 19 => "add-index-or-constraint",
        18 => "add-constraint",
        20 => "alter-constraint",
        21 => "validate-constraint",
        22 => "add-constraint",
        23 => "drop-constraint",
        25 => "column-type",
        26 => "foreign-options",
        27 => "owner",
        28 | 29 => "cluster",
        30..=34 => "rewrite",
        35..=37 => "options",
        38..=45 => "trigger",
        46..=49 => "rule",
        50 | 51 => "inherit",
        52 | 53 => "of-type",
        54 => "replica-identity",
        55..=58 => "row-security",
        59 => "generic-options",
        60..=62 => "partition",
        63..=65 => "identity",
        _ => "other",
    }
}

/// One whole statement as a draft.
pub(super) fn draft(statement: &Value) -> Draft {
    let Some(node) = statement.as_node() else {
        let mut walk = Walk::new("unknown");
        walk.opaque("an empty statement node", true);
        return walk.draft;
    };
    let mut walk = Walk::new(kind_of(node.name));
    walk.visit(statement);
    let mut draft = walk.draft;
    let runs_code = draft.opaque.iter().any(|reason| reason.runs_code);
    if runs_code {
        draft.effects.push(DraftEffect::Session(SessionEffect::Unknown));
    }
    draft
}

fn kind_of(name: &'static str) -> &'static str {
    match name {
        "SelectStmt" => "select",
        "InsertStmt" => "insert",
        "UpdateStmt" => "update",
        "DeleteStmt" => "delete",
        "MergeStmt" => "merge",
        "TransactionStmt" => "transaction",
        "VariableSetStmt" => "set",
        "VariableShowStmt" => "show",
        "ExplainStmt" => "explain",
        "CopyStmt" => "copy",
        "PrepareStmt" => "prepare",
        "ExecuteStmt" => "execute",
        "DeallocateStmt" => "deallocate",
        "DeclareCursorStmt" => "declare",
        "FetchStmt" => "fetch",
        "ClosePortalStmt" => "close",
        "DiscardStmt" => "discard",
        "ListenStmt" | "UnlistenStmt" => "listen",
        "NotifyStmt" => "notify",
        "LockStmt" => "lock",
        "TruncateStmt" => "truncate",
        "CallStmt" => "call",
        "DoStmt" => "do",
        "DropStmt" => "drop",
        "CommentStmt" => "comment",
        "GrantStmt" | "GrantRoleStmt" => "grant",
        "VacuumStmt" | "ClusterStmt" | "ReindexStmt" | "CheckPointStmt" => "maintain",
        "LoadStmt" => "load",
        _ if name.starts_with("Create") || name.starts_with("Define") => "create",
        "IndexStmt" | "ViewStmt" | "RuleStmt" | "CompositeTypeStmt" => "create",
        _ if name.starts_with("Alter") => "alter",
        "RenameStmt" => "alter",
        _ => "other",
    }
}

impl Walk {
    /// Writes a statement that is not a query; false when it is none that is known.
    pub fn statement(&mut self, node: &Node) -> bool {
        match node.name {
            "TransactionStmt" => self.transaction(node),
            "ConstraintsSetStmt" => {
                self.op("sql.transaction");
            }
            "VariableSetStmt" => self.variable_set(node),
            "VariableShowStmt" => {
                let op = self.op("sql.show");
                self.fact(op, format!("setting:{}", node.text("name").to_ascii_lowercase()));
            }
            "DeclareCursorStmt" => {
                let op = self.reads();
                self.draft.ops[op].only_with_objects = false;
                self.visit_children(node);
            }
            "FetchStmt" | "ClosePortalStmt" => {
                self.op("sql.fetch");
            }
            "ListenStmt" | "UnlistenStmt" => {
                self.op("sql.listen");
            }
            "NotifyStmt" => {
                let op = self.op("sql.notify");
                self.plain(op, Access::Write, "channel", node.text("conditionname"));
            }
            "DiscardStmt" => {
                let op = self.op("sql.discard");
                match node.word("target") {
                    1 => {
                        self.fact(op, "all");
                        self.effect(SessionEffect::DiscardsAll);
                    }
                    4 => self.effect(SessionEffect::DiscardsTemp),
                    _ => {}
                }
            }
            "PrepareStmt" => self.prepare(node),
            "ExecuteStmt" => {
                let name = node.text("name").to_owned();
                self.effect(SessionEffect::Executes(name.clone()));
                self.draft.executes.push(name);
                self.visit_children(node);
            }
            "DeallocateStmt" => {
                self.op("sql.deallocate");
                let name = (!node.is("isall")).then(|| node.text("name").to_owned());
                self.effect(SessionEffect::Deallocates(name));
            }
            "ExplainStmt" => self.explain(node),
            "CopyStmt" => self.copy(node),
            "LockStmt" => {
                let op = self.op("sql.lock");
                self.relations(op, Access::Write, node.field("relations"));
            }
            "TruncateStmt" => {
                let op = self.op("sql.truncate");
                self.cascade(op, node);
                self.relations(op, Access::Write, node.field("relations"));
            }
            "RefreshMatViewStmt" => {
                let op = self.op("sql.refresh");
                if node.is("concurrent") {
                    self.fact(op, "concurrently");
                }
                self.relation(op, Access::Write, node.node("relation"));
            }
            "DoStmt" => {
                self.opaque("a `DO` block: its text is a program", true);
            }
            "CallStmt" => {
                if let Some(call) = node.node("funccall") {
                    self.call(call, true);
                } else {
                    self.opaque("a `CALL` of nothing", true);
                }
            }
            "LoadStmt" => {
                let op = self.op("sql.load");
                self.plain(op, Access::Execute, "library", node.text("filename"));
                self.effect(SessionEffect::Unknown);
            }
            _ => return self.definition(node),
        }
        true
    }

    fn plain(&mut self, op: usize, access: Access, kind: &'static str, name: &str) {
        self.object(op, access, kind, Subject::Plain(name.to_owned()));
    }

    fn cascade(&mut self, op: usize, node: &Node) {
        if node.word("behavior") == CASCADE {
            self.fact(op, "cascade");
        }
    }

    fn if_exists(&mut self, op: usize, node: &Node) {
        if node.is("missing_ok") {
            self.fact(op, "if-exists");
        }
    }

    fn relations(&mut self, op: usize, access: Access, list: &Value) {
        for relation in list.as_list() {
            self.relation(op, access, relation.as_node());
        }
    }

    fn transaction(&mut self, node: &Node) {
        let op = self.op("sql.transaction");
        let kind = node.word("kind");
        let effect = match kind {
            1 | 2 => Some(SessionEffect::Begins),
            3 | 9 => Some(SessionEffect::Commits),
            4 | 7 | 8 | 10 => Some(SessionEffect::RollsBack),
            _ => None,
        };
        if matches!(kind, 8..=10) {
            self.fact(op, "two-phase");
        }
        self.transaction_modes(op, node.field("options"));
        if let Some(effect) = effect {
            self.effect(effect);
        }
    }

    fn transaction_modes(&mut self, op: usize, modes: &Value) {
        // Whether a transaction becomes read-only or read-write is an integer in the grammar; both are stated as one.
        if modes.as_list().iter().filter_map(Value::as_node).any(|m| m.text("defname") == "transaction_read_only") {
            self.fact(op, "access-mode");
        }
    }

    fn variable_set(&mut self, node: &Node) {
        let kind = node.word("kind");
        let name = node.text("name").to_ascii_lowercase();
        // VAR_SET_MULTI is `SET TRANSACTION` and `SET SESSION CHARACTERISTICS`.
        if kind == 4 {
            let session = name.starts_with("session");
            let op = self.op(if session { "sql.set_sensitive" } else { "sql.transaction" });
            if session {
                self.fact(op, "setting:session-characteristics");
            }
            self.transaction_modes(op, node.field("args"));
            return;
        }
        if kind == 6 {
            let op = self.op("sql.set");
            self.fact(op, "setting:all");
            self.effect(SessionEffect::ResetsAll);
            return;
        }
        let change = if kind == 1 {
            let path: Option<Vec<String>> =
                node.list("args").iter().map(|arg| constant(arg).map(str::to_owned)).collect();
            if node.is("is_local") { SettingChange::PathForNow(path) } else { SettingChange::Path(path) }
        } else {
            SettingChange::Reset
        };
        let op = self.sets(&name, change);
        if node.is("is_local") {
            self.fact(op, "set-local");
        }
        self.visit(node.field("args"));
    }

    fn prepare(&mut self, node: &Node) {
        let inner = draft(node.field("query"));
        let parsed = Arc::new(Parsed::of_drafts(vec![inner]));
        self.effect(SessionEffect::Prepares { name: node.text("name").to_owned(), parsed });
        self.visit_children(node);
    }

    /// Without ANALYZE the inner statement is planned and not run: it changes nothing of the session, and what it
    /// would do is stated as `planned-only`. The server asks for the same privileges either way, so policy may too.
    /// An ANALYZE option counts unless it is spelled `off` or `false`.
    fn explain(&mut self, node: &Node) {
        let op = self.op("sql.explain");
        let analyze = node.list("options").iter().filter_map(Value::as_node).any(|option| {
            let value = option.field("arg");
            let off = value.as_text().eq_ignore_ascii_case("off") || value.as_text().eq_ignore_ascii_case("false");
            option.text("defname").eq_ignore_ascii_case("analyze") && !off
        });
        if analyze {
            self.fact(op, "analyze");
            self.visit_children(node);
            return;
        }
        self.visit(node.field("options"));
        let effects = self.draft.effects.len();
        self.visit(node.field("query"));
        self.draft.effects.truncate(effects);
        for planned in op + 1..self.draft.ops.len() {
            self.fact(planned, "planned-only");
        }
    }

    fn copy(&mut self, node: &Node) {
        let path = if node.is("is_program") {
            Some(self.op("sql.copy_program"))
        } else if !node.text("filename").is_empty() {
            Some(self.op("sql.copy_file"))
        } else {
            None
        };
        if let Some(op) = path {
            let kind = if node.is("is_program") { "program" } else { "path" };
            self.plain(op, Access::Execute, kind, node.text("filename"));
        }
        let columns: Vec<String> = node.list("attlist").iter().map(|c| c.as_text().to_owned()).collect();
        let columns = if columns.is_empty() { vec!["*".to_owned()] } else { columns };
        let (op, access) = if node.is("is_from") {
            (self.op("sql.copy_in"), Access::Write)
        } else {
            (self.op("sql.copy_out"), Access::Read)
        };
        if let Some(object) = self.relation(op, access, node.node("relation")) {
            self.draft.objects[object].parts.extend(columns);
        }
        self.visit_children_but(node, &["relation"]);
    }

    // ---- definitions

    fn create(&mut self, action: &'static str, word: &str) -> usize {
        let op = self.op(action);
        self.fact(op, format!("object:{word}"));
        op
    }

    fn definition(&mut self, node: &Node) -> bool {
        use Access::{Administer, Define};
        match node.name {
            "CreateStmt" => {
                let op = self.create("sql.create", "table");
                self.create_table(op, node);
            }
            "CreateForeignTableStmt" => {
                let op = self.create("sql.remote", "foreign-table");
                self.plain(op, Define, "server", node.text("servername"));
                let create = self.create("sql.create", "foreign-table");
                if let Some(base) = node.node("base_stmt") {
                    self.create_table(create, base);
                }
                self.visit_children_but(node, &["base_stmt"]);
            }
            "CreateTableAsStmt" => {
                let word = object_word(node.word("objtype"));
                if let Some(into) = node.node("into") {
                    self.make_table(into, if word == "materialized-view" { word } else { "table" });
                }
                self.visit_children_but(node, &["into"]);
            }
            "ViewStmt" => {
                let op = self.create("sql.create", "view");
                if node.is("replace") {
                    self.fact(op, "or-replace");
                }
                if let Some(view) = node.node("view") {
                    self.new_relation(op, view);
                }
                self.visit_children_but(node, &["view"]);
            }
            "IndexStmt" => {
                let op = self.create("sql.create", "index");
                if node.is("concurrent") {
                    self.fact(op, "concurrently");
                }
                self.relation(op, Define, node.node("relation"));
                self.opclasses(node.field("index_params"));
                self.visit_children_but(node, &["relation", "exclude_op_names"]);
            }
            "CreateSeqStmt" => {
                let op = self.create("sql.create", "sequence");
                if let Some(sequence) = node.node("sequence") {
                    self.new_relation(op, sequence);
                }
                self.visit_children_but(node, &["sequence"]);
            }
            "AlterSeqStmt" => {
                let op = self.create("sql.alter", "sequence");
                self.if_exists(op, node);
                self.existing(op, Define, node.node("sequence"), node.is("missing_ok"));
                self.visit_children_but(node, &["sequence"]);
            }
            "CreateSchemaStmt" => {
                let op = self.create("sql.create", "schema");
                let name = node.text("schemaname").to_owned();
                self.plain(op, Define, "schema", if name.is_empty() { "$user" } else { &name });
                self.effect(SessionEffect::ChangesSchema(name));
                if let Some(role) = node.node("authrole") {
                    let owner = self.op("sql.owner");
                    self.role(owner, role);
                }
                self.visit(node.field("schema_elts"));
                if !node.list("schema_elts").is_empty() {
                    // Its elements are made in the new schema, not where the search path points.
                    self.opaque("a `CREATE SCHEMA` that makes other objects in one statement", true);
                }
            }
            "CreateStatsStmt" => {
                let op = self.create("sql.create", "statistics");
                self.relations(op, Define, node.field("relations"));
                self.visit_children_but(node, &["relations", "defnames"]);
            }
            "AlterStatsStmt" => {
                let op = self.create("sql.alter", "statistics");
                self.named(op, Define, "statistics", node.field("defnames"));
            }
            "CreateDomainStmt" => {
                self.make("sql.create", "domain", node, "domainname");
                self.effect(SessionEffect::ChangesCode);
            }
            "CreateEnumStmt" => self.make("sql.create", "type", node, "type_name"),
            "CompositeTypeStmt" => {
                let op = self.create("sql.create", "type");
                if let Some(relation) = node.node("typevar") {
                    self.new_relation(op, relation);
                }
                self.visit_children_but(node, &["typevar"]);
            }
            "CreateRangeStmt" => {
                // A range type's support functions run when its values are made.
                self.make("sql.create_code", "type", node, "type_name");
                self.effect(SessionEffect::ChangesCode);
            }
            "AlterEnumStmt" => self.make("sql.alter", "type", node, "type_name"),
            "AlterDomainStmt" => self.make("sql.alter", "domain", node, "type_name"),
            "AlterTypeStmt" => self.make("sql.create_code", "type", node, "type_name"),
            "AlterCollationStmt" => self.make("sql.alter", "collation", node, "collname"),
            "AlterTsDictionaryStmt" => self.make("sql.alter", "text-search-dictionary", node, "dictname"),
            "AlterTsConfigurationStmt" => {
                let op = self.create("sql.alter", "text-search-configuration");
                self.named(op, Define, "text-search-configuration", node.field("cfgname"));
            }
            "DefineStmt" => self.define(node),
            "AlterTableStmt" => self.alter_table(node),
            "RenameStmt" => self.rename(node),
            "AlterObjectSchemaStmt" => self.set_schema(node),
            "AlterObjectDependsStmt" => {
                let op = self.create("sql.alter", object_word(node.word("object_type")));
                self.relation(op, Define, node.node("relation"));
                self.named(op, Define, object_word(node.word("object_type")), node.field("object"));
            }
            "AlterOwnerStmt" => {
                let word = object_word(node.word("object_type"));
                let op = self.create("sql.owner", word);
                self.relation(op, Administer, node.node("relation"));
                if node.node("relation").is_none() {
                    self.named(op, Administer, word, node.field("object"));
                }
                if let Some(role) = node.node("newowner") {
                    self.role(op, role);
                }
            }
            "DropStmt" => self.drop(node),
            "CommentStmt" => {
                let word = object_word(node.word("objtype"));
                let op = self.create("sql.comment", word);
                self.described(op, Define, word, node.field("object"));
            }
            "SecLabelStmt" => {
                let word = object_word(node.word("objtype"));
                let op = self.create("sql.security_label", word);
                self.described(op, Administer, word, node.field("object"));
            }
            "VacuumStmt" => {
                let op = self.op("sql.maintain");
                let relations = node.list("rels").iter().filter_map(Value::as_node);
                for relation in relations {
                    self.relation(op, Define, relation.node("relation"));
                }
                self.fact(op, if node.is("is_vacuumcmd") { "vacuum" } else { "analyze" });
            }
            "ClusterStmt" | "ReindexStmt" => {
                let op = self.op("sql.maintain");
                self.fact(op, if node.name == "ClusterStmt" { "cluster" } else { "reindex" });
                self.relation(op, Define, node.node("relation"));
                if !node.text("name").is_empty() {
                    self.plain(op, Define, "schema-or-database", node.text("name"));
                }
            }
            "CheckPointStmt" => {
                let op = self.op("sql.maintain");
                self.fact(op, "checkpoint");
            }
            _ => return self.code_or_administration(node),
        }
        true
    }

    fn create_table(&mut self, op: usize, node: &Node) {
        if node.is("if_not_exists") {
            self.fact(op, "if-not-exists");
        }
        if let Some(relation) = node.node("relation") {
            self.new_relation(op, relation);
        }
        // Parents and partitioned tables change with their children.
        self.relations(op, Access::Define, node.field("inh_relations"));
        self.opclasses_of_partition(node);
        self.visit_children_but(node, &["relation", "inh_relations"]);
    }

    fn opclasses_of_partition(&mut self, node: &Node) {
        if let Some(spec) = node.node("partspec") {
            self.opclasses(spec.field("part_params"));
        }
    }

    /// An operator class from outside pg_catalog brings its own functions.
    fn opclasses(&mut self, elements: &Value) {
        for element in elements.as_list().iter().filter_map(Value::as_node) {
            let class = name_in(element.field("opclass"));
            if class.schema.as_deref().is_some_and(|schema| schema != "pg_catalog") {
                self.opaque(format!("the operator class `{}` has no known effect", written(&class)), true);
            }
        }
    }

    fn existing(&mut self, op: usize, access: Access, range_var: Option<&Node>, missing_ok: bool) {
        let Some(range_var) = range_var else { return };
        let name = name_of(range_var);
        let subject = if missing_ok { Subject::MaybeRelation(name) } else { Subject::Relation(name) };
        self.object(op, access, "relation", subject);
    }

    fn named(&mut self, op: usize, access: Access, kind: &'static str, name: &Value) {
        let name = written(&name_in(name));
        if !name.is_empty() {
            self.plain(op, access, kind, &name);
        }
    }

    fn role(&mut self, op: usize, role: &Node) {
        // ROLESPEC_CSTRING is 1; the others are CURRENT_ROLE, CURRENT_USER, SESSION_USER and PUBLIC.
        let name = match role.word("roletype") {
            1 => role.text("rolename"),
            5 => "public",
            _ => "(current)",
        };
        self.plain(op, Access::Administer, "role", name);
    }

    fn roles(&mut self, op: usize, list: &Value) {
        for role in list.as_list().iter().filter_map(Value::as_node) {
            match role.name {
                "RoleSpec" => self.role(op, role),
                _ => self.plain(op, Access::Administer, "role", role.text("priv_name")),
            }
        }
    }

    /// A definition that is named by a list of words and says the rest in its children.
    fn make(&mut self, action: &'static str, word: &'static str, node: &Node, name: &'static str) {
        let op = self.create(action, word);
        self.named(op, Access::Define, word, node.field(name));
        self.if_exists(op, node);
        self.cascade(op, node);
        self.visit_children_but(node, &[name]);
    }

    fn define(&mut self, node: &Node) {
        let word = object_word(node.word("kind"));
        let name = name_in(node.field("defnames"));
        let action = match word {
            "collation" | "text-search-configuration" | "text-search-dictionary" => "sql.create",
            _ => "sql.create_code",
        };
        let op = self.create(action, word);
        self.plain(op, Access::Define, word, &written(&name));
        match word {
            "operator" => self.effect(SessionEffect::CreatesOperator(name.name)),
            "aggregate" => self.effect(SessionEffect::CreatesFunction(name.name)),
            "type" => self.effect(SessionEffect::ChangesCode),
            _ => {}
        }
    }

    fn alter_table(&mut self, node: &Node) {
        let word = object_word(node.word("objtype"));
        let op = self.create("sql.alter", word);
        self.if_exists(op, node);
        self.existing(op, Access::Define, node.node("relation"), node.is("missing_ok"));
        if word == "type" {
            self.effect(SessionEffect::ChangesCode);
        }
        for command in node.list("cmds").iter().filter_map(Value::as_node) {
            let subtype = alter_word(command.word("subtype"));
            self.fact(op, format!("alter:{subtype}"));
            self.cascade(op, command);
            let also = match subtype {
                "owner" => Some("sql.owner"),
                "row-security" => Some("sql.policy"),
                "trigger" | "rule" => Some("sql.create_code"),
                "generic-options" | "foreign-options" => Some("sql.remote"),
                _ => None,
            };
            if let Some(action) = also {
                let also = self.create(action, word);
                self.existing(also, Access::Administer, node.node("relation"), node.is("missing_ok"));
                if let Some(role) = command.node("newowner") {
                    self.role(also, role);
                }
            }
            // A parent or partition that is attached or left changes too.
            let other = command.node("def").and_then(|def| match def.name {
                "RangeVar" => Some(def),
                "PartitionCmd" => def.node("name"),
                _ => None,
            });
            if let Some(other) = other {
                self.relation(op, Access::Define, Some(other));
                if let Some(def) = command.node("def").filter(|def| def.name == "PartitionCmd") {
                    self.visit_children_but(def, &["name"]);
                }
            } else {
                self.visit(command.field("def"));
            }
        }
    }

    fn rename(&mut self, node: &Node) {
        let word = object_word(node.word("rename_type"));
        let op = self.create(administers(word).unwrap_or("sql.alter"), word);
        self.fact(op, "alter:rename");
        self.if_exists(op, node);
        if let Some(range_var) = node.node("relation") {
            self.existing(op, Access::Define, Some(range_var), node.is("missing_ok"));
            if is_relation(word) || word == "type" {
                let to = node.text("newname").to_owned();
                self.draft.effects.push(DraftEffect::Renames { from: name_of(range_var), to });
            }
        } else if node.field("object").is_nothing() {
            self.plain(op, Access::Define, word, node.text("subname"));
        } else {
            self.named(op, Access::Define, word, node.field("object"));
        }
        self.new_code_name(word, node.text("newname"));
        if word == "schema" {
            self.effect(SessionEffect::ChangesSchema(node.text("subname").to_owned()));
            self.effect(SessionEffect::ChangesSchema(node.text("newname").to_owned()));
            self.effect(SessionEffect::Unknown);
        }
    }

    fn new_code_name(&mut self, word: &str, name: &str) {
        match word {
            "function" | "procedure" | "routine" | "aggregate" => {
                self.effect(SessionEffect::CreatesFunction(name.to_owned()));
            }
            "operator" => self.effect(SessionEffect::CreatesOperator(name.to_owned())),
            "type" | "domain" => self.effect(SessionEffect::ChangesCode),
            _ => {}
        }
    }

    fn set_schema(&mut self, node: &Node) {
        let word = object_word(node.word("object_type"));
        let op = self.create("sql.alter", word);
        self.fact(op, "alter:schema");
        self.if_exists(op, node);
        self.plain(op, Access::Define, "schema", node.text("newschema"));
        if let Some(range_var) = node.node("relation") {
            self.existing(op, Access::Define, Some(range_var), node.is("missing_ok"));
            let schema = node.text("newschema").to_owned();
            self.draft.effects.push(DraftEffect::MovesTo { from: name_of(range_var), schema });
        } else {
            self.named(op, Access::Define, word, node.field("object"));
            self.new_code_name(word, &name_in(node.field("object")).name);
            if word == "extension" {
                self.effect(SessionEffect::Unknown);
            }
        }
    }

    fn drop(&mut self, node: &Node) {
        let word = object_word(node.word("remove_type"));
        let op = self.create(administers(word).unwrap_or("sql.drop"), word);
        if administers(word).is_some() {
            self.fact(op, "drop");
        }
        self.cascade(op, node);
        self.if_exists(op, node);
        if node.is("concurrent") {
            self.fact(op, "concurrently");
        }
        for object in node.list("objects") {
            if is_relation(word) {
                let name = name_in(object);
                self.draft.effects.push(DraftEffect::ChangesRelation(name.clone()));
                let subject =
                    if node.is("missing_ok") { Subject::MaybeRelation(name) } else { Subject::Relation(name) };
                self.object(op, Access::Define, "relation", subject);
            } else {
                if word == "schema" {
                    self.effect(SessionEffect::ChangesSchema(object.as_text().to_owned()));
                }
                self.described(op, Access::Define, word, object);
            }
        }
        if word == "extension" || word == "type" || word == "domain" {
            self.effect(SessionEffect::ChangesCode);
        }
    }

    /// An object as COMMENT, SECURITY LABEL and DROP name it: a relation, a part of one, or anything else.
    fn described(&mut self, op: usize, access: Access, word: &'static str, object: &Value) {
        if is_relation(word) {
            let name = name_in(object);
            self.object(op, access, "relation", Subject::MaybeRelation(name));
        } else if is_of_relation(word) && object.as_list().len() >= 2 {
            let words = object.as_list();
            let name = name_in(&Value::List(words[..words.len() - 1].to_vec()));
            let relation = self.object(op, access, "relation", Subject::MaybeRelation(name));
            let part = words[words.len() - 1].as_text();
            if word == "column" {
                self.draft.objects[relation].parts.insert(part.to_owned());
            } else {
                self.plain(op, access, word, part);
            }
        } else {
            self.named(op, access, word, object);
        }
    }

    // ---- code and administration

    fn code_or_administration(&mut self, node: &Node) -> bool {
        use Access::{Administer, Define, Execute};
        match node.name {
            "CreateFunctionStmt" => {
                let name = name_in(node.field("funcname"));
                let word = if node.is("is_procedure") { "procedure" } else { "function" };
                let op = self.create("sql.create_code", word);
                self.plain(op, Define, word, &written(&name));
                if node.is("replace") {
                    self.fact(op, "or-replace");
                }
                let options: Vec<&str> =
                    node.list("options").iter().filter_map(Value::as_node).map(|o| o.text("defname")).collect();
                if options.contains(&"security") {
                    self.fact(op, "security");
                }
                self.effect(SessionEffect::CreatesFunction(name.name));
                self.visit_children_but(node, &["funcname"]);
            }
            "AlterFunctionStmt" => {
                let op = self.create("sql.create_code", object_word(node.word("objtype")));
                self.fact(op, "alter");
                let name = name_in(node.field("func"));
                self.plain(op, Define, "function", &written(&name));
                self.effect(SessionEffect::CreatesFunction(name.name));
            }
            "CreateTrigStmt" => {
                let op = self.create("sql.create_code", "trigger");
                self.relation(op, Define, node.node("relation"));
                self.relation(op, Define, node.node("constrrel"));
                self.named(op, Execute, "function", node.field("funcname"));
                self.visit(node.field("when_clause"));
            }
            "RuleStmt" => {
                let op = self.create("sql.create_code", "rule");
                self.relation(op, Define, node.node("relation"));
                self.visit_children_but(node, &["relation"]);
            }
            "CreateEventTrigStmt" => {
                let op = self.create("sql.create_code", "event-trigger");
                self.named(op, Execute, "function", node.field("funcname"));
            }
            "AlterEventTrigStmt" => {
                let op = self.create("sql.create_code", "event-trigger");
                self.plain(op, Define, "event-trigger", node.text("trigname"));
            }
            "CreateCastStmt"
            | "CreateTransformStmt"
            | "CreatePLangStmt"
            | "CreateConversionStmt"
            | "CreateOpClassStmt"
            | "CreateOpFamilyStmt"
            | "AlterOpFamilyStmt"
            | "AlterOperatorStmt"
            | "CreateAmStmt" => {
                let word = match node.name {
                    "CreateCastStmt" => "cast",
                    "CreateTransformStmt" => "transform",
                    "CreatePLangStmt" => "language",
                    "CreateConversionStmt" => "conversion",
                    "CreateAmStmt" => "access-method",
                    "AlterOperatorStmt" => "operator",
                    "CreateOpClassStmt" => "operator-class",
                    _ => "operator-family",
                };
                self.create("sql.create_code", word);
                self.effect(SessionEffect::ChangesCode);
            }
            "CreateExtensionStmt" | "AlterExtensionStmt" | "AlterExtensionContentsStmt" => {
                let op = self.create("sql.create_code", "extension");
                self.plain(op, Define, "extension", node.text("extname"));
                self.effect(SessionEffect::Unknown);
            }
            "CreateFdwStmt"
            | "AlterFdwStmt"
            | "CreateForeignServerStmt"
            | "AlterForeignServerStmt"
            | "CreateUserMappingStmt"
            | "AlterUserMappingStmt"
            | "DropUserMappingStmt"
            | "ImportForeignSchemaStmt" => {
                let op = self.create(
                    "sql.remote",
                    if node.name.contains("Fdw") { "foreign-data-wrapper" } else { "foreign-server" },
                );
                for (kind, field) in
                    [("server", "servername"), ("server", "server_name"), ("foreign-data-wrapper", "fdwname")]
                {
                    if !node.text(field).is_empty() {
                        self.plain(op, Define, kind, node.text(field));
                    }
                }
                if let Some(role) = node.node("user") {
                    self.role(op, role);
                }
                if node.name == "ImportForeignSchemaStmt" {
                    self.plain(op, Define, "schema", node.text("local_schema"));
                    self.effect(SessionEffect::Unknown);
                }
            }
            "CreatePolicyStmt" | "AlterPolicyStmt" => {
                let op = self.create("sql.policy", "policy");
                self.relation(op, Administer, node.node("table"));
                self.plain(op, Administer, "policy", node.text("policy_name"));
                self.visit(node.field("qual"));
                self.visit(node.field("with_check"));
            }
            "CreateRoleStmt" => {
                let op = self.create("sql.role", "role");
                self.plain(op, Administer, "role", node.text("role"));
                self.role_options(op, node);
            }
            "AlterRoleStmt" | "AlterRoleSetStmt" => {
                let op = self.create("sql.role", "role");
                if let Some(role) = node.node("role") {
                    self.role(op, role);
                }
                self.role_options(op, node);
                if let Some(set) = node.node("setstmt") {
                    self.fact(op, format!("setting:{}", set.text("name").to_ascii_lowercase()));
                }
            }
            "DropRoleStmt" | "DropOwnedStmt" | "ReassignOwnedStmt" => {
                let op = self.create("sql.role", "role");
                self.fact(op, if node.name == "DropRoleStmt" { "drop" } else { "owned" });
                self.if_exists(op, node);
                self.cascade(op, node);
                self.roles(op, node.field("roles"));
                if let Some(role) = node.node("newrole") {
                    self.role(op, role);
                }
                if node.name == "DropOwnedStmt" {
                    self.effect(SessionEffect::Unknown);
                }
            }
            "GrantRoleStmt" => {
                let op = self.create(if node.is("is_grant") { "sql.grant" } else { "sql.revoke" }, "role");
                self.cascade(op, node);
                self.roles(op, node.field("granted_roles"));
                self.roles(op, node.field("grantee_roles"));
            }
            "GrantStmt" => self.grant(node),
            "AlterDefaultPrivilegesStmt" => {
                let op = self.create("sql.role", "default-privileges");
                if let Some(action) = node.node("action") {
                    self.roles(op, action.field("grantees"));
                }
            }
            "CreateTableSpaceStmt" | "DropTableSpaceStmt" | "AlterTableSpaceOptionsStmt" | "AlterTableMoveAllStmt" => {
                let op = self.create("sql.system", "tablespace");
                let name = if node.name == "AlterTableMoveAllStmt" { "orig_tablespacename" } else { "tablespacename" };
                self.plain(op, Administer, "tablespace", node.text(name));
            }
            "CreatedbStmt"
            | "DropdbStmt"
            | "AlterDatabaseStmt"
            | "AlterDatabaseRefreshCollStmt"
            | "AlterDatabaseSetStmt" => {
                let op = self.create("sql.system", "database");
                self.plain(op, Administer, "database", node.text("dbname"));
                if node.name == "DropdbStmt" {
                    self.fact(op, "drop");
                    self.if_exists(op, node);
                }
                if let Some(set) = node.node("setstmt") {
                    self.fact(op, format!("setting:{}", set.text("name").to_ascii_lowercase()));
                }
            }
            "AlterSystemStmt" => {
                let op = self.create("sql.system", "server");
                if let Some(set) = node.node("setstmt") {
                    self.fact(op, format!("setting:{}", set.text("name").to_ascii_lowercase()));
                }
            }
            "CreatePublicationStmt" | "AlterPublicationStmt" => {
                let op = self.create("sql.system", "publication");
                self.plain(op, Administer, "publication", node.text("pubname"));
                self.visit(node.field("pubobjects"));
            }
            "CreateSubscriptionStmt" | "AlterSubscriptionStmt" | "DropSubscriptionStmt" => {
                let op = self.create("sql.system", "subscription");
                self.plain(op, Administer, "subscription", node.text("subname"));
                self.create("sql.remote", "subscription");
            }
            "TableLikeClause" => self.visit_children(node),
            "AlterTableCmd" | "VacuumRelation" | "CreateOpClassItem" => return false,
            _ => return false,
        }
        true
    }

    fn role_options(&mut self, op: usize, node: &Node) {
        for option in node.list("options").iter().filter_map(Value::as_node) {
            self.fact(op, format!("role-option:{}", option.text("defname").to_ascii_lowercase()));
        }
    }

    fn grant(&mut self, node: &Node) {
        let word = object_word(node.word("objtype"));
        let op = self.create(if node.is("is_grant") { "sql.grant" } else { "sql.revoke" }, word);
        self.cascade(op, node);
        if node.is("grant_option") {
            self.fact(op, "grant-option");
        }
        // ACL_TARGET_ALL_IN_SCHEMA
        let whole_schemas = node.word("targtype") == 2;
        for object in node.list("objects") {
            match object.as_node() {
                Some(range_var) if range_var.name == "RangeVar" => {
                    self.relation(op, Access::Administer, Some(range_var));
                }
                _ if whole_schemas => self.plain(op, Access::Administer, "schema", object.as_text()),
                _ => self.named(op, Access::Administer, word, object),
            }
        }
        self.roles(op, node.field("grantees"));
        for privilege in node.list("privileges").iter().filter_map(Value::as_node) {
            let name = privilege.text("priv_name").to_ascii_lowercase();
            self.fact(op, format!("privilege:{}", if name.is_empty() { "all" } else { &name }));
        }
    }
}

/// A draft for text that could not be read at all.
pub(super) fn opaque_draft(text: String) -> Draft {
    let mut walk = Walk::new("unparsed");
    walk.draft.opaque.insert(Reason { text, runs_code: true });
    walk.effect(SessionEffect::Unknown);
    walk.draft
}

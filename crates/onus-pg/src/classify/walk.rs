//! Stage 1 for queries and expressions: one walk over the whole tree that writes a draft.
//!
//! Statements that define or administer are in `statements`. Whatever is not named in either is opaque; nothing is
//! skipped, because children are visited by shape and not by field name.

use super::draft::{Call, Draft, DraftEffect, DraftObject, DraftOp, Name, Reason, Subject};
use super::environment::SessionEffect;
use super::functions::{Builtin, builtin, is_system_type};
use super::settings::{Setting, parse_search_path, setting};
use super::tree::{Node, Value};
use onus_core::operation::Access;
use std::collections::BTreeSet;

/// Deeper trees than this are opaque. The decoder of the grammar's messages stops earlier (100 messages).
const MAX_DEPTH: usize = 512;

/// The numbers of the grammar's enumerations that are told apart here.
mod words {
    pub const AND: i64 = 1;
    pub const OR: i64 = 2;
    pub const AEXPR_OP: i64 = 1;
    pub const AEXPR_DISTINCT: i64 = 4;
    pub const AEXPR_NOT_DISTINCT: i64 = 5;
    pub const SETOP_NONE: i64 = 1;
}

/// Nodes of expressions and clauses whose children say everything.
const TRANSPARENT: &[&str] = &[
    "AArrayExpr",
    "AConst",
    "AIndices",
    "AIndirection",
    "AStar",
    "AccessPriv",
    "Alias",
    "AtAlterConstraint",
    "BitString",
    "BoolExpr",
    "Boolean",
    "BooleanTest",
    "CaseExpr",
    "CaseWhen",
    "CoalesceExpr",
    "CollateClause",
    "ColumnDef",
    "Constraint",
    "CteCycleClause",
    "CteSearchClause",
    "CurrentOfExpr",
    "DefElem",
    "Float",
    "FunctionParameter",
    "GroupingFunc",
    "GroupingSet",
    "IndexElem",
    "InferClause",
    "IntList",
    "Integer",
    "JsonAggConstructor",
    "JsonArgument",
    "JsonBehavior",
    "JsonFormat",
    "JsonIsPredicate",
    "JsonKeyValue",
    "JsonOutput",
    "JsonReturning",
    "JsonTableColumn",
    "JsonTablePathSpec",
    "JsonValueExpr",
    "List",
    "MergeWhenClause",
    "MinMaxExpr",
    "MultiAssignRef",
    "NamedArgExpr",
    "NullTest",
    "ObjectWithArgs",
    "OnConflictClause",
    "ParamRef",
    "PartitionBoundSpec",
    "PartitionCmd",
    "PartitionElem",
    "PartitionRangeDatum",
    "PartitionSpec",
    "PublicationObjSpec",
    "PublicationTable",
    "RangeTableFuncCol",
    "ReplicaIdentityStmt",
    "ResTarget",
    "ReturnStmt",
    "ReturningClause",
    "ReturningOption",
    "RoleSpec",
    "RowExpr",
    "SetToDefault",
    "SqlValueFunction",
    "StatsElem",
    "String",
    "TriggerTransition",
    "WindowDef",
    "XmlExpr",
    "XmlSerialize",
];

/// Syntax of newer grammars that an older server reads as a call of a function of that name.
const KEYWORD_CALLS: &[(&str, &[&str])] = &[
    ("JsonFuncExpr", &["json_exists", "json_query", "json_value"]),
    ("JsonParseExpr", &["json"]),
    ("JsonScalarExpr", &["json_scalar"]),
    ("JsonSerializeExpr", &["json_serialize"]),
    ("JsonObjectConstructor", &["json_object"]),
    ("JsonArrayConstructor", &["json_array"]),
    ("JsonArrayQueryConstructor", &["json_array"]),
    ("JsonObjectAgg", &["json_objectagg"]),
    ("JsonArrayAgg", &["json_arrayagg"]),
    ("JsonTable", &["json_table"]),
    ("MergeSupportFunc", &["merge_action"]),
];

/// One entry of a FROM clause.
struct Item {
    alias: String,
    /// Its object, when it is a relation.
    object: Option<usize>,
    /// Its columns go by other names here.
    renamed: bool,
}

pub(super) struct Walk {
    pub draft: Draft,
    scopes: Vec<Vec<Item>>,
    ctes: Vec<String>,
    depth: usize,
}

pub(super) fn name_of(range_var: &Node) -> Name {
    let schema = range_var.text("schemaname");
    Name { schema: (!schema.is_empty()).then(|| schema.to_owned()), name: range_var.text("relname").to_owned() }
}

/// A list of strings as a name: the last is the name, the one before its schema.
pub(super) fn name_in(list: &Value) -> Name {
    let words: Vec<&str> = match list {
        Value::List(_) => list.as_list().iter().map(Value::as_text).collect(),
        Value::Node(node) => match node.name {
            "List" => node.list("items").iter().map(Value::as_text).collect(),
            "ObjectWithArgs" => node.list("objname").iter().map(Value::as_text).collect(),
            "TypeName" => node.list("names").iter().map(Value::as_text).collect(),
            _ => vec![list.as_text()],
        },
        _ => Vec::new(),
    };
    match words.as_slice() {
        [.., schema, name] => Name { schema: Some((*schema).to_owned()), name: (*name).to_owned() },
        [name] => Name { schema: None, name: (*name).to_owned() },
        [] => Name { schema: None, name: String::new() },
    }
}

pub(super) fn written(name: &Name) -> String {
    name.schema.as_ref().map_or_else(|| name.name.clone(), |schema| format!("{schema}.{}", name.name))
}

impl Walk {
    pub fn new(kind: &'static str) -> Self {
        Self {
            draft: Draft {
                kind,
                ops: Vec::new(),
                objects: Vec::new(),
                calls: Vec::new(),
                operators: Vec::new(),
                types: Vec::new(),
                attributes: BTreeSet::new(),
                keywords: BTreeSet::new(),
                opaque: BTreeSet::new(),
                effects: Vec::new(),
                executes: Vec::new(),
                facts: BTreeSet::new(),
                reads: None,
            },
            scopes: Vec::new(),
            ctes: Vec::new(),
            depth: 0,
        }
    }

    pub fn op(&mut self, action: &'static str) -> usize {
        self.draft.ops.push(DraftOp { action, facts: BTreeSet::new(), only_with_objects: false });
        self.draft.ops.len() - 1
    }

    pub fn fact(&mut self, op: usize, fact: impl Into<String>) {
        self.draft.ops[op].facts.insert(fact.into());
    }

    pub fn opaque(&mut self, text: impl Into<String>, runs_code: bool) {
        self.draft.opaque.insert(Reason { text: text.into(), runs_code });
    }

    pub fn effect(&mut self, effect: SessionEffect) {
        self.draft.effects.push(DraftEffect::Session(effect));
    }

    /// The operation that gathers what the statement reads.
    pub fn reads(&mut self) -> usize {
        if let Some(op) = self.draft.reads {
            return op;
        }
        let op = self.op("sql.select");
        self.draft.ops[op].only_with_objects = true;
        self.draft.reads = Some(op);
        op
    }

    pub fn object(&mut self, op: usize, access: Access, kind: &'static str, subject: Subject) -> usize {
        self.draft.objects.push(DraftObject {
            op,
            access,
            kind,
            subject,
            parts: BTreeSet::new(),
            parts_unknown: false,
            only_if_referenced: false,
        });
        self.draft.objects.len() - 1
    }

    pub fn relation(&mut self, op: usize, access: Access, range_var: Option<&Node>) -> Option<usize> {
        let range_var = range_var?;
        Some(self.object(op, access, "relation", Subject::Relation(name_of(range_var))))
    }

    /// Visits any value: an expression, a clause, a FROM item, a whole statement, or a list of them.
    pub fn visit(&mut self, value: &Value) {
        match value {
            Value::List(items) => items.iter().for_each(|item| self.visit(item)),
            Value::Node(node) => self.visit_node(node),
            Value::Nothing | Value::True | Value::Enum(_) | Value::Text(_) => {}
        }
    }

    pub fn visit_children(&mut self, node: &Node) {
        node.fields.iter().for_each(|(_, value)| self.visit(value));
    }

    pub fn visit_children_but(&mut self, node: &Node, but: &[&str]) {
        node.fields.iter().filter(|(name, _)| !but.contains(name)).for_each(|(_, value)| self.visit(value));
    }

    fn visit_node(&mut self, node: &Node) {
        if self.depth >= MAX_DEPTH {
            self.opaque("it is nested too deeply", true);
            return;
        }
        self.depth += 1;
        self.visit_one(node);
        self.depth -= 1;
    }

    fn visit_one(&mut self, node: &Node) {
        match node.name {
            "SelectStmt" => self.select(node),
            "InsertStmt" => self.insert(node),
            "UpdateStmt" => self.update(node),
            "DeleteStmt" => self.delete(node),
            "MergeStmt" => self.merge(node),
            "RangeVar" => self.relation_item(node),
            "JoinExpr" => self.join(node),
            "RangeSubselect" => {
                self.visit_children_but(node, &["alias"]);
                self.item(node, None);
            }
            "RangeFunction" | "RangeTableFunc" => {
                self.visit_children_but(node, &["alias"]);
                self.item(node, None);
            }
            "JsonTable" => {
                self.draft.keywords.insert("json_table");
                self.visit_children_but(node, &["alias"]);
                self.item(node, None);
            }
            "RangeTableSample" => {
                let method = name_in(node.field("method"));
                let built_in = method.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
                if !(built_in && matches!(method.name.as_str(), "bernoulli" | "system")) {
                    self.opaque(format!("the sampling method `{}` has no known effect", written(&method)), true);
                }
                self.visit_children_but(node, &["method"]);
            }
            "FuncCall" => self.call(node, false),
            "ColumnRef" => self.column(node),
            "ParamRef" => {
                self.draft.facts.insert("parameters".to_owned());
            }
            "AExpr" => {
                self.operator(node.field("name"));
                self.visit_children_but(node, &["name"]);
            }
            "SubLink" => {
                self.operator(node.field("oper_name"));
                self.visit_children_but(node, &["oper_name"]);
            }
            "SortBy" => {
                self.operator(node.field("use_op"));
                self.visit_children_but(node, &["use_op"]);
            }
            "AIndirection" => {
                let names = node.list("indirection").iter().map(Value::as_text).filter(|name| !name.is_empty());
                let names: Vec<String> = names.map(str::to_owned).collect();
                self.draft.attributes.extend(names);
                self.visit_children(node);
            }
            "TypeName" => {
                let name = name_in(node.field("names"));
                if node.is("pct_type") {
                    // `table.column%TYPE`: a look-up of a column's type.
                } else if !self.draft.types.contains(&name) {
                    self.draft.types.push(name);
                }
                self.visit_children_but(node, &["names"]);
            }
            "TypeCast" => self.visit_children(node),
            "LockingClause" => {}
            "WithClause" => {
                // Only reached through `with`, which scopes the names.
                self.opaque("a WITH clause in an unknown place", true);
            }
            "CommonTableExpr" => {
                self.visit(node.field("ctequery"));
                self.visit(node.field("cycle_clause"));
            }
            name if TRANSPARENT.binary_search(&name).is_ok() => self.visit_children(node),
            name => {
                if let Some((_, keywords)) = KEYWORD_CALLS.iter().find(|(n, _)| *n == name) {
                    self.draft.keywords.extend(*keywords);
                    self.visit_children(node);
                } else if !self.statement(node) {
                    self.opaque(format!("`{name}` is not known to the classifier"), true);
                    self.visit_children(node);
                }
            }
        }
    }

    pub fn operator(&mut self, name: &Value) {
        if name.is_nothing() {
            return;
        }
        let name = name_in(name);
        if !name.name.is_empty() && !self.draft.operators.contains(&name) {
            self.draft.operators.push(name);
        }
    }

    // ---- queries

    /// Makes the names of a WITH clause visible and walks their queries; returns what to cut back to.
    fn with(&mut self, node: &Node) -> usize {
        let before = self.ctes.len();
        let Some(with) = node.node("with_clause") else { return before };
        let ctes = with.list("ctes");
        if with.is("recursive") {
            self.draft.facts.insert("recursive".to_owned());
            self.ctes.extend(ctes.iter().filter_map(Value::as_node).map(|cte| cte.text("ctename").to_owned()));
            ctes.iter().for_each(|cte| self.visit(cte));
        } else {
            for cte in ctes {
                self.visit(cte);
                self.ctes.extend(cte.as_node().map(|cte| cte.text("ctename").to_owned()));
            }
        }
        before
    }

    fn select(&mut self, node: &Node) {
        let op = self.reads();
        self.draft.ops[op].only_with_objects &= self.draft.kind != "select";
        let ctes = self.with(node);
        if node.word("op") > words::SETOP_NONE {
            self.visit(node.field("larg"));
            self.visit(node.field("rarg"));
            self.scopes.push(Vec::new());
            // A set operation is sorted by its output's columns, which are nobody's.
            for sort in node.list("sort_clause").iter().filter_map(Value::as_node) {
                self.operator(sort.field("use_op"));
                if sort.node("node").is_none_or(|n| n.name != "ColumnRef") {
                    self.visit(sort.field("node"));
                }
            }
            self.visit_children_but(node, &["larg", "rarg", "with_clause", "sort_clause", "locking_clause"]);
        } else {
            self.scopes.push(Vec::new());
            self.visit(node.field("from_clause"));
            let outputs: BTreeSet<&str> =
                node.list("target_list").iter().filter_map(Value::as_node).map(|t| t.text("name")).collect();
            let is_output = |value: &Value| {
                value.as_node().is_some_and(|n| {
                    n.name == "ColumnRef"
                        && n.list("fields").len() == 1
                        && outputs.contains(n.list("fields")[0].as_text())
                        && !n.list("fields")[0].as_text().is_empty()
                })
            };
            for sort in node.list("sort_clause").iter().filter_map(Value::as_node) {
                self.operator(sort.field("use_op"));
                if !is_output(sort.field("node")) {
                    self.visit(sort.field("node"));
                }
            }
            let but = ["from_clause", "with_clause", "sort_clause", "into_clause", "locking_clause"];
            self.visit_children_but(node, &but);
        }
        if !node.field("limit_count").is_nothing() {
            self.fact(op, "limit");
        }
        self.locking(node, op);
        self.scopes.pop();
        self.ctes.truncate(ctes);
        if let Some(into) = node.node("into_clause") {
            self.make_table(into, "table");
        }
    }

    /// `FOR UPDATE` and its kin lock what the query reads.
    fn locking(&mut self, node: &Node, op: usize) {
        if node.list("locking_clause").is_empty() {
            return;
        }
        self.fact(op, "locks");
        let lock = self.op("sql.lock");
        let locked: Vec<Subject> = match self.scopes.last() {
            Some(items) => {
                items.iter().filter_map(|i| i.object).map(|o| self.draft.objects[o].subject.clone()).collect()
            }
            None => Vec::new(),
        };
        for subject in locked {
            self.object(lock, Access::Write, "relation", subject);
        }
    }

    pub fn make_table(&mut self, into: &Node, what: &'static str) {
        let create = self.op("sql.create");
        self.fact(create, format!("object:{what}"));
        if let Some(relation) = into.node("rel") {
            self.new_relation(create, relation);
        }
        self.visit_children_but(into, &["rel"]);
    }

    /// The relation that a statement makes.
    pub fn new_relation(&mut self, op: usize, range_var: &Node) {
        let name = name_of(range_var);
        let temporary = range_var.text("relpersistence") == "t" || name.schema.as_deref() == Some("pg_temp");
        if temporary {
            self.fact(op, "temporary");
        }
        let effect = DraftEffect::NewRelation { name: name.clone(), temporary };
        self.draft.effects.push(effect);
        self.object(op, Access::Define, "relation", Subject::NewRelation { name, temporary });
    }

    fn relation_item(&mut self, node: &Node) {
        let name = name_of(node);
        if name.schema.is_none() && self.ctes.contains(&name.name) {
            self.item(node, None);
            return;
        }
        let op = self.reads();
        let object = self.object(op, Access::Read, "relation", Subject::Relation(name));
        self.item(node, Some(object));
    }

    /// Adds a FROM item to the innermost scope.
    fn item(&mut self, node: &Node, object: Option<usize>) {
        let alias = node.node("alias");
        let name = alias.map_or_else(|| node.text("relname"), |a| a.text("aliasname")).to_owned();
        let renamed = alias.is_some_and(|a| !a.list("colnames").is_empty());
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(Item { alias: name, object, renamed });
        } else if let Some(object) = object {
            self.draft.objects[object].parts_unknown = true;
        }
    }

    fn join(&mut self, node: &Node) {
        let first = self.scopes.last().map_or(0, Vec::len);
        self.visit(node.field("larg"));
        self.visit(node.field("rarg"));
        let hidden = node.is("is_natural") || node.node("alias").is_some() || node.node("join_using_alias").is_some();
        let shared: Vec<String> = node.list("using_clause").iter().map(|c| c.as_text().to_owned()).collect();
        let joined: Vec<usize> =
            self.scopes.last().into_iter().flatten().skip(first).filter_map(|i| i.object).collect();
        for object in joined {
            let object = &mut self.draft.objects[object];
            object.parts_unknown |= hidden;
            object.parts.extend(shared.iter().cloned());
        }
        for alias in [node.node("alias"), node.node("join_using_alias")].into_iter().flatten() {
            if let Some(scope) = self.scopes.last_mut() {
                scope.push(Item { alias: alias.text("aliasname").to_owned(), object: None, renamed: true });
            }
        }
        self.visit_children_but(node, &["larg", "rarg", "alias", "join_using_alias", "using_clause"]);
    }

    // ---- columns

    fn column(&mut self, node: &Node) {
        let fields = node.list("fields");
        if let Some(last) = fields.last()
            && !last.as_text().is_empty()
        {
            self.draft.attributes.insert(last.as_text().to_owned());
        }
        let star = fields.last().and_then(Value::as_node).is_some_and(|n| n.name == "AStar");
        if star && let Some(op) = self.draft.reads {
            self.fact(op, "star");
        }
        match fields {
            [_] if star => {
                let objects: Vec<usize> = self.scopes.last().into_iter().flatten().filter_map(|i| i.object).collect();
                for object in objects {
                    self.part(object, "*", false);
                }
            }
            [column] => self.unqualified(column.as_text()),
            [.., qualifier, column] => {
                let column = if star { "*" } else { column.as_text() };
                let qualifiers: Vec<&str> = fields.iter().map(Value::as_text).collect();
                self.qualified(&qualifiers[..qualifiers.len() - 1], qualifier.as_text(), column);
            }
            [] => {}
        }
    }

    fn part(&mut self, object: usize, column: &str, renamed: bool) {
        let object = &mut self.draft.objects[object];
        if renamed && column != "*" {
            object.parts_unknown = true;
        } else {
            object.parts.insert(column.to_owned());
        }
    }

    fn unqualified(&mut self, column: &str) {
        // A name that is an alias means the whole row.
        let whole: Vec<usize> =
            self.scopes.iter().flatten().filter(|i| i.alias == column).filter_map(|i| i.object).collect();
        for object in whole {
            self.part(object, "*", false);
        }
        let items: Vec<(Option<usize>, bool)> = self.scopes.iter().flatten().map(|i| (i.object, i.renamed)).collect();
        match items.as_slice() {
            [(Some(object), renamed)] => self.part(*object, column, *renamed),
            several => {
                for object in several.iter().filter_map(|(object, _)| *object) {
                    self.draft.objects[object].parts_unknown = true;
                }
            }
        }
    }

    /// `a.b`, `s.a.b`: usually a table and its column, but `a` may also be a column of a row type, or `s.a` a table
    /// with a schema. Whatever matches is marked.
    fn qualified(&mut self, qualifiers: &[&str], last: &str, column: &str) {
        for scope in self.scopes.iter().rev() {
            let found: Vec<(Option<usize>, bool)> =
                scope.iter().filter(|i| i.alias == last).map(|i| (i.object, i.renamed)).collect();
            if !found.is_empty() {
                for (object, renamed) in found {
                    if let Some(object) = object {
                        self.part(object, column, renamed);
                    }
                }
                if qualifiers.len() == 1 {
                    return;
                }
                break;
            }
        }
        // Not an alias, or more than a table and a column: a column of a row type, of any item.
        if qualifiers.len() > 1 || !self.scopes.iter().flatten().any(|i| i.alias == last) {
            let aliases: Vec<usize> = self.scopes.iter().flatten().filter_map(|i| i.object).collect();
            for object in aliases {
                self.draft.objects[object].parts_unknown = true;
            }
        }
    }

    // ---- functions

    pub fn call(&mut self, node: &Node, procedure: bool) {
        let name = name_in(node.field("funcname"));
        let arguments = node.list("args");
        let in_catalogue = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        // `type(value)` is a cast when no function has that name.
        let cast = (arguments.len() == 1 && is_system_type(&name.name)).then_some(Builtin::Read);
        let builtin = if in_catalogue { builtin(&name.name).or(cast) } else { None };
        let setting = (name.name == "set_config" && in_catalogue).then(|| match arguments {
            [setting, value, _] => {
                (constant(setting).unwrap_or_default().to_owned(), constant(value).map(str::to_owned))
            }
            _ => (String::new(), None),
        });
        let call = Call { name, builtin, arguments: arguments.len(), setting, procedure };
        if !self.draft.calls.contains(&call) {
            self.draft.calls.push(call);
        }
        self.visit_children_but(node, &["funcname"]);
    }

    // ---- changes of data

    /// The target of a change: written, and read where its columns are referenced.
    fn target(&mut self, op: usize, node: &Node) -> Option<(usize, usize)> {
        let range_var = node.node("relation")?;
        let name = name_of(range_var);
        let written = self.object(op, Access::Write, "relation", Subject::Relation(name.clone()));
        let read = self.object(op, Access::Read, "relation", Subject::Relation(name));
        self.draft.objects[read].only_if_referenced = true;
        self.item(range_var, Some(read));
        Some((written, read))
    }

    fn assigned(&mut self, object: Option<usize>, targets: &Value) {
        let Some(object) = object else { return };
        for target in targets.as_list().iter().filter_map(Value::as_node) {
            self.draft.objects[object].parts.insert(target.text("name").to_owned());
        }
    }

    fn insert(&mut self, node: &Node) {
        let op = self.op("sql.insert");
        let ctes = self.with(node);
        // The source sees nothing of the target.
        self.visit(node.field("select_stmt"));
        self.scopes.push(Vec::new());
        let target = self.target(op, node);
        if let Some((written, _)) = target {
            if node.list("cols").is_empty() {
                self.draft.objects[written].parts.insert("*".to_owned());
            }
            self.assigned(Some(written), node.field("cols"));
        }
        self.visit(node.field("cols"));
        if let Some(conflict) = node.node("on_conflict_clause") {
            self.fact(op, "on-conflict");
            self.assigned(target.map(|(written, _)| written), conflict.field("target_list"));
            self.visit(node.field("on_conflict_clause"));
        }
        let but = ["relation", "cols", "select_stmt", "on_conflict_clause", "with_clause"];
        self.returning(op, node);
        self.visit_children_but(node, &but);
        self.scopes.pop();
        self.ctes.truncate(ctes);
    }

    fn returning(&mut self, op: usize, node: &Node) {
        if node.node("returning_clause").is_some() {
            self.fact(op, "returning");
        }
    }

    fn update(&mut self, node: &Node) {
        let op = self.op("sql.update");
        let ctes = self.with(node);
        self.scopes.push(Vec::new());
        let target = self.target(op, node);
        self.visit(node.field("from_clause"));
        self.assigned(target.map(|(written, _)| written), node.field("target_list"));
        self.fact(op, if constrains(node.field("where_clause")) { "where" } else { "no-where" });
        self.returning(op, node);
        self.visit_children_but(node, &["relation", "from_clause", "with_clause"]);
        self.scopes.pop();
        self.ctes.truncate(ctes);
    }

    fn delete(&mut self, node: &Node) {
        let op = self.op("sql.delete");
        let ctes = self.with(node);
        self.scopes.push(Vec::new());
        self.target(op, node);
        self.visit(node.field("using_clause"));
        self.fact(op, if constrains(node.field("where_clause")) { "where" } else { "no-where" });
        self.returning(op, node);
        self.visit_children_but(node, &["relation", "using_clause", "with_clause"]);
        self.scopes.pop();
        self.ctes.truncate(ctes);
    }

    fn merge(&mut self, node: &Node) {
        let op = self.op("sql.merge");
        let ctes = self.with(node);
        self.scopes.push(Vec::new());
        let target = self.target(op, node);
        self.visit(node.field("source_relation"));
        for when in node.list("merge_when_clauses").iter().filter_map(Value::as_node) {
            // CMD_UPDATE = 3, CMD_INSERT = 4, CMD_DELETE = 5 in the grammar's numbering.
            let word = match when.word("command_type") {
                3 => "merge:update",
                4 => "merge:insert",
                5 => "merge:delete",
                _ => "merge:nothing",
            };
            self.fact(op, word);
            if word == "merge:insert"
                && when.list("target_list").is_empty()
                && let Some((written, _)) = target
            {
                self.draft.objects[written].parts.insert("*".to_owned());
            }
            self.assigned(target.map(|(written, _)| written), when.field("target_list"));
        }
        self.returning(op, node);
        self.visit_children_but(node, &["relation", "source_relation", "with_clause"]);
        self.scopes.pop();
        self.ctes.truncate(ctes);
    }

    // ---- settings

    /// The operation and the effect of setting `name` (lower case) to `value`, or of resetting it.
    pub fn sets(&mut self, name: &str, effect: SettingChange) -> usize {
        let judged = setting(name);
        let op = self.op(match judged {
            Setting::Harmless => "sql.set",
            Setting::Role => "sql.set_role",
            Setting::SearchPath | Setting::Lexing | Setting::Sensitive => "sql.set_sensitive",
        });
        self.fact(op, format!("setting:{name}"));
        self.draft.effects.extend(setting_effects(judged, effect).into_iter().map(DraftEffect::Session));
        op
    }
}

/// What a setting becomes.
pub(super) enum SettingChange {
    /// The path as a list, when it is one.
    Path(Option<Vec<String>>),
    /// The same, perhaps only for the transaction.
    PathForNow(Option<Vec<String>>),
    /// Its value from before the session.
    Reset,
}

pub(super) fn setting_effects(judged: Setting, change: SettingChange) -> Vec<SessionEffect> {
    match judged {
        Setting::Harmless | Setting::Sensitive => Vec::new(),
        Setting::Role => vec![SessionEffect::SetsRole],
        Setting::Lexing => vec![SessionEffect::SetsLexing],
        Setting::SearchPath => vec![match change {
            SettingChange::Path(path) => SessionEffect::SetsSearchPath(path),
            SettingChange::PathForNow(path) => SessionEffect::SetsSearchPathForNow(path),
            SettingChange::Reset => SessionEffect::ResetsAll,
        }],
    }
}

/// The effects of `set_config(name, value, …)` with constants.
pub(super) fn set_config_effects(name: &str, value: Option<&str>) -> Vec<SessionEffect> {
    setting_effects(setting(name), SettingChange::PathForNow(value.and_then(parse_search_path)))
}

/// A string constant, cast or not.
pub(super) fn constant(value: &Value) -> Option<&str> {
    let node = value.as_node()?;
    match node.name {
        "AConst" => {
            let inner = node.node("val")?;
            (inner.name == "String").then(|| inner.text("sval"))
        }
        _ => None,
    }
}

/// Whether a WHERE clause can leave rows out because of what is in them.
///
/// It is a heuristic on purpose: no condition, one that names no column, one that compares a column with itself, and
/// one OR-ed with such a one do not constrain. `price < 0 OR price >= 0` is not seen through.
pub(super) fn constrains(value: &Value) -> bool {
    let Some(node) = value.as_node() else { return false };
    match node.name {
        "BoolExpr" => {
            let mut parts = node.list("args").iter();
            match node.word("boolop") {
                words::AND => parts.any(constrains),
                words::OR => parts.all(constrains),
                _ => parts.any(constrains),
            }
        }
        "AExpr" => {
            let (left, right) = (node.field("lexpr"), node.field("rexpr"));
            let compares =
                matches!(node.word("kind"), words::AEXPR_OP | words::AEXPR_DISTINCT | words::AEXPR_NOT_DISTINCT);
            names_a_column(value) && !(compares && left == right)
        }
        _ => names_a_column(value),
    }
}

fn names_a_column(value: &Value) -> bool {
    match value {
        Value::List(items) => items.iter().any(names_a_column),
        Value::Node(node) => {
            matches!(node.name, "ColumnRef" | "CurrentOfExpr")
                || node.fields.iter().any(|(_, value)| names_a_column(value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(super::TRANSPARENT.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

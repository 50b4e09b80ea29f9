//! The parse tree in one uniform shape, so that a walk over it cannot skip a child.
//!
//! Every field of every message of the grammar is carried over by serde, so a node type or field that this crate has
//! never heard of still arrives here (and becomes opaque later). It deliberately does not carry integers, except the
//! grammar's own enumerations:
//!
//! INVARIANT: no integer constant of the text reaches the classifier. Texts that differ only in small integers share
//! one cached result (see `template`), so nothing after this file may depend on one.

use serde::ser::{self, Serialize};
use std::fmt;

/// A value of the tree. Defaults (empty, zero, false, absent) are left out of their node altogether.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Nothing,
    True,
    Enum(i64),
    Text(String),
    List(Vec<Value>),
    Node(Box<Node>),
}

/// One message of the grammar, by its type's name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub name: &'static str,
    pub fields: Vec<(&'static str, Value)>,
}

static NOTHING: Value = Value::Nothing;

impl Node {
    pub fn field(&self, name: &str) -> &Value {
        self.fields.iter().find(|(n, _)| *n == name).map_or(&NOTHING, |(_, v)| v)
    }
    pub fn text(&self, name: &str) -> &str {
        self.field(name).as_text()
    }
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.field(name).as_node()
    }
    pub fn list(&self, name: &str) -> &[Value] {
        self.field(name).as_list()
    }
    pub fn is(&self, name: &str) -> bool {
        matches!(self.field(name), Value::True)
    }
    pub fn word(&self, name: &str) -> i64 {
        match self.field(name) {
            Value::Enum(n) => *n,
            _ => 0,
        }
    }
}

impl Value {
    pub fn as_node(&self) -> Option<&Node> {
        match self {
            Self::Node(node) => Some(node),
            _ => None,
        }
    }
    /// The items of a list, or of a `List` node.
    pub fn as_list(&self) -> &[Value] {
        match self {
            Self::List(items) => items,
            Self::Node(node) if node.name == "List" => node.list("items"),
            _ => &[],
        }
    }
    /// The text, or that of a `String` node.
    pub fn as_text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Node(node) if node.name == "String" => node.text("sval"),
            _ => "",
        }
    }
    pub fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// Fields that hold one of the grammar's enumerations; every other integer is dropped (see the invariant above).
/// When adding one: it must not be a number that the text can spell.
const ENUM_FIELDS: &[&str] = &[
    "action",
    "boolop",
    "behavior",
    "coltype",
    "command_type",
    "contype",
    "jointype",
    "kind",
    "limit_option",
    "match_kind",
    "object_type",
    "objtype",
    "op",
    "option",
    "relation_type",
    "remove_type",
    "rename_type",
    "roletype",
    "stmt_type",
    "strength",
    "sub_link_type",
    "subtype",
    "target",
    "targtype",
    "pubobjtype",
];

/// Turns a message of the grammar into the uniform shape.
pub(super) fn value_of(message: &impl Serialize) -> Result<Value, Unserialisable> {
    message.serialize(Builder { keep: false })
}

/// The grammar's bindings produced something that this shape has no place for.
#[derive(Debug)]
pub(super) struct Unserialisable;

impl fmt::Display for Unserialisable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parse tree holds something unknown")
    }
}
impl std::error::Error for Unserialisable {}
impl ser::Error for Unserialisable {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

#[derive(Clone, Copy)]
struct Builder {
    keep: bool,
}

struct Items(Vec<Value>);
struct Fields {
    name: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl Builder {
    fn number(self, n: i64) -> Result<Value, Unserialisable> {
        Ok(if self.keep && n != 0 { Value::Enum(n) } else { Value::Nothing })
    }
}

impl ser::Serializer for Builder {
    type Ok = Value;
    type Error = Unserialisable;
    type SerializeSeq = Items;
    type SerializeTuple = ser::Impossible<Value, Unserialisable>;
    type SerializeTupleStruct = ser::Impossible<Value, Unserialisable>;
    type SerializeTupleVariant = ser::Impossible<Value, Unserialisable>;
    type SerializeMap = ser::Impossible<Value, Unserialisable>;
    type SerializeStruct = Fields;
    type SerializeStructVariant = ser::Impossible<Value, Unserialisable>;

    fn serialize_bool(self, v: bool) -> Result<Value, Unserialisable> {
        Ok(if v { Value::True } else { Value::Nothing })
    }
    fn serialize_i8(self, v: i8) -> Result<Value, Unserialisable> {
        self.number(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<Value, Unserialisable> {
        self.number(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<Value, Unserialisable> {
        self.number(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<Value, Unserialisable> {
        self.number(v)
    }
    fn serialize_u8(self, v: u8) -> Result<Value, Unserialisable> {
        self.number(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<Value, Unserialisable> {
        self.number(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<Value, Unserialisable> {
        self.number(v.into())
    }
    fn serialize_u64(self, _: u64) -> Result<Value, Unserialisable> {
        Ok(Value::Nothing)
    }
    fn serialize_f32(self, _: f32) -> Result<Value, Unserialisable> {
        Ok(Value::Nothing)
    }
    fn serialize_f64(self, _: f64) -> Result<Value, Unserialisable> {
        Ok(Value::Nothing)
    }
    fn serialize_char(self, v: char) -> Result<Value, Unserialisable> {
        Ok(Value::Text(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Value, Unserialisable> {
        Ok(if v.is_empty() { Value::Nothing } else { Value::Text(v.to_owned()) })
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<Value, Unserialisable> {
        Err(Unserialisable)
    }
    fn serialize_none(self) -> Result<Value, Unserialisable> {
        Ok(Value::Nothing)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Unserialisable> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value, Unserialisable> {
        Ok(Value::Nothing)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Unserialisable> {
        Ok(Value::Nothing)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<Value, Unserialisable> {
        Err(Unserialisable)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Unserialisable> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Unserialisable> {
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Items, Unserialisable> {
        Ok(Items(Vec::with_capacity(len.unwrap_or(0))))
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Unserialisable> {
        Err(Unserialisable)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Unserialisable> {
        Err(Unserialisable)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Unserialisable> {
        Err(Unserialisable)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Unserialisable> {
        Err(Unserialisable)
    }
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields, Unserialisable> {
        Ok(Fields { name, fields: Vec::new() })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Unserialisable> {
        Err(Unserialisable)
    }
}

impl ser::SerializeSeq for Items {
    type Ok = Value;
    type Error = Unserialisable;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Unserialisable> {
        self.0.push(value.serialize(Builder { keep: false })?);
        Ok(())
    }
    fn end(self) -> Result<Value, Unserialisable> {
        Ok(if self.0.is_empty() { Value::Nothing } else { Value::List(self.0) })
    }
}

impl ser::SerializeStruct for Fields {
    type Ok = Value;
    type Error = Unserialisable;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Unserialisable> {
        let keep = ENUM_FIELDS.contains(&name);
        let value = value.serialize(Builder { keep })?;
        if !value.is_nothing() {
            self.fields.push((name, value));
        }
        Ok(())
    }
    fn end(mut self) -> Result<Value, Unserialisable> {
        // `Node` is the grammar's envelope around every other message.
        if self.name == "Node" {
            return Ok(self.fields.pop().map_or(Value::Nothing, |(_, v)| v));
        }
        Ok(Value::Node(Box::new(Node { name: self.name, fields: self.fields })))
    }
}

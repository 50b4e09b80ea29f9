//! The Cedar schema: made from the table of actions that the protocols' classifiers can produce.
//!
//! It holds no list of actions of its own, and no protocol's name.

use crate::request::CONTEXT;
use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid};
use onus_core::operation::Class;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::str::FromStr;

/// The schema that policies are validated against and requests are made by.
///
/// Each action is in the group that is named after its class, so `action in Action::"write"` means every action of
/// class *write*.
#[derive(Debug)]
pub struct Schema {
    text: String,
    cedar: cedar_policy::Schema,
    actions: BTreeMap<String, Action>,
    types: Types,
}

/// An action as requests need it.
#[derive(Debug)]
pub(crate) struct Action {
    /// Its one class.
    pub class: Class,
    /// Its Cedar name.
    pub uid: EntityUid,
    /// The group of its class.
    pub group: EntityUid,
    /// Itself, in its group.
    pub entity: Entity,
}

#[derive(Debug)]
struct Types {
    subject: EntityTypeName,
    team: EntityTypeName,
    role: EntityTypeName,
    resource: EntityTypeName,
}

/// Why a table of actions makes no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A name that is not `protocol.verb`.
    #[error("the action `{0}` is not of the form `protocol.verb` in a-z, 0-9, `_` and `.`")]
    Name(String),
    /// A name that stands twice.
    #[error("the action `{0}` is listed twice")]
    Twice(String),
    /// Cedar refused the schema made from the table.
    #[error("the schema made from the actions is refused: {0}")]
    Refused(String),
}

impl Schema {
    /// Makes the schema for these actions, each with its class.
    pub fn new(actions: &[(&str, Class)]) -> Result<Self, SchemaError> {
        let refused = |e: &dyn std::fmt::Display| SchemaError::Refused(e.to_string());
        let name = |word: &str| EntityTypeName::from_str(word).map_err(|e| refused(&e));
        let types =
            Types { subject: name("Subject")?, team: name("Team")?, role: name("Role")?, resource: name("Resource")? };
        let action_type = name("Action")?;
        let uid = |word: &str| EntityUid::from_type_name_and_id(action_type.clone(), EntityId::new(word));
        let mut text = preamble();
        let mut table = BTreeMap::new();
        for (word, class) in actions {
            // The dot keeps actions apart from the groups, whose names are the classes' plain words.
            let proper = word.split('.').count() >= 2
                && word.split('.').all(|part| {
                    !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
                });
            if !proper {
                return Err(SchemaError::Name((*word).to_owned()));
            }
            let _ = writeln!(
                text,
                "action \"{word}\" in [\"{class}\"] appliesTo {{ principal: Subject, resource: Resource, context: Asked }};"
            );
            let group = uid(class.as_str());
            let entity = Entity::new_no_attrs(uid(word), HashSet::from([group.clone()]));
            let action = Action { class: *class, uid: uid(word), group, entity };
            if table.insert((*word).to_owned(), action).is_some() {
                return Err(SchemaError::Twice((*word).to_owned()));
            }
        }
        let (cedar, _) = cedar_policy::Schema::from_cedarschema_str(&text).map_err(|e| refused(&e))?;
        Ok(Self { text, cedar, actions: table, types })
    }

    /// The schema in Cedar's own notation, for people and their editors.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The class of an action; `None` if the schema has no such action.
    pub fn class(&self, action: &str) -> Option<Class> {
        self.actions.get(action).map(|a| a.class)
    }

    /// Every action's name, sorted.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        self.actions.keys().map(String::as_str)
    }

    pub(crate) fn action(&self, name: &str) -> Option<&Action> {
        self.actions.get(name)
    }

    pub(crate) fn cedar(&self) -> &cedar_policy::Schema {
        &self.cedar
    }

    pub(crate) fn subject(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.types.subject.clone(), EntityId::new(id))
    }

    pub(crate) fn team(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.types.team.clone(), EntityId::new(id))
    }

    pub(crate) fn role(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.types.role.clone(), EntityId::new(id))
    }

    pub(crate) fn resource(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.types.resource.clone(), EntityId::new(id))
    }
}

fn preamble() -> String {
    let mut text = String::from(
        "entity Team;\nentity Role;\nentity Subject in [Team, Role] { kind: String, teams: Set<String> };\n\
         entity Resource { service: String, labels: Set<String> };\ntype Asked = {\n",
    );
    for attribute in CONTEXT {
        let _ = writeln!(text, "  {}: {},", attribute.name, attribute.cedar);
    }
    text.push_str("};\n");
    for class in Class::ALL {
        let _ = writeln!(text, "action \"{class}\";");
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The tables that the protocols' classifiers have, as data.
    pub(crate) fn actions() -> Vec<(&'static str, Class)> {
        include_str!("../tests/it/actions.txt")
            .lines()
            .flat_map(|line| {
                let mut words = line.split_whitespace();
                let class = Class::parse(words.next().unwrap()).unwrap();
                words.map(move |word| (word, class))
            })
            .collect()
    }

    #[test]
    fn an_action_can_never_be_taken_for_its_group_nor_write_cedar() {
        for wrong in ["read", "", "sql.", ".x", "sql.a\"", "sql a.b", "SQL.x"] {
            assert_eq!(Schema::new(&[(wrong, Class::Read)]).err(), Some(SchemaError::Name(wrong.to_owned())));
        }
        let twice = [("sql.x", Class::Read), ("sql.x", Class::Write)];
        assert_eq!(Schema::new(&twice).err(), Some(SchemaError::Twice("sql.x".into())));
    }

    #[test]
    fn each_action_is_in_the_group_of_its_class() {
        let schema = Schema::new(&[("sql.select", Class::Read), ("sql.drop", Class::Define)]).unwrap();
        assert_eq!(schema.class("sql.drop"), Some(Class::Define));
        assert!(schema.text().contains("action \"sql.select\" in [\"read\"]"), "{}", schema.text());
    }
}

//! What of the context a policy can look at: so that only this is built, and so that time is noticed.
//!
//! Reads the policy's JSON form (Cedar's "EST"). It may say *uses* of something that is never reached, and never the
//! other way round: any use of `context` that is not the plain `context.name` or `context has name` counts as all.

use crate::request::{CONTEXT, Source};
use serde_json::Value;

/// A set of context attributes, by their place in [`CONTEXT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Uses(u64);

// INVARIANT: every attribute has its own bit.
const _: () = assert!(CONTEXT.len() <= 64);

impl Uses {
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);

    /// Those that a policy or template may look at, by its JSON form.
    pub fn of(policy: &Value) -> Self {
        let mut uses = Self::default();
        uses.walk(policy);
        uses
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the attribute at this place may be looked at.
    pub fn wants(self, place: usize) -> bool {
        self.0 & (1 << place) != 0
    }

    /// Whether anything that changes with the moment may be looked at.
    pub fn moment(self) -> bool {
        CONTEXT.iter().enumerate().any(|(place, attribute)| attribute.source == Source::Moment && self.wants(place))
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Object(fields) => {
                for operator in [".", "has"] {
                    if let Some(access) = fields.get(operator)
                        && access.get("left").is_some_and(is_context)
                        && let Some(name) = access.get("attr").and_then(Value::as_str)
                    {
                        match CONTEXT.iter().position(|attribute| attribute.name == name) {
                            Some(place) => self.0 |= 1 << place,
                            None => *self = Self::ALL,
                        }
                        if fields.len() == 1 {
                            return;
                        }
                    }
                }
                if is_context(value) {
                    *self = Self::ALL;
                }
                for inner in fields.values() {
                    self.walk(inner);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn is_context(value: &Value) -> bool {
    value.get("Var").and_then(Value::as_str) == Some("context")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(condition: &str) -> Uses {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        Uses::of(&cedar_policy::Policy::parse(None, text).unwrap().to_json().unwrap())
    }

    #[test]
    fn time_is_noticed_however_it_is_reached() {
        for timed in [
            "context.hour > 3",
            "context[\"weekday\"] == 1",
            "context has minute",
            "context has minute && context.risk > 1",
            "(if context.risk > 1 then context else context).hour == 3",
            "{a: context}.a.hour == 1",
            "[context].contains({})",
            "!(principal.kind == \"human\" && [1, context.hour].contains(2))",
        ] {
            assert!(of(timed).moment(), "{timed}");
        }
        for timeless in
            ["context.risk > 3", "\"context.hour\" == context.role", "{\"Var\": \"context\"} == {\"Var\": \"hour\"}"]
        {
            assert!(!of(timeless).moment(), "{timeless}");
        }
    }

    #[test]
    fn only_what_is_looked_at_is_wanted() {
        let wanted: Vec<_> = CONTEXT
            .iter()
            .enumerate()
            .filter(|(i, _)| of("context.risk > 3 && context.facts.contains(\"x\")").wants(*i))
            .map(|(_, a)| a.name)
            .collect();
        assert_eq!(wanted, ["facts", "risk"]);
    }
}

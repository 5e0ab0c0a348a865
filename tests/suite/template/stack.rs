//! The stack that a template makes of given parameters: conditions decided, globals merged, every reference a word.
//!
//! A reference to a resource becomes `${Queue}` or `${Queue.Arn}`, as in `Fn::Sub`, so values are compared as text. A parameter becomes its value.

use super::Finding;
use serde_json::{Map, Value, json};
use std::{cell::RefCell, collections::BTreeMap};

/// What a template makes of its parameters.
pub(super) struct Stack {
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) outputs: Map<String, Value>,
    parameters: BTreeMap<String, Value>,
}

/// One resource.
pub(super) struct Resource {
    pub(super) kind: String,
    pub(super) properties: Value,
    /// All but the properties.
    pub(super) attributes: Value,
}

impl Stack {
    /// The stack, and what cannot be resolved.
    pub(super) fn of(template: &Value, choice: &[(&str, &str)]) -> (Self, Vec<Finding>) {
        let mut parameters: BTreeMap<String, Value> = BTreeMap::new();
        for (name, declared) in entries(&template["Parameters"]) {
            let chosen = choice.iter().find(|(chosen, _)| chosen == name).map(|(_, value)| Value::from(*value));
            let value = chosen.unwrap_or_else(|| declared["Default"].clone());
            let is_list = declared["Type"].as_str().is_some_and(|kind| kind.contains("List"));
            let list = || text(&value).split(',').map(Value::from).collect();
            parameters.insert(name.clone(), if is_list { Value::Array(list()) } else { value });
        }
        let resolver = Resolver { template, parameters: &parameters, findings: RefCell::default() };
        let mut resources = BTreeMap::new();
        for (id, resource) in entries(&template["Resources"]) {
            if !resource["Condition"].as_str().is_none_or(|name| resolver.condition(id, name)) {
                continue;
            }
            let kind = text(&resource["Type"]);
            let mut properties = resource["Properties"].clone();
            if kind == "AWS::Serverless::Function" {
                properties = merged(&template["Globals"]["Function"], &properties);
            }
            let properties = resolver.value(id, &properties).unwrap_or(Value::Null);
            let mut attributes = resource.clone();
            let _ = attributes.as_object_mut().and_then(|all| all.remove("Properties"));
            resources.insert(id.clone(), Resource { kind, properties, attributes });
        }
        let outputs = entries(&template["Outputs"])
            .filter(|(id, output)| output["Condition"].as_str().is_none_or(|name| resolver.condition(id, name)))
            .filter_map(|(id, output)| Some((id.clone(), resolver.value(id, &output["Value"])?)))
            .collect();
        let mut findings = resolver.findings.into_inner();
        let stack = Self { resources, outputs, parameters };
        stack.dangling(&mut findings);
        (stack, findings)
    }

    /// All resources of a type, by name.
    pub(super) fn all<'a>(&'a self, kind: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let of_kind = self.resources.iter().filter(move |(_, resource)| resource.kind == kind);
        of_kind.map(|(id, resource)| (id.as_str(), &resource.properties)).collect::<Vec<_>>().into_iter()
    }

    /// A resource's properties, if it is there and of this type.
    pub(super) fn get(&self, id: &str, kind: &str) -> Option<&Value> {
        self.resources.get(id).filter(|resource| resource.kind == kind).map(|resource| &resource.properties)
    }

    pub(super) fn parameter(&self, name: &str) -> String {
        self.parameters.get(name).map(text).unwrap_or_default()
    }

    /// References to what is not there with these parameters.
    fn dangling(&self, findings: &mut Vec<Finding>) {
        let places = self.resources.iter().map(|(id, resource)| (id, &resource.properties)).chain(self.outputs.iter());
        for (id, resource) in &self.resources {
            let mut texts = Vec::new();
            entries(&resource.properties)
                .filter(|(name, _)| *name != "Environment")
                .for_each(|(_, value)| strings(value, &mut texts));
            if texts.iter().any(|text| text.is_empty() || text.contains(":secret:-")) {
                findings.push(Finding::new("reference", id, "has a property that is empty, as its parameter is"));
            }
        }
        for (id, value) in places {
            let mut texts = Vec::new();
            strings(value, &mut texts);
            for name in texts.into_iter().flat_map(references) {
                let known = name.starts_with("AWS::") || self.resources.contains_key(name) || self.is_generated(name);
                if !known {
                    findings.push(Finding::new("reference", id, format!("refers to {name}, which is not there")));
                }
            }
        }
    }

    /// What SAM makes out of a function's events is named after both.
    fn is_generated(&self, name: &str) -> bool {
        self.all("AWS::Serverless::Function")
            .any(|(id, function)| entries(&function["Events"]).any(|(event, _)| name == format!("{id}{event}")))
    }
}

struct Resolver<'a> {
    template: &'a Value,
    parameters: &'a BTreeMap<String, Value>,
    findings: RefCell<Vec<Finding>>,
}

impl Resolver<'_> {
    fn complain(&self, at: &str, says: String) {
        self.findings.borrow_mut().push(Finding::new("reference", at, says));
    }

    fn condition(&self, at: &str, name: &str) -> bool {
        match self.template["Conditions"].get(name) {
            Some(condition) => self.holds(at, condition),
            None => {
                self.complain(at, format!("the condition {name} is not there"));
                false
            }
        }
    }

    fn holds(&self, at: &str, condition: &Value) -> bool {
        let Some((function, operand)) = intrinsic(condition) else {
            self.complain(at, format!("{condition} is no condition"));
            return false;
        };
        let operands = operand.as_array().map(Vec::as_slice).unwrap_or_default();
        match function {
            "Fn::Not" if operands.len() != 1 => {
                self.complain(at, "has a condition Not of something else than one".into());
                false
            }
            "Fn::Equals" if operands.len() != 2 || operands.iter().any(|one| one == &json!({})) => {
                self.complain(at, "has a condition Equals of something else than two".into());
                false
            }
            "Condition" => self.condition(at, &text(operand)),
            "Fn::Not" => !operands.iter().any(|one| self.holds(at, one)),
            "Fn::And" => operands.iter().all(|one| self.holds(at, one)),
            "Fn::Or" => operands.iter().any(|one| self.holds(at, one)),
            "Fn::Equals" => {
                let mut both = operands.iter().map(|one| self.value(at, one).as_ref().map(text));
                both.next() == both.next()
            }
            other => {
                self.complain(at, format!("no check knows the condition {other}"));
                false
            }
        }
    }

    /// The value; `None` for `AWS::NoValue`.
    fn value(&self, at: &str, value: &Value) -> Option<Value> {
        if let Some((function, operand)) = intrinsic(value) {
            return self.intrinsic(at, function, operand);
        }
        Some(match value {
            Value::Object(all) => Value::Object(
                all.iter().filter_map(|(key, value)| Some((key.clone(), self.value(at, value)?))).collect(),
            ),
            Value::Array(all) => Value::Array(all.iter().filter_map(|value| self.value(at, value)).collect()),
            other => other.clone(),
        })
    }

    fn intrinsic(&self, at: &str, function: &str, operand: &Value) -> Option<Value> {
        match function {
            "Ref" => match operand.as_str()? {
                "AWS::NoValue" => None,
                name => {
                    let value = self.parameters.get(name).cloned();
                    Some(value.unwrap_or_else(|| format!("${{{name}}}").into()))
                }
            },
            "Fn::GetAtt" => {
                let parts: Vec<String> =
                    operand.as_array().map(|all| all.iter().map(text).collect()).unwrap_or_default();
                Some(format!("${{{}}}", parts.join(".")).into())
            }
            "Fn::Sub" => {
                let mut words = operand.as_str().map(str::to_owned)?;
                for (name, value) in self.parameters {
                    words = words.replace(&format!("${{{name}}}"), &text(value));
                }
                Some(words.into())
            }
            "Fn::If" => {
                let [condition, yes, no] = operand.as_array()?.as_slice() else { return None };
                self.value(at, if self.condition(at, &text(condition)) { yes } else { no })
            }
            "Fn::Join" => {
                let [between, parts] = operand.as_array()?.as_slice() else { return None };
                let parts = self.value(at, parts)?;
                let parts: Vec<String> = parts.as_array()?.iter().map(text).collect();
                Some(parts.join(&text(between)).into())
            }
            other => {
                self.complain(at, format!("no check knows {other}"));
                None
            }
        }
    }
}

/// A mapping with one key that is the name of a function.
fn intrinsic(value: &Value) -> Option<(&str, &Value)> {
    let all = value.as_object().filter(|all| all.len() == 1)?;
    let (name, operand) = all.iter().next()?;
    let is_condition = name == "Condition" && operand.is_string();
    (name.starts_with("Fn::") || name == "Ref" || is_condition).then_some((name.as_str(), operand))
}

/// A function's properties over those of all functions.
fn merged(global: &Value, own: &Value) -> Value {
    match (global, own) {
        (Value::Object(global_map), Value::Object(own_map))
            if intrinsic(global).is_none() && intrinsic(own).is_none() =>
        {
            let mut all = global_map.clone();
            for (key, value) in own_map {
                let under = all.get(key).cloned().unwrap_or(Value::Null);
                all.insert(key.clone(), merged(&under, value));
            }
            Value::Object(all)
        }
        (global, Value::Null) => global.clone(),
        (_, own) => own.clone(),
    }
}

/// The entries of a mapping; none of anything else.
pub(super) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// A list's items, or the one value that may stand for a list.
pub(super) fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(all) => all.iter().collect(),
        Value::Null => Vec::new(),
        one => vec![one],
    }
}

/// The same as text.
pub(super) fn texts(value: &Value) -> Vec<String> {
    list(value).into_iter().map(text).collect()
}

/// A value as text: a number or a truth value as CloudFormation takes it.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| if value.is_null() { String::new() } else { value.to_string() }, str::to_owned)
}

/// A number, which may be text.
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// The resource that a value refers to by itself: `Queue` of `${Queue}` and of `${Queue.Arn}`.
pub(super) fn target(value: &Value) -> Option<&str> {
    let name = value.as_str()?.strip_prefix("${")?.strip_suffix('}')?;
    let id = name.split('.').next()?;
    (!name.contains(['$', '{'])).then_some(id)
}

/// The resource whose ARN a value is: `Queue` of `${Queue.Arn}`.
pub(super) fn by_arn(value: &Value) -> Option<&str> {
    target(value).filter(|_| value.as_str().is_some_and(|text| text.ends_with(".Arn}")))
}

/// The resource that a value is the `Ref` of: `Queue` of `${Queue}`.
pub(super) fn by_ref(value: &Value) -> Option<&str> {
    target(value).filter(|_| value.as_str().is_some_and(|text| !text.contains('.')))
}

fn strings<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(all) => all.iter().for_each(|value| strings(value, found)),
        Value::Object(all) => all.values().for_each(|value| strings(value, found)),
        _ => {}
    }
}

/// The names in the `${...}` of a text.
fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| rest.split(['.', '}']).next()).filter(|name| !name.starts_with('!'))
}

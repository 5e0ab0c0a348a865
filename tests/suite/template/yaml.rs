//! YAML as data, with CloudFormation's short forms (`!Sub x`) in their long form (`{"Fn::Sub": "x"}`).

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value, json};

/// The document of a text, or what is wrong with it. A key that is there twice is wrong: of two resources with one name, one would be lost.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        let done = match event {
            Event::Scalar(text, style, _, tag) => tagged(scalar(&text, style, tag.is_some()), tag.as_deref()),
            Event::SequenceStart(_, tag) => {
                open.push(Open::List(tag.map(|tag| tag.into_owned()), Vec::new()));
                continue;
            }
            Event::MappingStart(_, tag) => {
                open.push(Open::Map(tag.map(|tag| tag.into_owned()), Map::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(tag, items)) => tagged(Value::Array(items), tag.as_ref()),
                Some(Open::Map(tag, entries, _)) => tagged(Value::Object(entries), tag.as_ref()),
                None => return Err("it ends before it begins".into()),
            },
            Event::Alias(_) => return Err("CloudFormation takes no aliases".into()),
            _ => continue,
        };
        match open.last_mut() {
            None => return Ok(done),
            Some(Open::List(_, items)) => items.push(done),
            Some(Open::Map(_, entries, key)) => match key.take() {
                None => *key = Some(done.as_str().map_or_else(|| done.to_string(), str::to_owned)),
                Some(name) => {
                    if entries.insert(name.clone(), done).is_some() {
                        return Err(format!("line {}: {name} is there twice", span.start.line()));
                    }
                }
            },
        }
    }
    Err("there is no document".into())
}

/// A list or a mapping that has not ended, with its tag; of a mapping also the key that waits for its value.
enum Open {
    List(Option<Tag>, Vec<Value>),
    Map(Option<Tag>, Map<String, Value>, Option<String>),
}

fn scalar(text: &str, style: ScalarStyle, is_tagged: bool) -> Value {
    if is_tagged || style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "true" => true.into(),
        "false" => false.into(),
        "" | "~" | "null" => Value::Null,
        _ => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
    }
}

fn tagged(value: Value, tag: Option<&Tag>) -> Value {
    let Some(tag) = tag else { return value };
    match (tag.suffix.as_str(), &value) {
        ("Ref" | "Condition", _) => json!({ &tag.suffix: value }),
        ("GetAtt", Value::String(name)) => {
            let (resource, attribute) = name.split_once('.').unwrap_or((name, ""));
            json!({ "Fn::GetAtt": [resource, attribute] })
        }
        (function, _) => json!({ format!("Fn::{function}"): value }),
    }
}

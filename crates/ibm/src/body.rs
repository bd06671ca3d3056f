//! Reading JSON bodies with errors that name the property at fault.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::fault::{Fault, Target};

/// Parses a body that must be a JSON object.
pub(crate) fn parse_object(body: &[u8]) -> Result<Value, Fault> {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(Fault::bad(
            "validation_failure",
            "the request body is not a JSON object",
        )),
        Err(error) => Err(Fault::bad(
            "validation_failure",
            format!(
                "the request body is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ),
        )),
    }
}

/// The properties of a JSON object, with the object's path in the body.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The properties of the body itself.
    pub fn of(body: &'a Value) -> Result<Self, Fault> {
        let map = body
            .as_object()
            .ok_or_else(|| Fault::bad("validation_failure", "the request body is not a JSON object"))?;
        Ok(Self {
            map,
            path: String::new(),
        })
    }

    /// Dotted path of a property.
    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Whether the property is there, be it null.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Whether the property is there and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_null)
    }

    pub fn text(&self, name: &str) -> Result<Option<&'a str>, Fault> {
        self.typed(name, "a string", Value::as_str)
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.typed(name, "a boolean", Value::as_bool)
    }

    pub fn integer(&self, name: &str, bounds: RangeInclusive<u32>) -> Result<Option<u32>, Fault> {
        let Some(number) = self.typed(name, "an integer", Value::as_i64)? else {
            return Ok(None);
        };
        let fault = |code, words: &str, bound: u32| {
            let path = self.path_of(name);
            Fault::bad(code, format!("{path} is {number}, which is {words} {bound}"))
                .at(Target::field(path).with_value(number.to_string()))
        };
        if number < i64::from(*bounds.start()) {
            Err(fault("validation_min_value", "less than", *bounds.start()))
        } else if number > i64::from(*bounds.end()) {
            Err(fault("validation_max_value", "more than", *bounds.end()))
        } else {
            Ok(u32::try_from(number).ok())
        }
    }

    pub fn object(&self, name: &str) -> Result<Option<Fields<'a>>, Fault> {
        let map = self.typed(name, "an object", Value::as_object)?;
        Ok(map.map(|map| Fields {
            map,
            path: self.path_of(name),
        }))
    }

    /// Strings of an array, each with its own path.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<(String, &'a str)>>, Fault> {
        self.items(name, "a string", Value::as_str)
    }

    /// Integers of an array, each with its own path.
    pub fn integers(&self, name: &str) -> Result<Option<Vec<(String, i64)>>, Fault> {
        self.items(name, "an integer", Value::as_i64)
    }

    pub fn integer_unbounded(&self, name: &str) -> Result<Option<i64>, Fault> {
        self.typed(name, "an integer", Value::as_i64)
    }

    /// Objects of an array.
    pub fn objects(&self, name: &str) -> Result<Option<Vec<Fields<'a>>>, Fault> {
        let items = self.items(name, "an object", Value::as_object)?;
        Ok(items.map(|items| {
            items
                .into_iter()
                .map(|(path, map)| Fields { map, path })
                .collect()
        }))
    }

    /// Whether the property is an array.
    pub fn is_array(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(Value::is_array)
    }

    /// One of a closed set of words.
    pub fn choice<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Fault> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let path = self.path_of(name);
        choose(text, &path, words).map(Some)
    }

    /// The value, or the error that it is missing.
    pub fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Fault> {
        value.ok_or_else(|| self.missing(name))
    }

    pub fn missing(&self, name: &str) -> Fault {
        let path = self.path_of(name);
        Fault::bad("missing_field", format!("{path} is missing")).at(Target::field(path))
    }

    /// `bad_field` at a property.
    pub fn bad_field(&self, name: &str, why: &str) -> Fault {
        let path = self.path_of(name);
        Fault::bad("bad_field", format!("{path} {why}")).at(Target::field(path))
    }

    /// Refuses properties that may not stand here.
    pub fn refuse(&self, names: &[&str], why: &str) -> Result<(), Fault> {
        match names.iter().find(|name| self.has(name)) {
            Some(name) => Err(self.bad_field(name, why)),
            None => Ok(()),
        }
    }

    fn typed<T>(
        &self,
        name: &str,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(value) = self.map.get(name) else {
            return Ok(None);
        };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(wrong_type(&self.path_of(name), what, value)),
        }
    }

    fn items<T>(
        &self,
        name: &str,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<Vec<(String, T)>>, Fault> {
        let Some(array) = self.typed(name, "an array", Value::as_array)? else {
            return Ok(None);
        };
        array
            .iter()
            .enumerate()
            .map(|(index, value)| {
                let path = format!("{}[{index}]", self.path_of(name));
                match read(value) {
                    Some(item) => Ok((path, item)),
                    None => Err(wrong_type(&path, what, value)),
                }
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Some)
    }
}

/// One of a closed set of words.
pub(crate) fn choose<T: Copy>(text: &str, path: &str, words: &[(&str, T)]) -> Result<T, Fault> {
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Fault::bad(
                "validation_enum",
                format!("{path} must be one of {}", known.join(", ")),
            )
            .at(Target::field(path).with_value(text))
        })
}

fn wrong_type(path: &str, what: &str, value: &Value) -> Fault {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "another number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Fault::bad(
        "validation_invalid_field_type",
        format!("{path} must be {what}, not {found}"),
    )
    .at(Target::field(path))
}

//! The examples of `docs/control-api.md` against the documents that the program knows: each is a whole one, field by field.

use domicile::api::mobility::{BindingDocument, HomeStatus, RegistrationStatus};
use domicile::api::paths::PathsStatus;
use domicile::api::{IkeStatus, SaStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const DOCUMENT: &str = include_str!("../docs/control-api.md");

/// The examples in order.
fn examples() -> Vec<Value> {
    let blocks = DOCUMENT.split("```json").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks
        .map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error} in {block}")))
        .collect()
}

/// The first example in which the function finds what it wants.
fn example(find: impl Fn(&Value) -> Option<&Value>) -> Value {
    examples().iter().find_map(|example| find(example).cloned()).expect("there is such an example")
}

/// What is read and written again is the same: no field is missing in the document, and none is one too many.
#[track_caller]
fn is_whole<T: DeserializeOwned + Serialize>(example: &Value) {
    let read: T =
        serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{error}: {example}"));
    assert_eq!(serde_json::to_value(&read).ok().as_ref(), Some(example));
}

#[test]
fn the_examples_are_whole_documents() {
    is_whole::<PathsStatus>(&example(|value| value.get("history").map(|_| value)));
    is_whole::<RegistrationStatus>(&example(|value| value.get("registrations")?.get(0)));
    is_whole::<HomeStatus>(&example(|value| value.get("home")));
    is_whole::<BindingDocument>(&example(|value| value.get("sequence").map(|_| value)));
    is_whole::<SaStatus>(&example(|value| value.get("children")?.get(0)?.get("inbound")));
    is_whole::<IkeStatus>(&example(|value| value.get("ike")?.get(0)));
}

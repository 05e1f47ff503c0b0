//! What a decision was made from, masked and bounded: written into a line on request, and read from it for a replay.
//!
//! Must never: grow a line beyond its bound, or hold a part of what did not fit.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::mask::Masked;
use super::shapes::{self, ENGINE, NAMESPACE, OURS, REQUEST};
use crate::api::Mode;
use crate::policy::Target;
use crate::review::Review;

/// Most bytes of an input in a line.
pub const MAX_INPUT: usize = 64 << 10;

/// Whether decision lines hold what was decided about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum DecisionInput {
    /// The hash of the review alone.
    #[default]
    None,
    /// The request and the facts that policies saw, with every value masked that may be secret.
    Masked,
}

/// What the policies were shown beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Which policies were asked.
    pub target: Target,
    /// Path of the pod template, where there is one.
    pub pod_path: Option<&'a str>,
    /// The Namespace.
    pub namespace: Option<&'a Value>,
    /// The AIWorkflow.
    pub workflow: Option<&'a Value>,
    /// Each mode that was judged, with its class.
    pub modes: &'a [(Mode, String)],
    /// Each of these classes with the engine that it makes of the workflow's.
    pub classes: &'a [ShownClass<'a>],
}

/// A class as policies saw it.
#[derive(Clone, Debug)]
pub struct ShownClass<'a> {
    /// Its name.
    pub name: &'a str,
    /// The class.
    pub class: Option<&'a Value>,
    /// The engine, as it opens it.
    pub engine: Option<Value>,
}

/// The same, masked, until the line is written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen(Bounded);

/// What a line says of its input.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recorded {
    /// JSON of it.
    Input(String),
    /// It was larger than a line may hold: its size in bytes.
    LeftOut(usize),
}

/// The input of a line, as it is read from it.
#[derive(Clone, Debug, Deserialize)]
pub struct Input {
    /// The AdmissionRequest.
    pub request: Value,
    /// What was known beside it; nothing where no policy and none of the fence's rules on objects was asked.
    #[serde(default)]
    pub facts: Option<InputFacts>,
}

/// The facts of an [`Input`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InputFacts {
    /// Which policies were asked.
    pub target: Target,
    /// Path of the pod template, where there is one.
    #[serde(default)]
    pub pod_path: Option<String>,
    /// The Namespace.
    #[serde(default)]
    pub namespace: Option<Value>,
    /// The AIWorkflow.
    #[serde(default)]
    pub workflow: Option<Value>,
    /// Each mode that was judged, with its class.
    #[serde(default)]
    pub modes: Vec<InputMode>,
    /// The classes.
    #[serde(default)]
    pub classes: Vec<InputClass>,
}

/// A mode of [`InputFacts`].
#[derive(Clone, Debug, Deserialize)]
pub struct InputMode {
    /// The mode.
    pub mode: Mode,
    /// Name of its class.
    pub class: String,
}

/// A class of [`InputFacts`].
#[derive(Clone, Debug, Deserialize)]
pub struct InputClass {
    /// Its name.
    pub name: String,
    /// The class.
    #[serde(default)]
    pub class: Option<Value>,
    /// The engine, as it opens it.
    #[serde(default)]
    pub engine: Option<Value>,
}

impl Seen {
    /// Masks what was shown.
    pub fn of(shown: &Shown<'_>) -> Self {
        Self(Bounded::of(shown))
    }
}

impl Recorded {
    /// Masks a request, and joins what was seen beside it.
    pub fn of(review: &Review, seen: Option<&Seen>) -> Self {
        let object = shapes::of_kind(&review.kind.group, &review.kind.kind);
        let request = Bounded::of(&Masked::request(&review.request, &REQUEST, object));
        let text = |bounded: &Bounded| String::from_utf8_lossy(&bounded.bytes).into_owned();
        let input = match seen {
            None => format!("{{\"request\":{}}}", text(&request)),
            Some(Seen(facts)) => format!("{{\"request\":{},\"facts\":{}}}", text(&request), text(facts)),
        };
        let missing = |bounded: &Bounded| bounded.size.saturating_sub(bounded.bytes.len());
        let size = input
            .len()
            .saturating_add(missing(&request))
            .saturating_add(seen.map_or(0, |seen| missing(&seen.0)));
        if size > MAX_INPUT {
            Self::LeftOut(size)
        } else {
            Self::Input(input)
        }
    }
}

/// JSON with its size. Nothing of it is kept where it is too large.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Bounded {
    bytes: Vec<u8>,
    size: usize,
}

impl Bounded {
    fn of(value: &impl Serialize) -> Self {
        let mut bounded = Self::default();
        if serde_json::to_writer(&mut bounded, value).is_err() {
            // Nothing here fails to serialise. If something did, half a document would be the worst to keep.
            return Self {
                bytes: Vec::new(),
                size: usize::MAX,
            };
        }
        bounded
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size = self.size.saturating_add(bytes.len());
        if self.size > MAX_INPUT {
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Facts<'a> {
            target: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            pod_path: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            namespace: Option<Masked<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            workflow: Option<Masked<'a>>,
            modes: Vec<InMode<'a>>,
            classes: Vec<InClass<'a>>,
        }
        #[derive(Serialize)]
        struct InMode<'a> {
            mode: Mode,
            class: &'a str,
        }
        #[derive(Serialize)]
        struct InClass<'a> {
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            class: Option<Masked<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            engine: Option<Masked<'a>>,
        }
        let classes = self.classes.iter().map(|shown| InClass {
            name: shown.name,
            class: shown.class.map(|class| Masked::new(class, &OURS)),
            engine: shown.engine.as_ref().map(|engine| Masked::new(engine, &ENGINE)),
        });
        let modes = self.modes.iter().map(|(mode, class)| InMode { mode: *mode, class });
        Facts {
            target: self.target.as_str(),
            pod_path: self.pod_path,
            namespace: self.namespace.map(|namespace| Masked::new(namespace, &NAMESPACE)),
            workflow: self.workflow.map(|workflow| Masked::new(workflow, &OURS)),
            modes: modes.collect(),
            classes: classes.collect(),
        }
        .serialize(serializer)
    }
}

//! The CustomResourceDefinitions: made of the types of `api`, committed in `crds/`, and installed by the chart.
//!
//! What runs reads the committed ones, which tests hold to the types: making them takes half a megabyte of code, which is in no binary
//! that does not call it.

use std::sync::LazyLock;

use include_dir::{Dir, include_dir};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::CustomResourceExt;
use serde_json::Value;

use super::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, RegoPolicy, RegoPolicyException, ResolvedNames};

static COMMITTED: Dir = include_dir!("$CARGO_MANIFEST_DIR/crds");

/// Every definition of the group as `crds/` has it, by file name. One that could not be read would be missing, and a test counts them.
pub fn committed() -> &'static [Value] {
    static DEFINITIONS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let texts = COMMITTED.files().filter_map(|file| file.contents_utf8());
        texts.filter_map(|text| serde_saphyr::from_str(text).ok()).collect()
    });
    &DEFINITIONS
}

/// The same, made of the types.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        AIWorkflow::crd(),
        AIWorkflowClass::crd(),
        AIWorkflowGrant::crd(),
        RegoPolicy::crd(),
        RegoPolicyException::crd(),
        ResolvedNames::crd(),
    ];
    for definition in &mut definitions {
        let schemas = definition
            .spec
            .versions
            .iter_mut()
            .filter_map(|version| version.schema.as_mut());
        schemas
            .filter_map(|schema| schema.open_api_v3_schema.as_mut())
            .for_each(without_null);
    }
    definitions
}

/// An optional field is absent or has a value. A null that is let through is a third state, which `has()` in CEL, our types
/// and a reader each take for something else; without `nullable` the API server drops it.
fn without_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
        .for_each(without_null);
    if let Some(items) = &mut schema.items {
        use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaPropsOrArray::{
            Schema, Schemas,
        };
        match items {
            Schema(schema) => without_null(schema),
            Schemas(schemas) => schemas.iter_mut().for_each(without_null),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_committed_is_what_the_types_say() {
        let mut made: Vec<_> = definitions().into_iter().map(|definition| json!(definition)).collect();
        made.sort_by_key(|definition| definition["metadata"]["name"].to_string());
        assert_eq!(committed(), made);
    }
}

//! The CustomResourceDefinitions as they are committed in `crds/` and installed by the chart.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::CustomResourceExt;

use super::{AIWorkflow, AIWorkflowClass, AIWorkflowGrant, RegoPolicy, RegoPolicyException};

/// Every definition of the group.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        AIWorkflow::crd(),
        AIWorkflowClass::crd(),
        AIWorkflowGrant::crd(),
        RegoPolicy::crd(),
        RegoPolicyException::crd(),
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

//! The parameter `version`: what it can name, and that anything else refuses.

use rstest::rstest;
use serde_json::{Value, json};

use crate::compared::{As, CONTROLS, Ours, VERSIONS};
use crate::pods;

#[test]
fn every_version_that_is_known_lets_a_good_pod_pass() {
    for version in VERSIONS {
        let verdicts = Ours::load(&json!(version)).judge(&pods::good(), As::Pod);
        assert_eq!(verdicts.len(), CONTROLS.len());
        for (policy, said) in verdicts {
            assert_eq!(said, Ok(Vec::new()), "{policy} {version}");
        }
    }
}

#[rstest]
fn any_other_refuses(
    #[values(
        "v1.30", "v1.0", "v1.37", "v2.31", "1.36", "V1.36", "v1.36 ", "v1.36.0", "Latest", ""
    )]
    version: &str,
) {
    let verdicts = Ours::load(&json!(version)).judge(&pods::good(), As::Pod);
    assert_eq!(verdicts.len(), CONTROLS.len());
    for (policy, said) in verdicts {
        assert_eq!(said.map(|paths| paths.len()), Ok(1), "{policy} {version:?}");
    }
}

/// The loader holds a parameter to the type of its default.
#[rstest]
fn another_type_is_not_loaded(#[values(json!(1.36), json!(null), json!(["v1.36"]), json!(true))] version: Value) {
    let errors = Ours::try_load(&version).expect_err("must be refused");
    assert_eq!(errors.len(), CONTROLS.len(), "{errors:?}");
}

//! What passes every check, finds nothing wrong with the samples, and eats memory once a review tells it to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringfence::policy::{EvalError, PolicyInput, PolicySet, Source, Target, Verdict};
use ringfence::telemetry::Metrics;
use ringfence::vetting::{Bounds, Vetting};
use ringfence::webhook::{Policies, Pool};
use rstest::rstest;
use serde_json::{Value, json};

use super::{LIMIT, alone, status};

/// More than any of these takes to be stopped, on a machine that has other things to do.
const BUDGET: Duration = Duration::from_secs(60);
/// What the peak may be above the limit: what is not counted, and what one step takes.
const ABOVE: u64 = 64 << 20;

fn policy(name: &str, body: &str) -> Source {
    let text = format!(
        "# METADATA\n# title: Title\n# description: Description\n# custom:\n#   name: {name}\n#   severity: low\n\
         #   remediation: Do it\n#   scope: pod\npackage p\n{body}\n"
    );
    Source {
        file: format!("{name}.rego"),
        text,
    }
}

/// Rules up to a text of 2 MiB, and as many more of that size as a list is long.
const MANY: &str = "[concat(\"\", [a18, sprintf(\"%d\", [n])]) | some n in list]";

fn doubled() -> String {
    let rule = |number: usize| format!("a{number} := concat(\"\", [a{0}, a{0}])\n", number - 1);
    format!("a0 := \"xxxxxxxx\"\n{}", (1..=18).map(rule).collect::<String>())
}

fn texts() -> String {
    format!(
        "{}deny contains \"x\" if {{\n\tlist := input.request.list\n\tcount({MANY}) < 0\n}}",
        doubled()
    )
}

/// The engine passes on no more than the words of what ends a function.
fn within_a_function() -> String {
    format!(
        "{}f(list) := {MANY}\ndeny contains \"x\" if count(f(input.request.list)) < 0",
        doubled()
    )
}

fn sets() -> String {
    "deny contains \"x\" if count({[a, b, c] | some a in input.request.list; some b in input.request.list; some c in input.request.list}) < 0"
        .to_owned()
}

/// Lists of lists: each is a new one.
fn lists() -> String {
    "deny contains \"x\" if count([array.concat(input.request.list, [a, b]) | some a in input.request.list; some b in input.request.list]) < 0"
        .to_owned()
}

fn good() -> Source {
    policy("good", "deny contains \"x\" if input.request.bad")
}

/// As `ringfence run --policies` has them: children have survived them.
fn vetted(sources: Vec<Source>) -> PolicySet {
    let bounds = Bounds {
        wall: Duration::from_secs(100),
        total: Duration::from_secs(200),
        ..Bounds::default()
    };
    Vetting::with(PathBuf::from(env!("CARGO_BIN_EXE_ringfence")), bounds)
        .compile(sources, &BTreeMap::new())
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn input(request: &Value) -> PolicyInput<'_> {
    PolicyInput {
        target: Target::Pod,
        request,
        pod: None,
        workflow: None,
        class: None,
        engine: None,
        namespace: None,
    }
}

fn hungry() -> Value {
    json!({"bad": true, "list": (0..1000).collect::<Vec<_>>()})
}

fn outcome<'a>(verdicts: &'a [Verdict], policy: &str) -> &'a Result<ringfence::policy::Findings, EvalError> {
    &verdicts
        .iter()
        .find(|verdict| verdict.policy == policy)
        .expect("a verdict")
        .outcome
}

#[rstest]
#[case::texts(&texts())]
#[case::sets(&sets())]
#[case::lists(&lists())]
#[case::within_a_function(&within_a_function())]
fn one_that_eats_memory_is_stopped_and_named_and_the_next_is_judged(#[case] body: &str) {
    let _alone = alone();
    let pool = Pool::new(Arc::new(vetted(vec![policy("eats", body), good()])), 2, Arc::default());
    for _ in 0..3 {
        let verdicts = pool.evaluate(&input(&hungry()), BUDGET);
        let error = outcome(&verdicts, "eats").as_ref().expect_err("it must be stopped");
        let EvalError::Memory { mebibytes } = error else {
            panic!("{error:?}")
        };
        assert!((100..=250).contains(mebibytes), "{error}");
        let found = outcome(&verdicts, "good").as_ref().expect("it is judged");
        assert_eq!(found.deny.len(), 1);
    }
    let peak = status("VmHWM:");
    assert!(peak < LIMIT + ABOVE, "held {} MiB", peak >> 20);
}

/// Several that eat, and one that does not, at the same time: whoever is stopped has an error, and who is not at fault is not blamed.
#[test]
fn those_beside_it_are_judged_or_told_of_the_shortage() {
    let _alone = alone();
    let metrics = Arc::new(Metrics::new());
    let eats = Arc::new(Pool::new(
        Arc::new(vetted(vec![policy("eats", &texts())])),
        8,
        metrics.clone(),
    ));
    // It takes a while, and little memory.
    let body = "deny contains \"x\" if count([1 | some a in input.request.list; some b in input.request.list; a + b == 5]) == 6";
    let looks = Arc::new(Pool::new(Arc::new(vetted(vec![policy("looks", body)])), 8, metrics));
    let eating = Arc::new(AtomicBool::new(true));
    let (mut judged, mut short) = (0, 0);
    let innocent = {
        let (eating, looks) = (eating.clone(), looks.clone());
        thread::spawn(move || {
            while eating.load(Ordering::Relaxed) {
                let verdicts = looks.evaluate(&input(&hungry()), BUDGET);
                match outcome(&verdicts, "looks") {
                    Ok(found) => {
                        assert_eq!(found.deny.len(), 1);
                        judged += 1;
                    }
                    Err(error) => {
                        assert_eq!(*error, EvalError::NoMemory);
                        short += 1;
                    }
                }
            }
            (judged, short)
        })
    };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..6 {
                    let verdicts = eats.evaluate(&input(&hungry()), BUDGET);
                    let error = outcome(&verdicts, "eats").as_ref().expect_err("it must be stopped");
                    assert!(
                        matches!(error, EvalError::Memory { .. } | EvalError::NoMemory),
                        "{error:?}"
                    );
                }
            });
        }
    });
    eating.store(false, Ordering::Relaxed);
    let (judged, short) = innocent.join().expect("no panic");
    assert!(judged + short > 0, "nothing was asked meanwhile");
    let peak = status("VmHWM:");
    assert!(peak < LIMIT + ABOVE, "held {} MiB", peak >> 20);
    // Nothing of it is left.
    let verdicts = looks.evaluate(&input(&hungry()), BUDGET);
    assert!(outcome(&verdicts, "looks").is_ok(), "{verdicts:?}");
    let until = Instant::now() + Duration::from_secs(20);
    while status("VmRSS:") > 120 << 20 {
        assert!(Instant::now() < until, "still holds {} MiB", status("VmRSS:") >> 20);
        thread::sleep(Duration::from_millis(50));
        looks.evaluate(&input(&hungry()), BUDGET);
    }
    eprintln!(
        "judged {judged}, short of memory {short}, peak {} MiB, then {} MiB",
        peak >> 20,
        status("VmRSS:") >> 20
    );
}

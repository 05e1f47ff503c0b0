//! Policies that do not end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rstest::rstest;
use serde_json::{Value, json};

use super::super::held::{Room, holding};
use super::*;
use crate::policy::{Findings, Source, Target};

/// Longest that any of these tests waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Policies by their names: `hangs` is in one of the engine's functions, as far as anybody can tell.
struct Scripted {
    names: Vec<&'static str>,
    release: AtomicBool,
    asked: AtomicUsize,
}

impl OneByOne for Scripted {
    type Asked = ();

    fn names(&self, (): &()) -> Vec<String> {
        self.names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn judge(&self, (): &(), number: usize, time: Duration) -> Option<Verdict> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let policy = *self.names.get(number)?;
        match policy {
            "panics" => panic!("scripted"),
            "slow" => thread::sleep(time / 4),
            _ if policy.starts_with("hangs") => {
                let until = Instant::now() + PATIENCE;
                while !self.release.load(Ordering::Relaxed) && Instant::now() < until {
                    thread::sleep(Duration::from_millis(2));
                }
            }
            _ => {}
        }
        Some(Verdict {
            policy: policy.to_owned(),
            outcome: match policy {
                "eats" => Err(EvalError::NoMemory),
                _ => Ok(Findings::default()),
            },
            duration: time,
        })
    }
}

impl Asks for Scripted {
    fn ask(&self, _: &PolicyInput<'_>) {}

    fn action(&self, _: &str) -> ValidationAction {
        ValidationAction::Deny
    }

    fn revision(&self) -> &str {
        "r1"
    }
}

fn pool(names: &[&'static str], threads: usize) -> Pool<Scripted> {
    let scripted = Scripted {
        names: names.to_vec(),
        release: AtomicBool::new(false),
        asked: AtomicUsize::new(0),
    };
    Pool::new(Arc::new(scripted), threads, Arc::new(Metrics::new()))
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

/// Each policy and what became of it.
fn asked<P: Asks>(pool: &Pool<P>, budget: Duration) -> Vec<(String, Option<EvalError>)> {
    asked_about(pool, &json!({}), budget)
}

fn asked_about<P: Asks>(pool: &Pool<P>, request: &Value, budget: Duration) -> Vec<(String, Option<EvalError>)> {
    let start = Instant::now();
    let verdicts = pool.evaluate(&input(request), budget);
    let took = start.elapsed();
    assert!(took < budget, "took {took:?} of {budget:?}");
    verdicts
        .into_iter()
        .map(|verdict| (verdict.policy, verdict.outcome.err()))
        .collect()
}

fn said(verdicts: &[(String, Option<EvalError>)]) -> Vec<(&str, Option<&EvalError>)> {
    verdicts
        .iter()
        .map(|(policy, error)| (policy.as_str(), error.as_ref()))
        .collect()
}

fn release(pool: &Pool<Scripted>) {
    pool.policies.release.store(true, Ordering::Relaxed);
    let until = Instant::now() + PATIENCE;
    while !pool.evaluator.threads.overrun_by().is_empty() {
        assert!(Instant::now() < until, "the threads do not come back");
        thread::sleep(Duration::from_millis(2));
    }
}

fn running(pool: &Pool<Scripted>) -> String {
    let text = pool.evaluator.metrics.encode().expect("text");
    let line = text
        .lines()
        .find(|line| line.starts_with("ringfence_policy_overruns_running "));
    line.unwrap_or_default().to_owned()
}

#[test]
fn one_that_does_not_end_is_named_and_the_others_are_asked() {
    let pool = pool(&["a", "hangs", "slow", "z"], 8);
    let verdicts = asked(&pool, Duration::from_secs(4));
    assert_eq!(
        said(&verdicts),
        [
            ("a", None),
            ("hangs", Some(&EvalError::Timeout)),
            ("slow", None),
            ("z", None)
        ]
    );
    assert_eq!(running(&pool), "ringfence_policy_overruns_running 1");
    release(&pool);
}

#[test]
fn it_is_not_asked_again_until_it_ends_and_nobody_waits_for_it() {
    let pool = pool(&["hangs", "z"], 8);
    asked(&pool, Duration::from_secs(5));
    let before = pool.policies.asked.load(Ordering::Relaxed);
    let start = Instant::now();
    let verdicts = asked(&pool, Duration::from_secs(2));
    assert_eq!(said(&verdicts), [("hangs", Some(&EvalError::Unended)), ("z", None)]);
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    assert_eq!(
        pool.policies.asked.load(Ordering::Relaxed),
        before + 1,
        "only z was asked"
    );

    release(&pool);
    assert_eq!(
        said(&asked(&pool, Duration::from_secs(4))),
        [("hangs", None), ("z", None)]
    );
    assert_eq!(running(&pool), "ringfence_policy_overruns_running 0");
}

fn of(namespace: &str, pool: &Pool<Scripted>, budget: Duration) -> Option<EvalError> {
    let verdicts = asked_about(pool, &json!({"namespace": namespace}), budget);
    verdicts.into_iter().next().and_then(|(_, error)| error)
}

/// Else a tenant who makes a policy go on switches it off for everybody.
#[test]
fn other_namespaces_ask_on() {
    let pool = pool(&["hangs"], 64);
    let (long, short) = (Duration::from_secs(5), Duration::from_millis(400));
    assert_eq!(of("a", &pool, long), Some(EvalError::Timeout));
    assert_eq!(of("a", &pool, short), Some(EvalError::Unended));
    assert_eq!(of("b", &pool, short), Some(EvalError::Timeout), "it was asked");
    release(&pool);
    assert_eq!(of("a", &pool, long), None);
}

/// Who asks says how long it waits for the answer.
#[test]
fn an_evaluation_that_was_given_little_time_does_not_count_at_once() {
    let pool = pool(&["hangs"], 64);
    let short = Duration::from_millis(400);
    assert_eq!(of("a", &pool, short), Some(EvalError::Timeout));
    assert_eq!(of("a", &pool, short), Some(EvalError::Timeout), "it was asked");
    release(&pool);
}

#[test]
fn a_policy_that_holds_more_than_a_quarter_of_the_threads_is_asked_by_nobody() {
    let pool = pool(&["hangs"], 8);
    let short = Duration::from_millis(400);
    for namespace in ["a", "b", "c"] {
        assert_eq!(of(namespace, &pool, short), Some(EvalError::Timeout));
    }
    assert_eq!(of("d", &pool, short), Some(EvalError::Unended));
    release(&pool);
}

#[test]
fn where_no_thread_is_left_that_is_said_in_time() {
    let pool = pool(&["hangs-1", "hangs-2", "z"], 2);
    let verdicts = asked(&pool, Duration::from_secs(3));
    let expected = [
        ("hangs-1", Some(&EvalError::Timeout)),
        ("hangs-2", Some(&EvalError::Timeout)),
        ("z", Some(&EvalError::NoThread)),
    ];
    assert_eq!(said(&verdicts), expected);
    release(&pool);
    assert_eq!(
        said(&asked(&pool, Duration::from_secs(4))),
        [("hangs-1", None), ("hangs-2", None), ("z", None)]
    );
}

/// Its thread has another take its place once there is work.
#[test]
fn a_shortage_of_memory_is_a_verdict_and_costs_no_thread_that_is_missed() {
    let pool = pool(&["a", "eats", "slow", "z"], 1);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let verdicts = asked(&pool, Duration::from_secs(8));
                assert_eq!(
                    said(&verdicts),
                    [
                        ("a", None),
                        ("eats", Some(&EvalError::NoMemory)),
                        ("slow", None),
                        ("z", None)
                    ]
                );
            });
        }
    });
}

#[test]
fn a_panic_is_a_verdict_and_costs_no_thread() {
    let pool = pool(&["a", "panics", "z"], 1);
    for _ in 0..3 {
        let verdicts = asked(&pool, Duration::from_secs(4));
        assert_eq!(
            said(&verdicts),
            [("a", None), ("panics", Some(&EvalError::Panic)), ("z", None)]
        );
    }
}

#[test]
fn more_requests_than_threads_take_turns() {
    let pool = pool(&["a", "b", "c"], 2);
    thread::scope(|scope| {
        let asking: Vec<_> = (0..50).map(|_| scope.spawn(|| asked(&pool, PATIENCE))).collect();
        for asking in asking {
            let verdicts = asking.join().expect("no panic");
            assert_eq!(said(&verdicts), [("a", None), ("b", None), ("c", None)]);
        }
    });
}

/// Its request is still in memory.
#[tokio::test]
async fn what_a_request_holds_stays_with_the_evaluation_that_is_left_behind() {
    let pool = pool(&["hangs"], 2);
    let budget = Arc::new(());
    let none = || Arc::new(tokio::sync::Semaphore::new(0));
    let room = Room::new(0, none(), none());
    let held = Held::new(budget.clone(), room, tokio::time::Instant::now());
    holding(held, async { asked(&pool, Duration::from_millis(500)) }).await;
    assert_eq!(Arc::strong_count(&budget), 2, "the evaluation holds it");
    release(&pool);
    let until = Instant::now() + PATIENCE;
    while Arc::strong_count(&budget) > 1 {
        assert!(Instant::now() < until, "it is never given back");
        thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_most_threads_are_gone_the_replica_is_not_ready_and_then_ends() {
    let readiness = Readiness::default();
    for gate in [
        Gate::Caches,
        Gate::Certificate,
        Gate::Crds,
        Gate::Policies,
        Gate::RegoPolicies,
    ] {
        readiness.set(gate, Ok(()));
    }
    let pool = Arc::new(pool(&["hangs-1", "hangs-2"], 3));
    let (watched, gates) = (pool.clone(), readiness.clone());
    let watching = tokio::spawn(async move { watched.evaluator.exhausted(&gates, Duration::from_secs(1)).await });
    let asking = pool.clone();
    tokio::task::spawn_blocking(move || asked(&asking, Duration::from_secs(2)))
        .await
        .expect("no panic");
    let until = Instant::now() + PATIENCE;
    while readiness.is_ready() {
        assert!(Instant::now() < until, "it stays ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let names = timeout(PATIENCE, watching).await.expect("it ends").expect("no panic");
    assert_eq!(names, ["hangs-1", "hangs-2"]);
    release(&pool);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_that_come_back_in_time_make_it_ready_again() {
    let readiness = Readiness::default();
    for gate in [
        Gate::Caches,
        Gate::Certificate,
        Gate::Crds,
        Gate::Policies,
        Gate::RegoPolicies,
    ] {
        readiness.set(gate, Ok(()));
    }
    let pool = Arc::new(pool(&["hangs-1", "hangs-2"], 3));
    let (watched, gates) = (pool.clone(), readiness.clone());
    let watching = tokio::spawn(async move { watched.evaluator.exhausted(&gates, PATIENCE).await });
    let asking = pool.clone();
    tokio::task::spawn_blocking(move || asked(&asking, Duration::from_secs(2)))
        .await
        .expect("no panic");
    for ready in [false, true] {
        let until = Instant::now() + PATIENCE;
        while readiness.is_ready() != ready {
            assert!(Instant::now() < until, "ready should be {ready}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        release(&pool);
    }
    assert!(!watching.is_finished());
    watching.abort();
}

/// For an input that no vetting could foresee.
#[rstest]
#[case::a_function_that_no_timer_stops(
    "deny contains \"x\" if strings.any_prefix_match(input.request.words, input.request.others)",
    true
)]
#[case::loops(
    "l := input.request.list\ndeny contains \"x\" if count([1 | some a in l; some b in l; some c in l; a + b + c == -1]) > 0",
    false
)]
fn a_policy_that_an_input_makes_run_away_is_bounded(#[case] body: &str, #[case] takes_its_thread_along: bool) {
    let named = |name: &str, body: &str| Source {
        file: format!("{name}.rego"),
        text: format!(
            "# METADATA\n# title: T\n# description: D\n# custom:\n#   name: {name}\n#   severity: low\n#   remediation: R\n\
             #   scope: pod\npackage p\n{body}\n"
        ),
    };
    let sources = vec![named("after", "deny contains \"found\""), named("absurd", body)];
    let set = PolicySet::compile(sources, &BTreeMap::new()).expect("they are good");
    let pool = Pool::new(Arc::new(set), 4, Arc::new(Metrics::new()));
    // Billions of comparisons in one function; as many steps in a loop.
    let words = |first: &str| (0..60_000).map(|word| format!("{first}{word}")).collect::<Vec<_>>();
    let request = json!({"words": words("a"), "others": words("b"), "list": (0..1000).collect::<Vec<_>>()});
    assert_eq!(
        said(&asked_about(&pool, &request, Duration::from_secs(2))),
        [("absurd", Some(&EvalError::Timeout)), ("after", None)]
    );
    assert_eq!(!pool.evaluator.threads.overrun_by().is_empty(), takes_its_thread_along);
}

//! The child's side: takes rights and resources from itself, reads, compiles and evaluates policies, and says what it found.
//!
//! Must never: read a policy before the limits are set, or say that nothing is wrong when it did not get to the end.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::question::{Answer, COMPILING, DOING, MAX_ERRORS, MAX_MESSAGE, Question, Scope, What};
use super::samples::{SAMPLES, Sample};
use super::suites;
use crate::api::RegoPolicySpec;
use crate::fence::template_of;
use crate::policy::{Declared, EvalError, LoadError, NO_MEMORY, PolicySet, Registered, limit_memory};

/// What the allocator may hold beyond what is counted, so that the count strikes first, which says more.
const SLACK: u64 = 32 << 20;
/// Address space beside memory in use: the binary itself, and what the allocator reserves without using it.
const ADDRESSES: u64 = 1 << 30;

/// Answers the question on standard input.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text)?;
    // Texts of policies are but strings here: they are looked into once the limits are set.
    let question: Question = serde_json::from_slice(&text)?;
    drop(text);
    let stack = u64::try_from(question.stack).unwrap_or(u64::MAX);
    limit(Resource::Core, 0)?;
    // At the softer limit the signal says what happened; at the harder one it would be one that anybody may have sent.
    limit_within(
        Resource::Cpu,
        question.cpu_seconds,
        question.cpu_seconds.saturating_add(1),
    )?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, 0)?;
    let memory = question.memory.saturating_add(SLACK).saturating_add(stack);
    limit(Resource::Data, memory)?;
    // Where the kernel does not count the former, such as on macOS, this holds, if less closely.
    limit(Resource::As, memory.saturating_add(ADDRESSES))?;
    let thread = thread::Builder::new().stack_size(question.stack).spawn(move || {
        // Threads count as processes: this one was the last.
        limit(Resource::Nproc, 0)?;
        match question.what {
            What::Tests(run) => {
                limit_memory(question.memory);
                suites::answer(&run, question.memory, io::stdout().lock()).map(|()| Vec::new())
            }
            _ => serde_json::to_vec(&judge(question)).map_err(io::Error::from),
        }
    })?;
    let answer = thread
        .join()
        .map_err(|_| io::Error::other("the thread that vets panicked"))??;
    let mut out = io::stdout().lock();
    out.write_all(&answer)?;
    out.flush()
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    limit_within(resource, most, most)
}

/// Sets a limit, or as much of it as may be set: a lower one that is there already is as good.
fn limit_within(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let there = getrlimit(resource).maximum;
    let most = |wanted: u64| Some(there.map_or(wanted, |there| there.min(wanted)));
    let limits = Rlimit {
        current: most(soft),
        maximum: most(hard),
    };
    match setrlimit(resource, limits) {
        Err(error) if cfg!(target_os = "linux") => Err(io::Error::other(format!("cannot limit {resource:?}: {error}"))),
        // Elsewhere each system knows some of them.
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn doing(what: &str) {
    // It goes to the parent for its error, and there is nobody to tell when it cannot be written.
    let _ = writeln!(io::stderr(), "{DOING}{what}");
}

fn judge(question: Question) -> Answer {
    // Stops most of what takes too much with an error that names it. The limits of the system are for what the engine does between
    // two looks, and end the process.
    limit_memory(question.memory);
    let trial = Trial {
        scope: match question.what {
            What::File { .. } | What::Object(_) | What::Tests(_) => Scope::Alone,
            What::Set { .. } => Scope::Set,
        },
        memory: question.memory,
        time: Duration::from_millis(question.sample_milliseconds),
    };
    doing(COMPILING);
    let tried = match question.what {
        What::File { source, parameters } => {
            PolicySet::compile_alone(source, &parameters).map(|set| on_samples(&set, &trial))
        }
        What::Set { sources, parameters } => {
            PolicySet::compile(sources, &parameters).map(|set| on_samples(&set, &trial))
        }
        What::Object(declared) => {
            Registered::compile(&declared).map(|policy| on_all_samples(&policy, &declared.spec, &trial))
        }
        What::Tests(_) => Err(vec![LoadError::file("tests", "are answered one by one")]),
    };
    match tried {
        Ok(found) => Answer {
            on_samples: bounded(found),
            ..Answer::default()
        },
        Err(mut errors) => {
            for error in errors.iter_mut().filter(|error| error.message == NO_MEMORY) {
                error.message = trial.scope.took_memory(COMPILING, trial.memory);
            }
            Answer {
                refused: bounded(errors),
                ..Answer::default()
            }
        }
    }
}

/// What policies are tried within.
struct Trial {
    scope: Scope,
    memory: u64,
    /// Of one policy on one sample.
    time: Duration,
}

/// Evaluates policies of files on each sample, up to the first on which one hangs or panics. That one of them fails is no mistake:
/// the sample is none of its author's.
fn on_samples(set: &PolicySet, trial: &Trial) -> Vec<LoadError> {
    for sample in SAMPLES.iter() {
        doing(&evaluated_on(sample));
        // A policy may use half of what is left.
        let verdicts = set.evaluate(&sample.input(), trial.time * 2).into_iter();
        let errors: Vec<_> = verdicts
            .filter_map(|verdict| {
                let policy = set.policies().find(|policy| policy.metadata.name == verdict.policy);
                let file = policy.map_or(verdict.policy.as_str(), |policy| policy.file.as_str());
                trial.refused(file, sample, verdict.outcome.as_ref().err()?)
            })
            .collect();
        if !errors.is_empty() {
            return errors;
        }
    }
    Vec::new()
}

/// The same of a RegoPolicy, and then its own samples.
fn on_all_samples(policy: &Registered, spec: &RegoPolicySpec, trial: &Trial) -> Vec<LoadError> {
    if let Some(error) = on_ordinary_samples(policy, spec, trial) {
        return vec![error];
    }
    doing("evaluated on its own samples");
    policy.on_own_samples(template_of, trial.time)
}

fn on_ordinary_samples(policy: &Registered, spec: &RegoPolicySpec, trial: &Trial) -> Option<LoadError> {
    let first = spec.rego.modules.first();
    let file = first.map_or("policy", |module| module.name.as_str());
    SAMPLES.iter().find_map(|sample| {
        doing(&evaluated_on(sample));
        let outcome = policy.on(&sample.input(), trial.time);
        trial.refused(file, sample, &outcome.err()?)
    })
}

/// Whether a RegoPolicy can be used at all, before its own samples are asked about one by one.
pub(super) fn usable(declared: &Declared, memory: u64, time: Duration) -> Result<Registered, Vec<LoadError>> {
    let trial = Trial {
        scope: Scope::Alone,
        memory,
        time,
    };
    doing(COMPILING);
    let policy = Registered::compile(declared)?;
    match on_ordinary_samples(&policy, &declared.spec, &trial) {
        None => Ok(policy),
        Some(error) => Err(vec![error]),
    }
}

fn evaluated_on(sample: &Sample) -> String {
    format!("evaluated on {}", sample.name)
}

impl Trial {
    fn refused(&self, file: &str, sample: &Sample, error: &EvalError) -> Option<LoadError> {
        let (name, time) = (sample.name, self.time);
        let what = match (error, self.scope) {
            (EvalError::Timeout, Scope::Alone) => format!(
                "it did not finish in {} ms on {name}: make it look at less; all policies together have seconds for a review",
                time.as_millis()
            ),
            (EvalError::Timeout, Scope::Set) => format!(
                "there was no time left for it on {name}: the policies before it took most of {} ms, and all of them together \
                 have seconds for a review; make the slow ones look at less",
                time.as_millis() * 2
            ),
            (EvalError::Panic, _) => format!(
                "it made the engine panic on {name}, and would refuse whatever is like it: find the call of a built-in function \
                 with arguments that make no sense, such as an empty string to look for"
            ),
            (EvalError::Shape(what), _) => format!("{what}, on {name}: see what the entry points may give"),
            (EvalError::Memory { .. } | EvalError::NoMemory, scope) => {
                scope.took_memory(&evaluated_on(sample), self.memory)
            }
            (
                EvalError::Broken(_)
                | EvalError::Error(_)
                | EvalError::NoThread
                | EvalError::Unended
                | EvalError::Unsynced(_),
                _,
            ) => return None,
        };
        Some(LoadError::file(file, what))
    }
}

pub(super) fn bounded(mut errors: Vec<LoadError>) -> Vec<LoadError> {
    let more = errors.len().saturating_sub(MAX_ERRORS);
    errors.truncate(MAX_ERRORS);
    for error in &mut errors {
        if let Some((at, _)) = error.message.char_indices().nth(MAX_MESSAGE) {
            error.message.truncate(at);
            error.message.push('…');
        }
    }
    if more > 0 {
        errors.push(LoadError::file(
            "policies",
            format!("{more} more errors are not listed"),
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;
    use crate::policy::Source;

    fn set(body: &str) -> PolicySet {
        let text = format!(
            "# METADATA\n# title: T\n# description: D\n# custom:\n#   name: p\n#   severity: low\n#   remediation: R\n\
             #   scope: pod\npackage p\n{body}\n"
        );
        let file = "p.rego".to_owned();
        PolicySet::compile(vec![Source { file, text }], &BTreeMap::new()).expect("it is good")
    }

    fn trial(scope: Scope, time: Duration) -> Trial {
        Trial {
            scope,
            memory: 160 << 20,
            time,
        }
    }

    #[rstest]
    #[case::alone(Scope::Alone, "p.rego: it did not finish in 0 ms on an ordinary Pod")]
    #[case::together(Scope::Set, "p.rego: there was no time left for it on an ordinary Pod")]
    fn no_time_left_is_an_error_of_the_first_sample_alone(#[case] scope: Scope, #[case] words: &str) {
        let errors = on_samples(&set("deny contains \"x\""), &trial(scope, Duration::ZERO));
        let [error] = errors.as_slice() else {
            panic!("one error expected: {errors:?}")
        };
        assert!(error.to_string().starts_with(words), "{error}");
    }

    #[rstest]
    #[case::refuses("deny contains \"x\"")]
    #[case::fails("deny contains \"x\" if startswith(input.pod.spec, \"a\")")]
    fn a_policy_may_refuse_a_sample_and_fail_on_it(#[case] body: &str) {
        assert_eq!(
            on_samples(&set(body), &trial(Scope::Alone, Duration::from_secs(20))),
            []
        );
    }

    #[test]
    fn what_is_no_verdict_is_an_error_of_the_first_sample() {
        let errors = on_samples(&set("deny contains 1"), &trial(Scope::Alone, Duration::from_secs(20)));
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "p.rego: `deny` has an element that is neither a string nor an object with `msg`, on an ordinary Pod: see what the entry points may give"
            ]
        );
    }

    #[test]
    fn errors_are_bounded_and_the_rest_is_counted() {
        let long = "é".repeat(MAX_MESSAGE * 2);
        let errors = bounded(vec![LoadError::file("p.rego", long); MAX_ERRORS + 7]);
        assert_eq!(errors.len(), MAX_ERRORS + 1);
        assert_eq!(errors[0].message.chars().count(), MAX_MESSAGE + 1);
        assert_eq!(errors[MAX_ERRORS].to_string(), "policies: 7 more errors are not listed");
    }
}

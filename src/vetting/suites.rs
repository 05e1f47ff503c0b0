//! Tests run in a child process, so that one that hangs, overflows the stack or takes the memory is a test that fails, and named.
//!
//! Must never: take a test that no child has told about for one that passed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::child::{bounded, doing, usable};
use super::process::{self, Death};
use super::question::{COMPILING, What};
use super::{Bounds, Vetting};
use crate::fence::template_of;
use crate::policy::{Declared, LoadError, Ran, Registered, Suite, TestRule, TestVerdict, Testing};

/// Most tests of a suite that may end their process, before the others are given up.
const MAX_DEATHS: usize = 8;
/// How much longer than a test may take its process is waited for: the engine's own timer strikes first, where it can.
const GRACE: Duration = Duration::from_secs(3);
/// Largest pattern, compiled, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// What is tested together, in one process.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Tested {
    /// Files of Rego.
    Rego(Suite),
    /// A RegoPolicy, by its samples.
    Object {
        /// Where it was read.
        file: String,
        /// The object.
        declared: Box<Declared>,
    },
}

/// How tests are run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct How {
    /// Which of them, by a regular expression on their paths: `data.p_test.test_x`, or the name of a sample.
    pub pattern: Option<String>,
    /// How long each may take, in milliseconds.
    pub milliseconds: u64,
    /// Whether the lines that they reach are told.
    pub reached: bool,
}

/// What a child is asked.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Run {
    tested: Tested,
    how: How,
    /// The first one that is run.
    from: usize,
}

/// What it answers, line by line.
#[derive(Debug, Deserialize, Serialize)]
enum Said {
    Refused(Vec<LoadError>),
    Loaded {
        rules: Vec<TestRule>,
        lines: BTreeMap<String, BTreeSet<u32>>,
    },
    Began(usize),
    Ran {
        number: usize,
        ran: Ran,
        microseconds: u64,
    },
    Done,
}

/// What became of what was tested together.
#[derive(Clone, Debug, Default)]
pub struct Tests {
    /// Why nothing could be run.
    pub refused: Vec<LoadError>,
    /// Tests, in order.
    pub rules: Vec<TestedRule>,
    /// Lines that can be reached, by file.
    pub lines: BTreeMap<String, BTreeSet<u32>>,
    /// Those that were.
    pub reached: BTreeMap<String, BTreeSet<u32>>,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct TestedRule {
    /// Which.
    pub rule: TestRule,
    /// How it went; `None` where it is skipped.
    pub ran: Option<Ran>,
    /// How long it took.
    pub took: Duration,
}

impl How {
    /// The pattern, ready for use.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pattern(&self) -> Result<Option<Regex>, regex::Error> {
        let pattern = self.pattern.as_deref();
        pattern
            .map(|pattern| RegexBuilder::new(pattern).size_limit(MAX_PATTERN).build())
            .transpose()
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }
}

impl Tested {
    fn file(&self) -> &str {
        match self {
            Self::Rego(suite) => {
                let all = [&suite.policies, &suite.modules, &suite.tests];
                all.into_iter()
                    .flatten()
                    .next()
                    .map_or("tests", |source| source.file.as_str())
            }
            Self::Object { file, .. } => file,
        }
    }
}

impl Vetting {
    /// Runs tests in a child, and in another one after each that ends it. Blocks, for as long as the tests take together at most.
    pub fn run_tests(&self, tested: &Tested, how: &How) -> Tests {
        let bounds = Bounds {
            // Alone, it has the memory of all.
            memory: self.bounds.memory * super::CHILDREN as u64,
            cpu: Duration::from_secs(3600),
            ..self.bounds.clone()
        };
        let mut tests = Tests::default();
        let (mut from, mut deaths) = (0, 0);
        loop {
            let mut heard = Heard {
                tests: &mut tests,
                now: None,
                done: false,
                how,
                idle: bounds.wall,
            };
            let run = Run {
                tested: tested.clone(),
                how: how.clone(),
                from,
            };
            let question = bounds.question(What::Tests(Box::new(run)));
            let ended = process::follow(&self.program, &question, bounds.wall, |said| heard.hear(said));
            let (now, done) = (heard.now, heard.done);
            let death = match ended {
                Ok(()) if done => return tests,
                Ok(()) => Death::Failed("ended before all tests were run".to_owned()),
                Err(death) => death,
            };
            let Some(number) = now else {
                tests
                    .refused
                    .push(LoadError::file(tested.file(), death.of_suite(&bounds)));
                return tests;
            };
            tests.ended(number, death.of_test(&bounds));
            (from, deaths) = (number + 1, deaths + 1);
            if deaths >= MAX_DEATHS {
                let why = format!("it was not run: {deaths} tests before it ended their process");
                (from..tests.rules.len()).for_each(|number| tests.ended(number, why.clone()));
                return tests;
            }
        }
    }
}

impl Tests {
    fn ended(&mut self, number: usize, why: String) {
        if let Some(tested) = self.rules.get_mut(number).filter(|tested| !tested.rule.skipped) {
            tested.ran = Some(plainly(TestVerdict::Error(why)));
        }
    }
}

struct Heard<'a> {
    tests: &'a mut Tests,
    /// The test that runs.
    now: Option<usize>,
    done: bool,
    how: &'a How,
    idle: Duration,
}

impl Heard<'_> {
    /// Takes in what is said, and tells how long to wait for what comes next.
    fn hear(&mut self, said: Said) -> Duration {
        match said {
            Said::Refused(errors) => {
                self.tests.refused = errors;
                self.done = true;
            }
            Said::Loaded { rules, lines } if self.tests.rules.is_empty() => {
                let rules = rules.into_iter().map(|rule| TestedRule {
                    rule,
                    ran: None,
                    took: Duration::ZERO,
                });
                self.tests.rules = rules.collect();
                self.tests.lines = lines;
            }
            Said::Loaded { .. } => {}
            Said::Began(number) => {
                self.now = Some(number);
                // Where it fails, it is run once more for where it stops.
                return self.how.limit() * 2 + GRACE;
            }
            Said::Ran {
                number,
                mut ran,
                microseconds,
            } => {
                self.now = None;
                for (file, lines) in std::mem::take(&mut ran.reached) {
                    self.tests.reached.entry(file).or_default().extend(lines);
                }
                if let Some(tested) = self.tests.rules.get_mut(number) {
                    tested.ran = Some(ran);
                    tested.took = Duration::from_micros(microseconds);
                }
            }
            Said::Done => self.done = true,
        }
        self.idle
    }
}

/// Of what is not a rule, or did not come to an end.
fn plainly(verdict: TestVerdict) -> Ran {
    Ran {
        verdict,
        prints: Vec::new(),
        stops: Vec::new(),
        reached: BTreeMap::new(),
    }
}

/// The child's side.
pub(super) fn answer(run: &Run, memory: u64, mut out: impl Write) -> io::Result<()> {
    let mut say = |said: &Said| {
        let mut line = serde_json::to_vec(said)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()
    };
    doing(COMPILING);
    let pattern = run.how.pattern().map_err(io::Error::other)?;
    let loaded = match &run.tested {
        Tested::Rego(suite) => Testing::load(suite).map(|testing| Loaded::Rego(Box::new(testing))),
        Tested::Object { file, declared } => {
            usable(declared, memory, run.how.limit()).map(|policy| Loaded::Object(file.clone(), Box::new(policy)))
        }
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => return say(&Said::Refused(bounded(errors))),
    };
    let rules = loaded.rules();
    let chosen: Vec<_> = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| pattern.as_ref().is_none_or(|pattern| pattern.is_match(&rule.path())))
        .map(|(number, rule)| (number, rule.clone()))
        .collect();
    say(&Said::Loaded {
        rules: chosen.iter().map(|(_, rule)| rule.clone()).collect(),
        lines: loaded.lines(run.how.reached),
    })?;
    for (number, (place, rule)) in chosen.iter().enumerate().skip(run.from) {
        if rule.skipped {
            continue;
        }
        doing(&format!("evaluated in {}", rule.path()));
        say(&Said::Began(number))?;
        let begin = Instant::now();
        let ran = loaded.run(*place, run.how.limit(), run.how.reached);
        let microseconds = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        say(&Said::Ran {
            number,
            ran,
            microseconds,
        })?;
    }
    say(&Said::Done)
}

enum Loaded {
    Rego(Box<Testing>),
    Object(String, Box<Registered>),
}

impl Loaded {
    fn rules(&self) -> Vec<TestRule> {
        match self {
            Self::Rego(testing) => testing.rules().to_vec(),
            Self::Object(file, policy) => {
                let samples = policy.spec().samples.iter();
                let rule = |name: &String| TestRule {
                    file: file.clone(),
                    line: 0,
                    package: String::new(),
                    name: name.clone(),
                    skipped: false,
                };
                samples.map(|sample| rule(&sample.name)).collect()
            }
        }
    }

    fn lines(&self, asked: bool) -> BTreeMap<String, BTreeSet<u32>> {
        match self {
            Self::Rego(testing) if asked => testing.lines(),
            Self::Rego(_) | Self::Object(..) => BTreeMap::new(),
        }
    }

    fn run(&self, place: usize, limit: Duration, reached: bool) -> Ran {
        let unknown = || plainly(TestVerdict::Error("there is no such test".to_owned()));
        match self {
            Self::Rego(testing) => testing.run(place, limit, reached).unwrap_or_else(unknown),
            Self::Object(_, policy) => {
                let Some(sample) = policy.spec().samples.get(place) else {
                    return unknown();
                };
                plainly(match policy.on_own_sample(sample, template_of, limit) {
                    None => TestVerdict::Passed,
                    Some(why) => TestVerdict::Failed(why),
                })
            }
        }
    }
}

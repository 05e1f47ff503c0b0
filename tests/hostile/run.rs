//! Children that judge, and the parent that compares.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ringfence::vetting::STACK;
use support::opa::Opa;

use crate::judged::{BUDGET, Verdict, made, ours, theirs};

/// Policies, each with a request.
const COUNT: u64 = 10_000;
/// As many for one child: one that dies takes the rest of its own along.
const BATCH: u64 = 250;
/// Longest that one policy may take to be read and judged: what is bounded to two seconds, on a machine that does other things.
const LONGEST: Duration = Duration::from_secs(60);
/// Address space of a child, in KiB, twice what the product's own may have beside its binary.
const MEMORY: &str = "3000000";
const WORKERS: usize = 3;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// The child's side. By itself it does nothing.
#[test]
fn child() {
    let (Some(from), Some(to)) = (number("HOSTILE_CHILD_FROM"), number("HOSTILE_CHILD_TO")) else {
        return;
    };
    // What panics is caught and counted; its text would be thousands of lines.
    std::panic::set_hook(Box::new(|_| {}));
    let judge = move || {
        for number in from..to {
            println!("@ {number}");
            let (policy, request) = made(number);
            println!(
                "@ {number} {}",
                serde_json::to_string(&ours(&policy, &request)).expect("JSON")
            );
        }
    };
    let thread = thread::Builder::new().stack_size(STACK).spawn(judge).expect("a thread");
    thread.join().expect("nothing panics");
}

struct Judge {
    process: Child,
    lines: Receiver<String>,
}

impl Judge {
    fn start(from: u64, to: u64) -> Self {
        let mut process = Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -c 0; ulimit -v {MEMORY} 2>/dev/null; exec \"$0\" \"$@\""),
            ])
            .arg(env::current_exe().expect("this binary"))
            .args(["--exact", "run::child", "--nocapture", "--test-threads=1"])
            .envs([
                ("HOSTILE_CHILD_FROM", from.to_string()),
                ("HOSTILE_CHILD_TO", to.to_string()),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let out = process.stdout.take().expect("its output");
        let (send, lines) = sync_channel(64);
        thread::spawn(move || {
            let said = BufReader::new(out).lines().map_while(Result::ok);
            // The test's own name stands in front of the first.
            for line in said.filter_map(|line| line.split_once("@ ").map(|(_, line)| line.to_owned())) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, lines }
    }

    /// The verdict on one policy; `Err` says what happened instead.
    fn verdict(&self, number: u64) -> Result<Verdict, &'static str> {
        let start = Instant::now();
        loop {
            let left = LONGEST.checked_sub(start.elapsed()).ok_or("it takes too long")?;
            let line = self.lines.recv_timeout(left).map_err(|_| {
                if start.elapsed() >= LONGEST {
                    "it takes too long"
                } else {
                    "the process ended"
                }
            })?;
            if let Some((of, verdict)) = line.split_once(' ').filter(|(of, _)| *of == number.to_string()) {
                let _ = of;
                return serde_json::from_str(verdict).map_err(|_| "no verdict that can be read");
            }
        }
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[derive(Default)]
struct Seen {
    counts: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

impl Seen {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn wrong(&mut self, number: u64, what: &str) {
        let (policy, request) = made(number);
        let version = if policy.v0 { "0" } else { "1" };
        self.wrong.push(format!(
            "number {number}, version {version}: {what}\n{}input.request {request}\n",
            policy.text
        ));
    }

    fn compare(&mut self, number: u64, ours: &Verdict, opa: &mut Opa) {
        let says = match ours {
            Verdict::Refused(_) => return self.count("refused when loaded"),
            Verdict::Failed(error) if error.contains("panic") => return self.wrong(number, error),
            Verdict::Failed(_) => return self.count("failed, and so refused"),
            Verdict::Says(says) => says,
        };
        let (policy, request) = made(number);
        match theirs(opa, &policy, &request, false) {
            Verdict::Says(theirs) if theirs == *says && says.is_empty() => self.count("passes in both"),
            Verdict::Says(theirs) if theirs == *says => self.count("refused by both"),
            Verdict::Says(theirs) => self.wrong(number, &format!("ours {says:?}, OPA {theirs:?}")),
            Verdict::Refused(error) if unsound(&error) => self.wrong(number, &format!("ours {says:?}, OPA {error}")),
            Verdict::Refused(_) => self.count("not loaded by OPA"),
            // An expression that neither needs is looked at by one of them first: what has no value ends a statement, what fails
            // ends it all. Where errors are undefined the verdict must be the same.
            Verdict::Failed(error) if says.is_empty() => match theirs(opa, &policy, &request, true) {
                Verdict::Says(theirs) if theirs.is_empty() => self.count("passes, where OPA fails elsewhere first"),
                _ => self.wrong(number, &format!("ours passes, OPA {error}")),
            },
            Verdict::Failed(_) => self.count("refused by us, failed in OPA"),
        }
    }
}

/// What OPA finds wrong beyond types and unused variables.
fn unsound(error: &str) -> bool {
    ["rego_unsafe_var_error", "rego_recursion_error", "rego_parse_error"]
        .iter()
        .any(|code| error.contains(code))
}

#[test]
fn ten_thousand_policies_and_requests() {
    let first = number("HOSTILE_FROM").unwrap_or(0);
    let last = first + number("HOSTILE_COUNT").unwrap_or(COUNT);
    let next = AtomicU64::new(first);
    let seen = Mutex::new(Seen::default());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut opa = Opa::start().expect("OPA starts");
                loop {
                    let from = next.fetch_add(BATCH, Ordering::Relaxed);
                    if from >= last {
                        break;
                    }
                    let to = (from + BATCH).min(last);
                    let mut judge = Judge::start(from, to);
                    for number in from..to {
                        let verdict = judge.verdict(number);
                        let mut mine = Seen::default();
                        match &verdict {
                            Ok(verdict) => mine.compare(number, verdict, &mut opa),
                            Err(what) => {
                                mine.wrong(number, what);
                                judge = Judge::start(number + 1, to);
                            }
                        }
                        let mut seen = seen.lock().expect("nobody panicked");
                        for (what, count) in mine.counts {
                            *seen.counts.entry(what).or_default() += count;
                        }
                        seen.wrong.extend(mine.wrong);
                    }
                }
            });
        }
    });
    let seen = seen.into_inner().expect("nobody panicked");
    println!("{:#?}", seen.counts);
    assert!(
        seen.wrong.is_empty(),
        "{} are wrong (budget {BUDGET:?}):\n\n{}",
        seen.wrong.len(),
        seen.wrong.join("\n")
    );
    // Enough of them must be asked of both, or nothing was compared.
    let both = ["passes in both", "refused by both"].map(|what| seen.counts.get(what).copied().unwrap_or_default());
    if last - first == COUNT {
        assert!(
            both.iter().all(|count| *count > COUNT / 20),
            "too few were judged by both: {both:?}"
        );
    }
}

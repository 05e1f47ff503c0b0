//! One child: started with nothing of this process around it, asked, heard, ended at its deadline, and what it died of.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::question::{Answer, COMPILING, DOING, MAX_ANSWER, Question, Scope};
use super::{Bounds, SUBCOMMAND};
use crate::policy::ALLOCATOR;

/// How much of what a child says of itself is heard. The standard library says little, and says it last.
const MAX_SAID: u64 = 64 << 10;
/// Most that is heard of a child that answers line by line, in bytes.
const MAX_FOLLOWED: u64 = 64 << 20;
/// Lines of it that may wait to be heard.
const AHEAD: usize = 64;
/// How often an ending child is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// A child's allocator must not reserve memory ahead: where the system then refuses to hand out a part of it, it was seen to end by
/// signal 11, which says nothing of memory.
const NO_ARENA: (&str, &str) = ("MIMALLOC_DISALLOW_ARENA_ALLOC", "1");

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Death {
    /// The time for all policies was over before its turn.
    NotAsked,
    /// It could not be started, or broke off.
    Failed(String),
    /// It was killed at its deadline.
    Late(Doing),
    /// It used up its processor time.
    Cpu(Doing),
    /// It asked for more memory than it may have.
    Memory(Doing),
    /// Its stack was too small.
    Stack(Doing),
    /// Another signal, which somebody else may have sent.
    Signal(i32, Doing),
}

/// What it was about when it died.
#[derive(Debug)]
pub(super) struct Doing(String);

impl Death {
    /// Whether it is the policy's doing, and not that of who waits, of the machine, or of somebody who kills.
    pub(super) fn is_of_the_policy(&self) -> bool {
        match self {
            Self::Late(_) | Self::Cpu(_) | Self::Memory(_) | Self::Stack(_) => true,
            Self::Failed(_) | Self::NotAsked | Self::Signal(..) => false,
        }
    }

    /// Of one policy: what happened, and what to do.
    pub(super) fn of_policy(&self, bounds: &Bounds) -> String {
        let (who, was) = Scope::Alone.words();
        self.say(who, was, bounds)
    }

    /// Of one of the tests that are run together.
    pub(super) fn of_test(&self, bounds: &Bounds) -> String {
        let advice = "look for built-in functions that are given huge numbers or texts, and for loops in loops";
        match self {
            Self::Late(_) => format!("it did not end in its time, which no timer of the engine stops: {advice}"),
            Self::Cpu(_) => format!(
                "it used more than {} s of processor time: {advice}",
                bounds.cpu.as_secs()
            ),
            Self::Memory(_) => format!("it took more than {} MiB of memory: {advice}", bounds.memory >> 20),
            Self::Stack(_) => {
                "it overflowed the stack: make chains of rules, expressions and nestings shorter".to_owned()
            }
            Self::Signal(signal, _) => format!("signal {signal} ended the process that ran it"),
            Self::Failed(why) => format!("the process that ran it {why}"),
            Self::NotAsked => "it was not run".to_owned(),
        }
    }

    /// Of policies and their tests, before any of these ran.
    pub(super) fn of_suite(&self, bounds: &Bounds) -> String {
        self.say("what is tested together", "it was", bounds)
    }

    /// Of all policies together.
    pub(super) fn of_set(&self, bounds: &Bounds) -> String {
        let (who, was) = Scope::Set.words();
        self.say(who, was, bounds)
    }

    fn say(&self, who: &str, was: &str, bounds: &Bounds) -> String {
        match self {
            Self::NotAsked => format!(
                "not vetted, and so not used: the {} s for all policies were over; see to those that take long, or use fewer",
                bounds.total.as_secs()
            ),
            Self::Failed(why) => format!(
                "not vetted, and so not used: the process that vets policies {why}; see that Ringfence may start processes \
                 and is not short of memory"
            ),
            Self::Late(doing) => format!(
                "{who} did not end in {} s while {was} {doing}: no timer stops that; {}",
                bounds.wall.as_secs(),
                doing.advice()
            ),
            Self::Cpu(doing) => format!(
                "{who} used more than {} s of processor time while {was} {doing}: no timer stops that; {}",
                bounds.cpu.as_secs(),
                doing.advice()
            ),
            Self::Memory(doing) => doing.took_memory(who, was, bounds.memory),
            Self::Stack(doing) => format!(
                "{who} overflowed the stack while {was} {doing}: that would end Ringfence; make chains of rules, expressions \
                 and nestings shorter"
            ),
            Self::Signal(signal, doing) => format!(
                "not vetted, and so not used: signal {signal} ended the process that vets policies while {was} {doing}; if the \
                 container is short of memory, give it more, else leave the policy out and report it"
            ),
        }
    }
}

impl Scope {
    /// Who is meant, and what they did.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Alone => ("the policy", "it was"),
            Self::Set => ("each policy is good by itself, but all of them together", "they were"),
        }
    }

    /// What a child says that was stopped at its limit, in the words that are used of one that died of it.
    pub(super) fn took_memory(self, doing: &str, bytes: u64) -> String {
        let (who, was) = self.words();
        Doing(doing.to_owned()).took_memory(who, was, bytes)
    }
}

impl Doing {
    fn took_memory(&self, who: &str, was: &str, bytes: u64) -> String {
        format!(
            "{who} took more than {} MiB of memory while {was} {self}: that would end Ringfence; {}",
            bytes >> 20,
            self.advice()
        )
    }

    fn advice(&self) -> &'static str {
        match self.0.as_str() {
            COMPILING => "make it shorter, split it, or pass long lists as parameters",
            _ => {
                "look for built-in functions that are given huge numbers or texts, for texts and numbers that grow from rule to \
                 rule, and for loops in loops"
            }
        }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Ends the child whatever happens to who waits for it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // An error of either says that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts one with nothing of this process around it.
fn start(program: &Path) -> Result<Ended, Death> {
    // The standard library opens every descriptor so that no child inherits it.
    Command::new(program)
        .arg(SUBCOMMAND)
        .env_clear()
        .envs(ALLOCATOR)
        .env(NO_ARENA.0, NO_ARENA.1)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Ended)
        .map_err(failed("cannot be started"))
}

fn written(question: &Question) -> Result<Vec<u8>, Death> {
    serde_json::to_vec(question).map_err(|_| Death::Failed("could not be asked".to_owned()))
}

/// Starts a child, and waits for its answer for so long at most.
pub(super) fn ask(program: &Path, question: &Question, wall: Duration) -> Result<Answer, Death> {
    let until = Instant::now() + wall;
    let question = written(question)?;
    let mut child = start(program)?;
    let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        // A child that stopped reading has said why, or its signal does.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(&question)));
        let said = scope.spawn(move || stderr.map(|stderr| heard(stderr, MAX_SAID)).unwrap_or_default());
        scope.spawn(move || tell.send(stdout.map(|stdout| heard(stdout, MAX_ANSWER)).unwrap_or_default()));
        let answer = told.recv_timeout(until.saturating_duration_since(Instant::now()));
        // Killed or ended, it lets go of the pipes, and so the threads above end.
        let status = wait(&mut child.0, until).map_err(failed("cannot be waited for"));
        drop(child);
        let said = said.join().unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let doing = said.lines().rev().find_map(|line| line.strip_prefix(DOING));
        let doing = Doing(doing.unwrap_or("handed over").to_owned());
        match (status?, answer) {
            (None, _) | (Some(_), Err(mpsc::RecvTimeoutError::Timeout)) => Err(Death::Late(doing)),
            (Some(status), Ok(answer)) if status.success() => {
                serde_json::from_slice(&answer).map_err(|_| Death::Failed("gave no answer that can be read".to_owned()))
            }
            (Some(status), _) => Err(cause(status, &said, doing)),
        }
    })
}

/// Starts a child that answers line by line, and waits for each as long as is said of the one before, and for the first so long.
/// Whether what came is all that is to come is for who hears it to know.
pub(super) fn follow<T: DeserializeOwned + Send>(
    program: &Path,
    question: &Question,
    first: Duration,
    mut heard_of: impl FnMut(T) -> Duration,
) -> Result<(), Death> {
    let mut until = Instant::now() + first;
    let question = written(question)?;
    let mut child = start(program)?;
    let (stdin, stdout, stderr) = (child.0.stdin.take(), child.0.stdout.take(), child.0.stderr.take());
    let (tell, told) = mpsc::sync_channel(AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(&question)));
        let said = scope.spawn(move || stderr.map(|stderr| heard(stderr, MAX_SAID)).unwrap_or_default());
        scope.spawn(move || {
            let lines = BufReader::new(
                stdout
                    .into_iter()
                    .fold(Box::new(io::empty()) as Box<dyn Read>, |_, pipe| {
                        Box::new(pipe.take(MAX_FOLLOWED))
                    }),
            );
            for line in lines.split(b'\n') {
                let line = line.ok().and_then(|line| serde_json::from_slice(&line).ok());
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let ended = loop {
            match told.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Some(line)) => until = Instant::now() + heard_of(line),
                Ok(None) => break Err(Death::Failed("gave an answer that cannot be read".to_owned())),
                Err(mpsc::RecvTimeoutError::Timeout) => break Ok(None),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    break wait(&mut child.0, until).map_err(failed("cannot be waited for"));
                }
            }
        };
        // Killed or ended, it lets go of the pipes, and nobody waits for who hears no more: so the threads above end.
        drop((child, told));
        let said = String::from_utf8_lossy(&said.join().unwrap_or_default()).into_owned();
        let doing = said.lines().rev().find_map(|line| line.strip_prefix(DOING));
        let doing = Doing(doing.unwrap_or("handed over").to_owned());
        match ended? {
            None => Err(Death::Late(doing)),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(cause(status, &said, doing)),
        }
    })
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> Death {
    move |error| Death::Failed(format!("{what}: {error}"))
}

fn heard(from: impl Read, most: u64) -> Vec<u8> {
    let mut heard = Vec::new();
    // What breaks off is no answer, and is found not to be one.
    let _ = from.take(most).read_to_end(&mut heard);
    heard
}

/// `None` where it had not ended by then; it is killed.
fn wait(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn cause(status: ExitStatus, said: &str, doing: Doing) -> Death {
    match status.signal() {
        // The standard library's own words, in front of the abort.
        Some(_) if said.contains("has overflowed its stack") => Death::Stack(doing),
        Some(_) if said.contains("memory allocation of") => Death::Memory(doing),
        Some(signal) if signal == Signal::XCPU.as_raw() => Death::Cpu(doing),
        Some(signal) => Death::Signal(signal, doing),
        None => {
            let last = said
                .lines()
                .rev()
                .find(|line| !line.starts_with(DOING))
                .unwrap_or_default();
            let last: String = last.chars().filter(|c| !c.is_control()).take(200).collect();
            Death::Failed(format!("ended with {status} ({last})"))
        }
    }
}

//! The child process: what it may, what it dies of, and what is made of that.

use std::fs;
use std::process::Command;
use std::time::Instant;

use ringfence::policy::ALLOCATOR;
use rstest::rstest;

use super::*;

/// A policy that keeps its child busy until something ends it.
fn endless() -> Source {
    let mut body = String::from("a0 := 123456789\n");
    for number in 1..=60 {
        body.push_str(&format!("a{number} := a{0} * a{0}\n", number - 1));
    }
    policy("endless", &format!("{body}deny contains \"x\" if a60 > 0"))
}

fn with(cpu: u64, wall: u64) -> Vetting {
    let bounds = Bounds {
        cpu: Duration::from_secs(cpu),
        wall: Duration::from_secs(wall),
        ..bounds()
    };
    Vetting::with(PathBuf::from(env!("CARGO_BIN_EXE_ringfence")), bounds)
}

/// The child of this process that has that limit on processor time, by which tests tell theirs apart.
fn child_with(cpu: u64) -> Option<PathBuf> {
    let wanted = format!("Max cpu time {cpu} ");
    let parent = format!("PPid:\t{}\n", std::process::id());
    fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(|entry| entry.path())
        .find(|process| {
            let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
            let limits = read("limits");
            // Names are padded with spaces, and the last limit is set by the thread that does the work.
            let limits: Vec<_> = limits
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            read("status").contains(&parent)
                && limits.iter().any(|line| line.starts_with(&wanted))
                && limits.iter().any(|line| line.starts_with("Max processes 0 "))
        })
}

fn wait_for_child(cpu: u64) -> PathBuf {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if let Some(found) = child_with(cpu) {
            return found;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no child was seen");
}

#[test]
fn it_has_nothing_of_its_parent_and_may_do_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let vetting = std::thread::spawn(|| with(41, 5).compile(vec![endless()], &BTreeMap::new()).map(drop));
    let child = wait_for_child(41);
    let limits = fs::read_to_string(child.join("limits")).expect("it runs");
    let environment = fs::read_to_string(child.join("environ")).expect("it runs");
    let names = environment
        .split_terminator('\0')
        .map(|variable| variable.split('=').next().expect("a name"));
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let mut expected = [
        ALLOCATOR.map(|(name, _)| name).as_slice(),
        &["MIMALLOC_DISALLOW_ARENA_ALLOC"],
    ]
    .concat();
    expected.sort_unstable();
    assert_eq!(names, expected, "settings of the allocator alone");
    assert_eq!(fs::read_link(child.join("cwd")).expect("it runs"), PathBuf::from("/"));
    let descriptors = fs::read_dir(child.join("fd"))
        .expect("it runs")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    for descriptor in descriptors {
        assert!(
            !descriptor.display().to_string().starts_with("socket:"),
            "{descriptor:?} was inherited"
        );
    }
    for (name, most) in [
        ("Max core file size", "0 0"),
        ("Max file size", "0 0"),
        ("Max open files", "0 0"),
        ("Max processes", "0 0"),
        // 160 MiB, the stack, and 32 MiB by which the count comes first.
        ("Max data size", "218103808 218103808"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(line.starts_with(most), "{name}: {line}");
    }
    drop(listener);
    let errors = vetting.join().expect("no panic").expect_err("it never ends");
    assert!(
        joined(&errors)
            .contains("endless.rego: the policy did not end in 5 s while it was evaluated on an ordinary Pod"),
        "{}",
        joined(&errors)
    );
    assert_eq!(child_with(41), None, "the child is left behind");
}

#[test]
fn the_deadline_is_kept() {
    let start = Instant::now();
    let errors = with(60, 1)
        .compile(vec![endless()], &BTreeMap::new())
        .expect_err("it never ends");
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    assert!(joined(&errors).contains("did not end in 1 s"), "{}", joined(&errors));
}

#[test]
fn policies_that_are_not_reached_in_time_are_not_trusted() {
    let bounds = Bounds {
        total: Duration::ZERO,
        ..bounds()
    };
    let none = Vetting::with(PathBuf::from(env!("CARGO_BIN_EXE_ringfence")), bounds);
    let errors = none
        .compile(vec![policy("late", "deny contains \"x\"")], &BTreeMap::new())
        .expect_err("no time");
    assert!(
        joined(&errors).starts_with("late.rego: not vetted, and so not used"),
        "{}",
        joined(&errors)
    );
}

#[test]
fn one_that_somebody_kills_is_no_good_policy() {
    let vetting = std::thread::spawn(|| with(43, 20).compile(vec![endless()], &BTreeMap::new()).map(drop));
    let child = wait_for_child(43);
    let id = child.file_name().expect("an id").to_owned();
    assert!(Command::new("kill").arg("-9").arg(id).status().expect("kill").success());
    let errors = vetting.join().expect("no panic").expect_err("it was killed");
    assert!(
        joined(&errors).contains("endless.rego: not vetted, and so not used: signal 9 ended"),
        "{}",
        joined(&errors)
    );
}

#[rstest]
#[case::missing("/nonexistent/ringfence", "cannot be started")]
#[case::silent("/bin/true", "gave no answer that can be read")]
#[case::failing("/bin/false", "ended with exit status: 1")]
#[case::talking("/bin/echo", "gave no answer that can be read")]
fn a_child_that_gives_no_answer_is_no_good_policy(#[case] program: &str, #[case] words: &str) {
    let vetting = Vetting::with(PathBuf::from(program), bounds());
    let errors = vetting
        .compile(vec![policy("one", "deny contains \"x\"")], &BTreeMap::new())
        .expect_err("no answer");
    let said = joined(&errors);
    assert!(
        said.starts_with("one.rego: not vetted, and so not used") && said.contains(words),
        "{said}"
    );
}

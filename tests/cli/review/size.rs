//! How much it takes: many manifests at once, and a pipe that does not end.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Files, POD};

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The most memory that a process has had, in MiB.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim()
        .trim_end_matches(" kB")
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib / 1024)
}

/// What is beyond the bound is said to be unread, and the rest is reviewed.
#[test]
fn a_gigabyte_by_a_pipe_is_bounded_in_memory() {
    let mut child = start(&["review", "-o", "github", "-"]);
    let mut stdin = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || {
        let document = format!(
            "{}---\n",
            POD.replace("      value: b\n", &format!("      value: {}\n", "b".repeat(1 << 20)))
        );
        let mut written = 0_usize;
        while written < 1 << 30 {
            match stdin.write_all(document.as_bytes()) {
                Ok(()) => written += document.len(),
                Err(_) => break,
            }
        }
        written
    });
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let (mut text, mut most) = (String::new(), 0);
    loop {
        most = most.max(peak(&child).unwrap_or(0));
        let mut line = String::new();
        if out.read_line(&mut line).unwrap() == 0 {
            break;
        }
        text.push_str(&line);
    }
    let code = child.wait().unwrap().code();
    let written = writing.join().unwrap();
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("more than 67108864 bytes: split it; what follows was not read"),
        "{text}"
    );
    assert!(written < 1 << 30, "it is not read to its end");
    assert!(text.contains("0 of 6"), "the rest is reviewed: {text}");
    assert!((1..400).contains(&most), "{most} MiB");
}

#[test]
fn a_file_of_one_endless_document_costs_itself() {
    let files = Files::of(&[]);
    let mut text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n".to_owned();
    text.push_str(&"  x: y\n".repeat(3 << 20));
    text.push_str("---\n");
    text.push_str(&POD.replace("[ALL]", "[]"));
    files.write("m.yaml", text.as_bytes());
    let said = files.review(&["DIR/m.yaml"], b"");
    assert!(
        said.code == 2 && said.out.contains("DIR/m.yaml:1\n") && said.out.contains("refused[restricted-pod-security]"),
        "{said:?}"
    );
}

fn thousand() -> String {
    (0..1000)
        .map(|number| format!("{}---\n", POD.replace("name: p\n", &format!("name: p-{number}\n"))))
        .collect()
}

/// The figure of a release build is in the README; this holds the order of magnitude, and that the first line is not the last.
#[test]
fn a_thousand_manifests_are_told_of_as_they_are_judged() {
    let files = Files::of(&[]);
    files.write("m.yaml", thousand().replace("[ALL]", "[]").as_bytes());
    let began = Instant::now();
    let path = format!("{}/m.yaml", files.path());
    let mut child = start(&["review", &path]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    let first_after = began.elapsed();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let most = began.elapsed();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.contains("1000 of 1000 objects would be refused"), "{rest}");
    let mut order: Vec<usize> = rest
        .lines()
        .filter_map(|line| line.split("(Pod ai/p-").nth(1)?.strip_suffix(')')?.parse().ok())
        .collect();
    // Each is refused, and warned about.
    order.dedup();
    assert!(
        order.is_sorted() && order.len() == 1000,
        "told of in order: {}",
        order.len()
    );
    assert!(first_after < most, "{first_after:?} of {most:?}");
    assert!(most < Duration::from_secs(120), "{most:?}");
}

//! What `ringfence run` writes where nobody looks at a terminal.

use std::process::Command;

#[test]
fn a_limit_on_memory_that_is_too_small_is_refused_before_anything_is_served() {
    let run = |limit: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .args(["run", "--namespace", "x", "--memory-limit", limit])
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run("256Mi");
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("may take 256 MiB") && said.contains("raise resources.limits.memory"),
        "{said}"
    );
    // There is no cluster to talk to: that it got so far is what is looked for.
    let (_, said) = run("960Mi");
    assert!(
        said.contains("\"counted_mebibytes\":640") && said.contains("set KUBECONFIG"),
        "{said}"
    );
    let (code, said) = run("lots");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("like 512Mi"), "{said}");
}

#[test]
fn a_switch_of_no_policy_in_force_is_refused_before_anything_is_served() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringfence"))
            .args(["run", "--namespace", "x"])
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .args(arguments)
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = run(&["--policy-action", "approved-image=Warn"]);
    assert!(
        said.contains("no policy is in force that is called approved-image"),
        "{said}"
    );
    // It judges Services, and nobody named a set that would.
    let idle = ["--policy-action", "no-exposed-services=Warn"];
    let said = run(&idle);
    assert!(
        said.contains("no-exposed-services judges objects that no set is in force for"),
        "{said}"
    );
    // There is no cluster to talk to: that it got so far is what is looked for.
    let said = run(&[&idle[..], &["--policies", "ai-workflow"]].concat());
    assert!(said.contains("set KUBECONFIG"), "{said}");
    let said = run(&["--policy-action", "approved-images=Audit"]);
    assert!(
        said.contains("set KUBECONFIG") && said.contains("approved-images=Audit"),
        "{said}"
    );
}

#[test]
fn log_lines_in_a_file_have_no_colours() {
    // There is no cluster to talk to: it says what it has done so far, why it ends, and ends.
    let output = Command::new(env!("CARGO_BIN_EXE_ringfence"))
        .args(["run", "--namespace", "x", "--log-format", "text"])
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("policies are compiled") && said.contains("set KUBECONFIG"),
        "{said}"
    );
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

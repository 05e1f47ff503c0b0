//! What `ringfence run` writes where nobody looks at a terminal.

use std::process::Command;

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

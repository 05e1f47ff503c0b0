//! Image references and patterns, read once more from the words of the design: a repository by segments, `*` one of them, `**` any
//! number; tag and digest apart.

/// Whether a reference is of a repository that one of the patterns names.
pub fn matches(reference: &str, patterns: &[&str]) -> bool {
    let repository = repository(reference);
    let segments: Vec<&str> = repository.split('/').collect();
    patterns
        .iter()
        .any(|pattern| is_like(&segments, &pattern.split('/').collect::<Vec<_>>()))
}

/// The repository with its registry, as a container runtime completes it.
fn repository(reference: &str) -> String {
    let without_digest = reference.split('@').next().unwrap_or_default();
    let (path, last) = without_digest.rsplit_once('/').unwrap_or(("", without_digest));
    let name = last.split(':').next().unwrap_or_default();
    let whole = if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    };
    match whole.split_once('/') {
        None => format!("docker.io/library/{whole}"),
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => format!("{host}/{rest}"),
        Some(_) => format!("docker.io/{whole}"),
    }
}

fn is_like(segments: &[&str], pattern: &[&str]) -> bool {
    match (segments, pattern) {
        ([], []) => true,
        (_, ["**"]) => !segments.is_empty(),
        (_, ["**", rest @ ..]) => (1..=segments.len()).any(|taken| is_like(&segments[taken..], rest)),
        ([_, segments @ ..], ["*", rest @ ..]) => is_like(segments, rest),
        ([is, segments @ ..], [wanted, rest @ ..]) => is == wanted && is_like(segments, rest),
        _ => false,
    }
}

#[test]
fn a_repository_is_read_as_a_runtime_reads_it() {
    for (reference, pattern, expected) in [
        (
            "registry.example.com/finance/triage:1.4",
            "registry.example.com/finance/**",
            true,
        ),
        (
            "registry.example.com/finance/a/b@sha256:00",
            "registry.example.com/finance/**",
            true,
        ),
        (
            "registry.example.com/finance/a/b",
            "registry.example.com/finance/*",
            false,
        ),
        ("registry.example.com/finance", "registry.example.com/finance/**", false),
        (
            "registry.example.com.evil.example/finance/a",
            "registry.example.com/finance/**",
            false,
        ),
        (
            "registry.example.com/finance/../other/a",
            "registry.example.com/finance/*",
            false,
        ),
        ("nginx", "docker.io/library/*", true),
        ("nginx:latest", "registry.example.com/**", false),
        ("localhost:5000/finance/a", "localhost:5000/**", true),
        ("ann/a", "docker.io/ann/a", true),
    ] {
        assert_eq!(matches(reference, &[pattern]), expected, "{reference} {pattern}");
    }
}

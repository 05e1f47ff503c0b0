//! The Rego policy on images and the fence's own rule read references and patterns alike: an attacker would pick the one of two
//! readings that lets them in, and people would be told two things.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use ringfence::images::{is_pinned, matches, repository};
use ringfence::policy::{PolicyInput, PolicySet};
use serde_json::{Value, json};

use crate::loading::input;
use crate::shipped::joined;

static POLICY: LazyLock<PolicySet> = LazyLock::new(|| {
    let sources = PolicySet::embedded_sources();
    let wanted = |file: &str| file.ends_with("approved-images/policy.rego");
    let policy = sources.iter().filter(|source| wanted(&source.file)).cloned().collect();
    PolicySet::compile(policy, &BTreeMap::new()).unwrap_or_else(|errors| panic!("{}", joined(&errors)))
});

/// How many things the policy refuses in a pod of one container.
fn rego(image: &str, declared: &[&str], of_class: &Value) -> usize {
    let pod = json!({"spec": {"containers": [{"name": "main", "image": image}]}});
    let workflow = json!({"metadata": {"name": "triage"}, "spec": {"images": declared}});
    let class = json!({"metadata": {"name": "default"}, "spec": {"images": of_class}});
    let request = json!({"object": pod});
    let input = PolicyInput {
        pod: Some(("", &pod)),
        workflow: Some(&workflow),
        class: Some(&class),
        ..input(&request)
    };
    let mut verdicts = POLICY.evaluate(&input, Duration::from_secs(20));
    assert_eq!(verdicts.len(), 1);
    let outcome = verdicts.remove(0).outcome;
    outcome
        .unwrap_or_else(|error| panic!("{image:?}, {declared:?}: {error}"))
        .deny
        .len()
}

/// What both say of one image and one pattern: whether the image can be read, and whether the pattern allows it.
fn compare(image: &str, pattern: &str) {
    let name = repository(image);
    let readable = name.is_ok();
    assert_eq!(
        rego(image, &["**"], &json!({"allowed": ["**"]})) == 0,
        readable,
        "{image:?}: {name:?}"
    );
    let allowed = name.is_ok_and(|name| matches(pattern, &name));
    assert_eq!(
        rego(image, &[pattern], &json!({"allowed": ["**"]})) == 0,
        allowed,
        "workflow: {pattern:?} and {image:?}"
    );
    assert_eq!(
        rego(image, &["**"], &json!({"allowed": [pattern]})) == 0,
        allowed,
        "class: {pattern:?} and {image:?}"
    );
    assert_eq!(
        rego(image, &[], &json!({"injected": [pattern]})) == 0,
        allowed,
        "injected: {pattern:?} and {image:?}"
    );
    let by_digest = json!({"allowed": ["**"], "requireDigest": true});
    assert_eq!(
        rego(image, &["**"], &by_digest) == 0,
        readable && is_pinned(image),
        "digest: {image:?}"
    );
}

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// References that somebody, somewhere, reads in a way of their own.
fn hostile() -> Vec<String> {
    let plain = [
        "",
        " ",
        "/",
        "//",
        "a",
        "a/",
        "/a",
        "a//b",
        "a/b/",
        ".",
        "..",
        "a/..",
        "a/../b",
        "./a",
        "a/.",
        "a.b",
        "a.b/c",
        "a_b.c/d",
        "a__b.c/d",
        "a--b.c/d",
        "a-.b/c",
        "-a.b/c",
        "a..b/c",
        "a.b./c",
        ".a/b",
        "a.b-/c",
        "a_b/c",
        "a__b/c",
        "a___b/c",
        "a--b/c",
        "a-/b",
        "a_/b",
        "a._b/c",
        "a.-b/c",
        "python",
        "python:3.12",
        "python:",
        ":3",
        "python:3:4",
        "python:.a",
        "python:-a",
        "python:_a",
        "python:A.b-C_d",
        "python:a/b",
        "library/python",
        "docker.io/python",
        "docker.io/library/python",
        "docker.io/a/b/c",
        "index.docker.io/python",
        "index.docker.io/a/b",
        "registry-1.docker.io/python",
        "docker.io",
        "docker.io:443/a",
        "docker.io/",
        "Docker.io/a",
        "localhost",
        "localhost/a",
        "localhost:5000/a",
        "localhost:5000",
        "LOCALHOST/a",
        "localhost/a/b:1",
        "r.example.com/a",
        "r.example.com:5000/a",
        "r.example.com:5000/a:1",
        "r.example.com:05000/a",
        "r.example.com:0/a",
        "r.example.com:65535/a",
        "r.example.com:65536/a",
        "r.example.com:99999/a",
        "r.example.com:/a",
        "r.example.com:a/b",
        "r.example.com:+1/a",
        "r.example.com:5000:6/a",
        "r:5000/a",
        "r:5000",
        "r.example.com.evil.example/a",
        "evil.example/r.example.com/a",
        "R.example.com/a",
        "r.example.com/A",
        "r.example.com/a B",
        "r.example.com/a\n",
        "\nr.example.com/a",
        "r.example.com/a\0",
        "r.example.com/a\t",
        "r.example.com/а",
        "r.éxample.com/a",
        "r.example.com/a%2fb",
        "r.example.com\\a",
        "r.example.com/a?b",
        "r.example.com/a#b",
        "r.example.com/*",
        "r.example.com/**",
        "*",
        "**",
        "https://r.example.com/a",
        "user@r.example.com/a",
        "user:secret@r.example.com/a",
        "r.example.com/a@",
        "@",
        "a@b",
        "a@sha256:",
        "a@sha256:00",
        "a@md5:00",
        "r.example.com/a@latest",
        "sha256:0123456789ab",
        "sha256:abc",
        "sha256:latest",
        "sha256",
        "sha384:AB",
        "sha512:12",
        "md5:12",
        "sha256/a:12",
        "sha256:12/a",
        "[::1]/a",
        "[::1]:5000/a",
        "[::1]",
        "[::1]:5000",
        "[2001:db8::1]:5000/a:1",
        "[2001:DB8::1]/a",
        "[2001:db8:0:0:0:0:0:1]/a",
        "[2001:db8::1::2]/a",
        "[:::]/a",
        "[]/a",
        "[1]/a",
        "[12345::]/a",
        "[1:2:3:4:5:6:7:8]/a",
        "[1:2:3:4:5:6:7:8:9]/a",
        "[1:2:3:4:5:6:7::]/a",
        "[::ffff:192.0.2.1]/a",
        "[fe80::1%eth0]/a",
        "[::1]x/a",
        "[::1]:/a",
        "[::1]:99999/a",
        "[::1/a",
        "::1]/a",
        "[r.example.com]/a",
        "192.0.2.1/a",
        "192.0.2.1:5000/a",
        "0x7f.1/a",
        "xn--bcher-kva.example/a",
        "a.b.c.d.e/f/g/h/i/j/k",
    ];
    let mut all: Vec<String> = plain.map(str::to_owned).to_vec();
    for name in [
        "a",
        "r.example.com/a",
        "r.example.com/a:1",
        "[::1]:5000/a",
        "A",
        "a:",
        HEX,
    ] {
        all.push(format!("{name}@sha256:{HEX}"));
        all.push(format!("{name}@sha384:{HEX}{}", &HEX[..32]));
        all.push(format!("{name}@sha512:{HEX}{HEX}"));
        all.push(format!("{name}@sha256:{}", HEX.to_uppercase()));
        all.push(format!("{name}@SHA256:{HEX}"));
        all.push(format!("{name}@sha256:{HEX}0"));
        all.push(format!("{name}@sha256:{HEX}:1"));
        all.push(format!("{name}@sha256:{HEX}@sha256:{HEX}"));
        all.push(format!("{name}@sha256:{HEX}\n"));
        all.push(format!("{name}{}", "@".repeat(12)));
    }
    for image_id in [
        HEX.to_owned(),
        format!("{HEX}:1"),
        format!("{HEX}0"),
        HEX[..63].to_owned(),
        format!("r.example.com/{HEX}"),
    ] {
        all.push(image_id);
    }
    all.push(format!("sha256:{HEX}"));
    for length in [240, 241, 242, 243, 255, 256, 300] {
        all.push(format!("r.example.com/{}", "a".repeat(length)));
        all.push("a".repeat(length));
        all.push(format!("index.docker.io/{}", "a".repeat(length)));
    }
    for length in [127, 128, 129] {
        all.push(format!("a:{}", "b".repeat(length)));
    }
    // As long as one can be, and longer.
    let longest = format!("index.docker.io/{}", "a".repeat(237));
    all.push(format!("{longest}:{}@sha512:{HEX}{HEX}", "b".repeat(128)));
    all.push("a/".repeat(400) + "a");
    all
}

/// Patterns, and what is none.
const PATTERNS: [&str; 40] = [
    "**",
    "*",
    "*/*",
    "**/**",
    "*/**/*",
    "",
    "/",
    "a",
    "a/**",
    "docker.io/**",
    "docker.io/*",
    "docker.io/library/*",
    "docker.io/library/python",
    "index.docker.io/**",
    "python",
    "library/python",
    "localhost/**",
    "localhost:5000/*",
    "r.example.com/**",
    "r.example.com/*",
    "r.example.com/a",
    "r.example.com/a:1",
    "r.example.com:5000/*",
    "r.example.com:5000/**",
    "r:5000/*",
    "r.example.*/a",
    "*.example.com/**",
    "r.example.com/a*",
    "r.example.com*",
    "r.example.com/**/a",
    "R.example.com/**",
    "r.example.com/./a",
    "r.example.com/[a-z]",
    "r.example.com/.*",
    "r.example.com/(a)",
    "[::1]:5000/*",
    "[::1]/*",
    "[2001:db8::1]:5000/**",
    "***",
    "a_b.c/**",
];

#[test]
fn both_read_hostile_references_and_patterns_alike() {
    let images = hostile();
    let (mut readable, mut allowed) = (0, 0);
    for image in &images {
        compare(image, "**");
        readable += usize::from(repository(image).is_ok());
        for pattern in PATTERNS {
            let name = repository(image);
            let expected = name.is_ok_and(|name| matches(pattern, &name));
            allowed += usize::from(expected);
            let found = rego(image, &[pattern], &json!({"allowed": ["**"]})) == 0;
            assert_eq!(found, expected, "{pattern:?} and {image:?}: {:?}", repository(image));
        }
    }
    assert!(
        images.len() > 200 && readable > 50 && readable < images.len() / 2,
        "{readable} of {}",
        images.len()
    );
    assert!(
        allowed > 300,
        "the patterns allow {allowed}: a comparison of refusals alone says little"
    );
}

/// What is made of the parts that references are made of, most of it nearly right.
fn reference() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec![
        "",
        "r.example.com/",
        "r.example.com:5000/",
        "localhost/",
        "docker.io/",
        "index.docker.io/",
        "a_b.c/",
        "r:80/",
        "[::1]/",
        "a-.b/",
        "a/",
        "R.b/",
        "[::1]:80/",
        "a.b:70000/",
    ]);
    let path = "[a-cA]([-_.a-c/]{0,6})[a-c/.]?";
    let tag = prop::sample::select(vec!["", ":1", ":", ":a.b", ":a/b", ":-"]);
    let digest = prop::sample::select(vec![
        String::new(),
        format!("@sha256:{HEX}"),
        "@sha256:00".to_owned(),
        "@".to_owned(),
    ]);
    (host, path, tag, digest).prop_map(|(host, path, tag, digest)| format!("{host}{path}{tag}{digest}"))
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["*", "**", "a", "b", "a-b", "a.b", "A", "a*", "c:1", ""]);
    let host = prop::sample::select(vec![
        "r.example.com",
        "r.example.com:5000",
        "docker.io",
        "localhost",
        "*",
        "**",
        "r:80",
        "[::1]",
        "a",
    ]);
    (host, prop::collection::vec(segment, 0..4)).prop_map(|(host, rest)| {
        let rest: Vec<_> = std::iter::once(host).chain(rest).collect();
        rest.join("/")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn both_read_whatever_is_made_of_their_parts_alike(image in reference(), pattern in pattern()) {
        compare(&image, &pattern);
    }
}

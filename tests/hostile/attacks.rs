//! What was measured to abort, hang or fool the engine, in sizes from harmless to absurd.

use std::fmt::Write as _;

use crate::random::Random;

/// Rules, and the body of a rule of the entry that uses them.
pub fn attack(random: &mut Random, v0: bool) -> (String, String) {
    let sizes = [3, 12, 40, 200, 3000];
    let size = sizes[random.below(sizes.len())];
    let small = 1 + random.below(14);
    let (is, when, end) = if v0 { ("=", "{", "}") } else { (":=", "if {", "}") };
    let rule = |head: &str, body: &str| format!("{head} {when} {body} {end}\n");
    match random.below(26) {
        0 => (
            rule(&format!("z(n) {is} y"), &format!("y {is} z(n - 1)")),
            "z(3) == 0".to_owned(),
        ),
        1 => (rule("za", "zb") + &rule("zb", "za"), "not za".to_owned()),
        2 => {
            let chain: String = (0..size)
                .map(|at| rule(&format!("z{at}(n) {is} y"), &format!("y := z{}(n)", at + 1)))
                .collect();
            (
                chain + &rule(&format!("z{size}(n) {is} y"), "y := n"),
                "z0(1) == 1".to_owned(),
            )
        }
        3 => {
            let chain: String = (0..size)
                .map(|at| rule(&format!("z{at}"), &format!("z{}", at + 1)))
                .collect();
            (
                chain + &rule(&format!("z{size}"), "input.request.flag"),
                "not z0".to_owned(),
            )
        }
        4 => (
            String::new(),
            format!("{}1{} != 2", "[".repeat(small), "]".repeat(small)),
        ),
        5 => (
            String::new(),
            format!("{}1{} != 2", "{\"a\": ".repeat(small), "}".repeat(small)),
        ),
        6 => (
            String::new(),
            format!("{}input.request.a{} != 2", "(".repeat(small), ")".repeat(small)),
        ),
        7 => (String::new(), format!("1{} > 2", " + 1".repeat(size))),
        8 => (String::new(), format!("count(numbers.range(1, {size}00000)) > 1")),
        9 => (String::new(), format!("sprintf(\"%{size}00d\", [1]) != \"\"")),
        10 => (
            String::new(),
            format!("sprintf(\"%{size}s|%-5d|%05d|%x\", [\"a\", 7, 42, 255]) != \"\""),
        ),
        11 => (
            format!(
                "zs {is} concat(\"\", [x | some y in [{}]; x := \"a\"])\n",
                numbers(size.min(200))
            ),
            "count(replace(zs, \"a\", zs)) > 1".to_owned(),
        ),
        12 => {
            let mut rules = format!("zd0 {is} \"ab\"\n");
            for step in 1..=small * 2 {
                let _ = writeln!(rules, "zd{step} {is} concat(\"\", [zd{0}, zd{0}])", step - 1);
            }
            (rules, format!("count(zd{}) > 3", small * 2))
        }
        13 => (String::new(), "strings.count(input.request.name, \"\") > 0".to_owned()),
        14 => (
            String::new(),
            "not strings.count(input.request.name, input.request.a) > 0".to_owned(),
        ),
        15 => {
            let loops: String = (0..1 + small % 4)
                .map(|level| format!("some x{level} in zl; "))
                .collect();
            (
                format!("zl {is} [{}]\n", numbers(30)),
                format!("count([1 | {loops}x0 == 8]) > 1"),
            )
        }
        16 => (
            rule(&format!("zc {is} 1"), "input.request.flag") + &rule(&format!("zc {is} 2"), "input.request.count"),
            "zc == 1".to_owned(),
        ),
        17 => (
            rule(&format!("zc(n) {is} 1"), "n") + &rule(&format!("zc(n) {is} 2"), "n == n"),
            "zc(input.request.flag) == 2".to_owned(),
        ),
        18 => (
            "data_p := 1\n".replace(":=", is),
            random
                .pick(&[
                    "not data.q.deny",
                    "data.p.deny",
                    "data[input.request.name]",
                    "not data.p[input.request.name]",
                ])
                .to_owned(),
        ),
        19 => (
            rule("zw", "not input.request.flag"),
            random
                .pick(&[
                    "not zw with input.request.flag as input.request.missing",
                    "zw with input as {}",
                    "not zw with input as {\"request\": {\"flag\": true}}",
                    "count(input.request.items) > 1 with count as 5",
                    "not zw with input.request.flag as true with input.request.a as input.missing",
                ])
                .to_owned(),
        ),
        20 => (
            String::new(),
            random
                .pick(&[
                    "not http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"}).ok",
                    "opa.runtime().env",
                    "not io.jwt.verify_hs256(input.request.name, \"k\")",
                    "not no.such(input.request.a)",
                    "time.now_ns() > 0",
                    "not walk(input.request)",
                    "bits.lsh(1, 4000000000) > 1",
                    "not trace(\"x\")",
                    "print(input.request)",
                ])
                .to_owned(),
        ),
        21 => (
            String::new(),
            random
                .pick(&[
                    "regex.match(\"(a+)+$\", input.request.name)",
                    "regex.match(\"((a{100}){100}){100}\", input.request.name)",
                    "not regex.match(input.request.name, \"x\")",
                    "glob.match(input.request.name, [], \"x\")",
                    "regex.match(\"(?i)\u{fc}N\u{cf}\", input.request.name)",
                    "not regex.match(\"^\\\\w+$\", input.request.name)",
                    "not glob.match(\"{a,{b,c}}\", [\"/\"], input.request.name)",
                ])
                .to_owned(),
        ),
        22 => (
            String::new(),
            format!("input.request{} == 1", ".a".repeat(size.min(200))),
        ),
        23 => {
            let many: String = (0..size).map(|_| "not input.request.a == 2; ").collect();
            (String::new(), format!("{many}true"))
        }
        24 => (
            String::new(),
            random
                .pick(&[
                    "1e308 * 10 > 1",
                    "input.request.count / 0 == 1",
                    "input.request.count % 0 == 1",
                    "not input.request.count / input.request.missing == 1",
                    "to_number(\"1e999999999\") > 1",
                    "units.parse_bytes(\"9e999999999Ki\") > 1",
                    "not to_number(input.request.name) > 3",
                    "9223372036854775807 + input.request.count > 9223372036854775807",
                ])
                .to_owned(),
        ),
        _ => (rule(&format!("zt(n) {is} y"), "y := [n, n]"), {
            let calls = (0..small).fold("input.request.a".to_owned(), |inner, _| format!("zt({inner})"));
            format!("count({calls}) == 2")
        }),
    }
}

fn numbers(count: usize) -> String {
    (0..count)
        .map(|number| number.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

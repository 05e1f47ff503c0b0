//! Policies made up from a grammar: rules, functions and statements as people write them, of both versions of the language.

use std::fmt::Write as _;

use crate::attacks;
use crate::inputs::FIELDS;
use crate::random::Random;

/// A policy, and the rule that gives its verdict.
#[derive(Clone, Debug)]
pub struct Made {
    pub text: String,
    pub v0: bool,
    pub entry: &'static str,
}

pub fn policy(random: &mut Random) -> Made {
    let v0 = random.percent(30);
    let mut maker = Maker {
        random,
        v0,
        helpers: Vec::new(),
        functions: Vec::new(),
        variables: Vec::new(),
        names: 0,
        text: String::new(),
    };
    maker.text.push_str("package p\n\n");
    if v0 {
        maker
            .text
            .push_str("import future.keywords.in\nimport future.keywords.every\n\n");
    } else if maker.random.percent(10) {
        maker.text.push_str("import rego.v1\n\n");
    }
    for _ in 0..maker.random.below(5) {
        maker.helper();
    }
    let entry = maker.random.pick(&["deny", "deny", "deny", "allow", "violation"]);
    for _ in 0..=maker.random.below(2) {
        maker.entry(entry);
    }
    if maker.random.percent(35) {
        let (rules, body) = attacks::attack(maker.random, v0);
        let _ = writeln!(maker.text, "{rules}");
        maker.rule(&verdict(entry, v0), &body);
    }
    let text = std::mem::take(&mut maker.text);
    Made { text, v0, entry }
}

/// Head of a rule of the entry.
fn verdict(entry: &str, v0: bool) -> String {
    match (entry, v0) {
        ("allow", _) => "allow".to_owned(),
        ("violation", true) => "violation[{\"msg\": \"m\"}]".to_owned(),
        ("violation", false) => "violation contains {\"msg\": \"m\"}".to_owned(),
        (entry, true) => format!("{entry}[\"m\"]"),
        (entry, false) => format!("{entry} contains \"m\""),
    }
}

struct Maker<'a> {
    random: &'a mut Random,
    v0: bool,
    helpers: Vec<String>,
    functions: Vec<String>,
    /// Local variables that have a value.
    variables: Vec<String>,
    names: usize,
    text: String,
}

impl Maker<'_> {
    fn name(&mut self, of: &str) -> String {
        self.names += 1;
        format!("{of}{}", self.names)
    }

    fn rule(&mut self, head: &str, body: &str) {
        let form = match (
            self.v0,
            body.contains('\n') || body.contains(';') || self.random.percent(60),
        ) {
            (true, _) => format!("{head} {{ {body} }}"),
            (false, true) => format!("{head} if {{ {body} }}"),
            (false, false) if body.starts_with('{') => format!("{head} if {{ {body} }}"),
            (false, false) => format!("{head} if {body}"),
        };
        let _ = writeln!(self.text, "{form}\n");
    }

    fn entry(&mut self, entry: &str) {
        let body = self.body(3);
        let head = match (entry, self.variables.last().cloned()) {
            ("deny", Some(variable)) if self.random.percent(50) => {
                let message = format!("sprintf(\"m %v\", [type_name({variable})])");
                if self.v0 {
                    format!("deny[{message}]")
                } else {
                    format!("deny contains {message}")
                }
            }
            _ => verdict(entry, self.v0),
        };
        self.rule(&head, &body);
        self.variables.clear();
    }

    fn helper(&mut self) {
        let equals = if self.v0 { "=" } else { ":=" };
        match self.random.below(8) {
            0 => {
                let name = self.name("r");
                let body = self.body(2);
                self.rule(&name, &body);
                self.helpers.push(name);
            }
            1 => {
                let name = self.name("r");
                let value = self.expression(2);
                let body = self.body(2);
                self.rule(&format!("{name} {equals} {value}"), &body);
                if self.random.percent(40) {
                    let body = self.body(1);
                    self.rule(&format!("{name} {equals} 7"), &body);
                }
                if self.random.percent(40) {
                    let _ = writeln!(
                        self.text,
                        "default {name} {equals} {}\n",
                        self.random.pick(&["false", "0", "\"\"", "[]"])
                    );
                }
                self.helpers.push(name);
            }
            2 => {
                let name = self.name("s");
                let collection = self.collection();
                let (head, body) = if self.v0 {
                    (format!("{name}[y]"), format!("y := {collection}[_]"))
                } else {
                    (format!("{name} contains y"), format!("some y in {collection}"))
                };
                self.rule(&head, &body);
                self.helpers.push(name);
            }
            3 => {
                let name = self.name("o");
                let collection = self.collection();
                let (head, body) = (format!("{name}[k] {equals} v"), format!("some k, v in {collection}"));
                self.rule(&head, &body);
                self.helpers.push(name);
            }
            4 => {
                let name = self.name("c");
                let value = self.expression(2);
                let _ = writeln!(self.text, "{name} {equals} {value}\n");
                self.helpers.push(name);
            }
            _ => self.function(equals),
        }
        self.variables.clear();
    }

    fn function(&mut self, equals: &str) {
        let name = self.name("f");
        self.variables.push("arg".to_owned());
        if self.random.percent(50) {
            let body = self.body(2);
            self.rule(&format!("{name}(arg)"), &body);
        } else {
            let value = self.expression(2);
            let body = self.body(1);
            self.rule(&format!("{name}(arg) {equals} {value}"), &body);
        }
        if !self.v0 && self.random.percent(15) {
            let _ = writeln!(self.text, "default {name}(_) := false\n");
        }
        self.functions.push(name);
    }

    fn body(&mut self, most: usize) -> String {
        let count = 1 + self.random.below(most);
        let statements: Vec<_> = (0..count).map(|_| self.statement(2)).collect();
        statements.join(self.random.pick(&["; ", "; ", "\n\t"]))
    }

    fn statement(&mut self, depth: usize) -> String {
        match self.random.below(14) {
            0 | 1 => {
                let value = self.expression(depth);
                let name = self.name("v");
                self.variables.push(name.clone());
                format!("{name} := {value}")
            }
            2 | 3 => {
                let collection = self.collection();
                let name = self.name("v");
                self.variables.push(name.clone());
                format!("some {name} in {collection}")
            }
            4 => {
                if self.random.percent(30) {
                    return self.comparison();
                }
                let (left, right) = (self.expression(depth), self.expression(depth));
                format!("{left} {} {right}", self.random.pick(&["==", "!=", "="]))
            }
            5 | 6 => self.negation(depth),
            7 => {
                let (member, collection) = (self.expression(1), self.collection());
                format!("{member} in {collection}")
            }
            8 => {
                let collection = self.collection();
                let kept = self.variables.clone();
                let name = self.name("v");
                self.variables.push(name.clone());
                let inner = self.negation(1);
                self.variables = kept;
                format!("every {name} in {collection} {{ {name} != 99; {inner} }}")
            }
            9 => {
                let kept = std::mem::take(&mut self.variables);
                let value = self.expression(1);
                self.variables = kept;
                let field = self.random.pick(&FIELDS);
                let what = if self.random.percent(50) {
                    self.negation(1)
                } else {
                    self.reference()
                };
                format!("{what} with input.request.{field} as {value}")
            }
            10 => format!("{}[_] == {}", self.reference(), self.expression(1)),
            11 => self.call(depth),
            _ => self.reference(),
        }
    }

    fn negation(&mut self, depth: usize) -> String {
        let what = match self.random.below(6) {
            0 => self.reference(),
            1 => {
                if self.random.percent(20) {
                    return format!("not {}", self.comparison());
                }
                let (left, right) = (self.expression(depth), self.expression(1));
                format!("{left} {} {right}", self.random.pick(&["==", "!=", "in"]))
            }
            2 | 3 if !self.functions.is_empty() => self.own_call(depth),
            2 | 3 => self.call(depth),
            _ => self.call(depth),
        };
        // `not {` is another thing in newer versions of OPA.
        if what.starts_with('{') {
            format!("not count({what}) > 1")
        } else {
            format!("not {what}")
        }
    }

    /// Of what is sent alone: sets come before objects here, and after them in OPA.
    fn comparison(&mut self) -> String {
        let path = format!("input.request.{}", self.random.pick(&FIELDS));
        let operator = self.random.pick(&["<", ">", "<=", ">="]);
        format!(
            "{path} {operator} {}",
            self.random.pick(&[
                "1",
                "\"b\"",
                "null",
                "[1]",
                "input.request.count",
                "input.request.missing"
            ])
        )
    }

    fn reference(&mut self) -> String {
        let choice = self.random.below(10);
        if choice < 2 && !self.helpers.is_empty() {
            let at = self.random.below(self.helpers.len());
            return self.helpers[at].clone();
        }
        if choice < 4 && !self.variables.is_empty() {
            let at = self.random.below(self.variables.len());
            let variable = self.variables[at].clone();
            return if self.random.percent(40) {
                format!("{variable}.name")
            } else {
                variable
            };
        }
        let mut path = format!("input.request.{}", self.random.pick(&FIELDS));
        match self.random.below(6) {
            0 => path.push_str(".a"),
            1 => path.push_str("[0]"),
            2 => path.push_str(".missing"),
            3 if !self.variables.is_empty() => {
                let at = self.random.below(self.variables.len());
                let _ = write!(path, "[{}]", self.variables[at]);
            }
            4 => path.push_str("[input.request.name]"),
            _ => {}
        }
        path
    }

    fn collection(&mut self) -> String {
        match self.random.below(8) {
            0 => "[1, \"x\", null]".to_owned(),
            1 => "{\"web\", \"x\"}".to_owned(),
            2 => self.reference(),
            3 => "object.get(input.request, \"items\", [])".to_owned(),
            4 => "input.request.labels".to_owned(),
            5 => format!(
                "[y | some y in {}]",
                self.random
                    .pick(&["input.request.items", "input.request.labels", "input.request.b"])
            ),
            _ => "input.request.items".to_owned(),
        }
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 || self.random.percent(35) {
            return match self.random.below(6) {
                0 => self.random.pick(&["0", "1", "3", "-1", "9007199254740993"]).to_owned(),
                1 => self
                    .random
                    .pick(&["\"x\"", "\"web\"", "\"\"", "`a\\b`", "\"\\u00fc\"", "\"\u{1f4a5}\""])
                    .to_owned(),
                2 => self
                    .random
                    .pick(&["true", "false", "null", "[]", "{}", "set()"])
                    .to_owned(),
                _ => self.reference(),
            };
        }
        let inner = depth - 1;
        match self.random.below(12) {
            0 | 1 => self.reference(),
            2 => format!("[{}, {}]", self.expression(inner), self.expression(inner)),
            3 => format!(
                "{{\"name\": {}, \"a\": {}}}",
                self.expression(inner),
                self.expression(inner)
            ),
            4 => format!("{{{}, 1}}", self.expression(inner)),
            5 => format!(
                "[y | some y in {}; {}]",
                self.collection(),
                self.random
                    .pick(&["y != 1", "not y.a", "y.name == \"x\"", "not startswith(y.name, \"w\")"])
            ),
            6 => format!("{{y: 1 | some y in {}; y != 2}}", self.collection()),
            7 => format!("({} in {})", self.expression(inner), self.collection()),
            8 => format!(
                "object.get({}, {}, {})",
                self.random.pick(&["input.request", "input.request.labels"]),
                self.random.pick(&["\"name\"", "\"app\"", "\"zz\""]),
                self.expression(inner)
            ),
            9 if !self.functions.is_empty() => self.own_call(inner),
            10 => format!(
                "({} {} {})",
                self.expression(inner),
                self.random.pick(&["==", "!=", "+", "-"]),
                self.expression(inner)
            ),
            _ => self.call(inner),
        }
    }

    fn own_call(&mut self, depth: usize) -> String {
        let at = self.random.below(self.functions.len());
        let argument = self.expression(depth);
        format!("{}({argument})", self.functions[at])
    }

    fn call(&mut self, depth: usize) -> String {
        let one = [
            "is_string(@)",
            "is_number(@)",
            "is_array(@)",
            "is_object(@)",
            "is_null(@)",
            "is_boolean(@)",
            "type_name(@)",
            "count(@)",
            "lower(@)",
            "upper(@)",
            "to_number(@)",
            "trim_space(@)",
            "json.marshal(@)",
            "sprintf(\"%v\", [type_name(@)])",
            "startswith(@, \"w\")",
            "endswith(@, \"b\")",
            "contains(@, \":\")",
            "split(@, \":\")",
            "replace(@, \"a\", \"b\")",
            "regex.match(\"^[a-z]+$\", @)",
            "concat(\",\", [@, \"x\"])",
            "substring(@, 0, 2)",
            "indexof(@, \"e\")",
            "array.concat(@, [1])",
            "object.keys(@)",
            "max(@)",
            "min(@)",
            "sum(@)",
            "sort(@)",
            "trim(@, \"x\")",
            "glob.match(\"*b\", [], @)",
            "net.cidr_is_valid(@)",
            "base64.encode(@)",
            "units.parse_bytes(@)",
            "semver.is_valid(@)",
            "array.slice(@, 0, 1)",
            "object.remove(@, [\"a\"])",
            "any([@])",
            "all([@, true])",
        ];
        let form = self.random.pick(&one);
        // What takes texts alone mostly gets a place where there may be one: OPA's compiler finds the others.
        let argument = if self.random.percent(75) {
            self.reference()
        } else {
            self.expression(depth.min(1))
        };
        form.replace('@', &argument)
    }
}

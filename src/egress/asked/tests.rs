use rstest::rstest;

use super::*;

const A: u16 = 1;
const ID: u16 = 0x1234;

fn domains() -> ClusterDomains {
    ClusterDomains::new(vec![Host::named("cluster.local").unwrap()])
}

/// A name in labels, as it is sent.
fn labels(labels: &[&[u8]]) -> Vec<u8> {
    let mut written = Vec::new();
    for label in labels {
        written.push(u8::try_from(label.len()).unwrap());
        written.extend(*label);
    }
    written.push(0);
    written
}

fn named(name: &str) -> Vec<u8> {
    let parts: Vec<&[u8]> = name
        .split('.')
        .filter(|label| !label.is_empty())
        .map(str::as_bytes)
        .collect();
    labels(&parts)
}

/// A question as a client sends it.
fn question(name: &[u8], record: u16, more: &[u8]) -> Vec<u8> {
    let head = header(ID, WANTS_ALL, 0x20, [1, 0, 0, u8::from(!more.is_empty())]);
    [&head[..], name, &record.to_be_bytes(), &IN.to_be_bytes(), more].concat()
}

fn asked(name: &str) -> Asked {
    Asked::read(&question(&named(name), A, &[])).unwrap()
}

#[rstest]
#[case::a_service("api.ai.svc.cluster.local", true)]
#[case::the_domain_itself("cluster.local", true)]
#[case::in_capitals("API.AI.svc.Cluster.LOCAL", true)]
#[case::of_a_port("_https._tcp.kubernetes.default.svc.cluster.local", true)]
#[case::a_namespace("ai.svc.cluster.local", true)]
#[case::all_services("svc.cluster.local", true)]
#[case::a_pod_behind_a_service("n8n-0.n8n.ai.svc.cluster.local", true)]
#[case::a_pod("10-0-0-7.ai.pod.cluster.local", true)]
#[case::of_a_zone_beside("a.b.c.d.nodes.cluster.local", true)]
#[case::expanded("api.example.com.ai.svc.cluster.local", false)]
#[case::expanded_with_a_subdomain("d.a.t.a.evil.example.svc.cluster.local", false)]
#[case::like_a_port("_data._of.evil.example.ai.svc.cluster.local", false)]
#[case::half_a_port("_data.of.n8n.ai.svc.cluster.local", false)]
#[case::expanded_as_a_pod("api.example.com.ai.pod.cluster.local", false)]
#[case::of_the_world("api.example.com", false)]
#[case::alike("evilcluster.local", false)]
#[case::longer("cluster.local.evil.example", false)]
#[case::above_it("local", false)]
#[case::the_root("", false)]
#[case::an_address_turned_into_a_name("1.0.0.10.in-addr.arpa", false)]
#[case::an_address_of_ipv6("1.0.0.2.ip6.arpa", false)]
#[case::a_short_service("api.ai.svc", false)]
fn only_names_of_the_cluster_are_passed_on(#[case] name: &str, #[case] expected: bool) {
    let expected = if expected {
        Fate::PassedOn
    } else {
        Fate::Answered(Code::NoName)
    };
    assert_eq!(asked(name).fate(&domains()), expected);
}

/// One label `x.cluster` and the label `local`: written as text it would be the cluster's.
#[rstest]
#[case::a_dot(&[&b"x.cluster"[..], b"local"])]
#[case::a_backslash(&[&b"x\\"[..], b"cluster", b"local"])]
#[case::a_null(&[&b"\0"[..], b"cluster", b"local"])]
#[case::any_byte(&[&b"\xff\xfe"[..], b"cluster", b"local"])]
#[case::a_blank(&[&b"a b"[..], b"cluster", b"local"])]
fn a_name_that_no_host_has_is_none_of_the_clusters(#[case] name: &[&[u8]]) {
    let asked = Asked::read(&question(&labels(name), A, &[])).unwrap();
    assert_eq!(asked.fate(&domains()), Fate::Answered(Code::NoName));
}

#[rstest]
#[case::whole_zone(252, Code::NotDone)]
#[case::what_has_changed(251, Code::NotDone)]
#[case::everything(255, Code::NotDone)]
#[case::none(0, Code::NotDone)]
#[case::of_the_connection(OPT, Code::NotDone)]
fn a_question_is_for_one_record(#[case] record: u16, #[case] code: Code) {
    let asked = Asked::read(&question(&named("a.cluster.local"), record, &[])).unwrap();
    assert_eq!(asked.fate(&domains()), Fate::Answered(code));
}

/// Spelling, flags, options and number are the pod's to choose, and end here.
#[test]
fn nothing_but_name_and_type_is_passed_on() {
    let option = [
        0, 0, OPT as u8, 0xff, 0xff, 0, 0, 0x80, 0, 0, 8, 0, 10, 0, 4, b'd', b'a', b't', b'a',
    ];
    let one = Asked::read(&question(&named("aPi.ai.SVC.cluster.local"), A, &option)).unwrap();
    let mut other = question(&named("api.ai.svc.cluster.local"), A, &takes_up_to(1232));
    other[0] ^= 0xff;
    other[3] = 0x30;
    let other = Asked::read(&other).unwrap();
    let onward = one.onward(7);
    assert_eq!(onward, other.onward(7));
    assert_eq!(&onward[..4], &[0, 7, WANTS_ALL, 0]);
    assert!(!onward.windows(4).any(|bytes| bytes == b"data"));
    let small = Asked::read(&question(&named("a.cluster.local"), A, &takes_up_to(1))).unwrap();
    assert!(small.onward(7).ends_with(&takes_up_to(LEAST_DATAGRAM)));
    assert_eq!(
        asked("a.cluster.local").onward(7).len(),
        question(&named("a.cluster.local"), A, &[]).len()
    );
}

#[rstest]
#[case::too_short(&[0; 11], None)]
#[case::an_answer(&{ let mut bytes = question(&named("a.example"), A, &[]); bytes[2] |= ANSWER; bytes }, None)]
#[case::an_update(&{ let mut bytes = question(&named("a.example"), A, &[]); bytes[2] |= 5 << KIND_SHIFT; bytes }, Some(Code::NotDone))]
#[case::cut_off(&{ let mut bytes = question(&named("a.example"), A, &[]); bytes[2] |= CUT; bytes }, Some(Code::Unreadable))]
#[case::no_question(&header(ID, 0, 0, [0; 4]), Some(Code::Unreadable))]
#[case::two_questions(&{ let mut bytes = question(&named("a.example"), A, &[]); bytes[5] = 2; bytes.extend(named("b.example")); bytes.extend([0, 1, 0, 1]); bytes }, Some(Code::Unreadable))]
#[case::with_an_answer(&{ let mut bytes = question(&named("a.example"), A, &[]); bytes[7] = 1; bytes }, Some(Code::Unreadable))]
#[case::more_behind_it(&{ let mut bytes = question(&named("a.example"), A, &[]); bytes.push(0); bytes }, Some(Code::Unreadable))]
#[case::no_end(&question(&[63], A, &[]), Some(Code::Unreadable))]
#[case::refers_to_itself(&question(&[0xc0, 12], A, &[]), Some(Code::Unreadable))]
#[case::refers_back_and_forth(&question(&[1, b'a', 0xc0, 12], A, &[]), Some(Code::Unreadable))]
#[case::refers_to_the_end(&question(&[0xff, 0xff], A, &[]), Some(Code::Unreadable))]
#[case::extended_label(&question(&[0x41, 1, 0], A, &[]), Some(Code::Unreadable))]
#[case::name_too_long(&question(&named(&"a.".repeat(128)), A, &[]), Some(Code::Unreadable))]
#[case::another_record_than_options(&question(&named("a.example"), A, &[0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]), Some(Code::Unreadable))]
#[case::options_of_another_version(&question(&named("a.example"), A, &[0, 0, 41, 2, 0, 0, 1, 0, 0, 0, 0]), Some(Code::Unreadable))]
#[case::options_that_end_early(&question(&named("a.example"), A, &[0, 0, 41, 2, 0, 0, 0, 0, 0, 0, 9, 1]), Some(Code::Unreadable))]
#[case::too_long(&question(&named("a.example"), A, &[&[0, 0, 41, 2, 0, 0, 0, 0, 0, 5, 0][..], &[0; 0x500]].concat()), Some(Code::Unreadable))]
fn what_cannot_be_read_is_answered_in_twelve_bytes_or_not_at_all(#[case] bytes: &[u8], #[case] code: Option<Code>) {
    let answer = Asked::read(bytes).unwrap_err().answer();
    let expected = code.map(|code| LOOKS_UP | code as u8);
    assert_eq!(answer.as_ref().map(|answer| answer[3]), expected);
    if let Some(answer) = answer {
        assert_eq!((answer.len(), &answer[..2]), (HEADER, &ID.to_be_bytes()[..]));
    }
}

/// The longest name that there is, in either form.
#[test]
fn the_longest_name_is_read() {
    let name = format!("{}cluster.local", "a.".repeat(120));
    assert_eq!(named(&name).len(), MAX_NAME);
    assert_eq!(asked(&name).fate(&domains()), Fate::PassedOn);
    assert!(Asked::read(&question(&named(&format!("{}cluster.local", "a.".repeat(121))), A, &[])).is_err());
}

#[test]
fn an_answer_is_passed_back_in_the_pods_own_words() {
    let asked = asked("API.cluster.local");
    let mut reply = asked.onward(7);
    reply[2] |= ANSWER | 0x04;
    reply[7] = 1;
    // The owner's name is that of the question: a reference.
    let record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1];
    reply.extend(record);
    let back = asked.passed_back(7, &reply, true).unwrap();
    assert_eq!(&back[..2], &ID.to_be_bytes());
    assert_eq!(
        &back[HEADER..],
        [&question(&named("API.cluster.local"), A, &[])[HEADER..], &record].concat()
    );
    for (at, other) in [(0, 1), (2, 0), (5, 2), (13, b'x'), (back.len() - 17, 2)] {
        let mut forged = reply.clone();
        forged[at] = other;
        assert_eq!(asked.passed_back(7, &forged, true), Err(NotAnAnswer), "byte {at}");
    }
    for length in 0..HEADER + named("API.cluster.local").len() + 4 {
        assert_eq!(
            asked.passed_back(7, &reply[..length], true),
            Err(NotAnAnswer),
            "{length} bytes"
        );
    }
    reply.resize(600, 0);
    let cut = asked.passed_back(7, &reply, true).unwrap();
    assert_eq!(
        (cut[2] & CUT, cut.len()),
        (CUT, question(&named("API.cluster.local"), A, &[]).len())
    );
    assert_eq!(asked.passed_back(7, &reply, false).unwrap().len(), 600);
}

#[test]
fn what_is_answered_here_is_no_longer_than_what_came() {
    for more in [&[][..], &takes_up_to(4096)] {
        let came = question(&named("api.Example.com"), A, more);
        let answer = Asked::read(&came).unwrap().answer(Code::NoName);
        assert_eq!(answer.len(), came.len());
        assert_eq!(&answer[..4], &[0x12, 0x34, ANSWER | WANTS_ALL, LOOKS_UP | 3]);
        assert_eq!(
            &answer[HEADER..came.len() - more.len()],
            &came[HEADER..came.len() - more.len()]
        );
    }
}

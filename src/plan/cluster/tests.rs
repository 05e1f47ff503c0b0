use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn node(pods: &[&str], addresses: &[&str]) -> NodeFacts {
    let typed = addresses.iter().map(|address| ("InternalIP", *address));
    NodeFacts::new(strings(pods), typed)
}

fn after(mut before: AIWorkflowClassStatus, detection: &Detection) -> AIWorkflowClassStatus {
    say_detected(&mut before, detection);
    before
}

fn said(detection: &Detection) -> Vec<String> {
    after(AIWorkflowClassStatus::default(), detection)
        .cluster
        .unwrap()
        .ranges
}

fn class(cluster: &Value, detected: Option<&[&str]>) -> AIWorkflowClass {
    let mut object = json!({
        "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": "c"},
        "spec": {"cluster": cluster},
    });
    if let Some(ranges) = detected {
        object["status"] = json!({"cluster": {"ranges": ranges}});
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn services_pods_and_nodes_are_joined_and_sorted() {
    let nodes = [
        node(&["10.244.1.0/24", "fd00:1::/64"], &["198.18.0.2"]),
        node(&["10.244.0.0/24"], &["198.18.0.3", "::ffff:198.18.0.9", "fd00:2::1"]),
        NodeFacts::new(
            strings(&["10.244.0.0/24"]),
            [
                ("ExternalIP", "203.0.113.9"),
                ("Hostname", "192.0.2.1"),
                ("InternalIP", "node-a"),
            ],
        ),
    ];
    let detection = detect(&strings(&["10.96.0.0/16", "fd00:9::/112"]), &nodes, &[]);
    let expected = [
        "10.96.0.0/16",
        "10.244.0.0/23",
        "198.18.0.2/31",
        "198.18.0.9/32",
        "203.0.113.9/32",
        "fd00:1::/64",
        "fd00:2::1/128",
        "fd00:9::/112",
    ];
    assert_eq!(said(&detection), expected);
    let turned: Vec<_> = nodes.iter().rev().collect();
    assert_eq!(
        detect(&strings(&["fd00:9::/112", "10.96.0.0/16"]), turned, &[]),
        detection
    );
}

/// Kubernetes once took zeros in front of a number, and still keeps what was stored then.
#[rstest]
#[case::zeros("010.244.000.000/16", Some("10.244.0.0/16"))]
#[case::host_bits("10.244.3.7/16", Some("10.244.0.0/16"))]
#[case::mapped("::ffff:10.244.0.0/112", Some("10.244.0.0/16"))]
#[case::address("10.1.2.3", Some("10.1.2.3/32"))]
#[case::six("fd00::7", Some("fd00::7/128"))]
#[case::name("node-a", None)]
#[case::empty("", None)]
fn facts_are_read_as_kubernetes_writes_them(#[case] text: &str, #[case] expected: Option<&str>) {
    assert_eq!(read(text).map(|net| net.to_string()).as_deref(), expected);
}

#[rstest]
#[case::no_service_range(&[], vec![node(&["10.244.0.0/24"], &[])], &[], "no ServiceCIDR")]
#[case::pools_of_the_plugin(&["10.96.0.0/16"], vec![node(&[], &["198.18.0.2"])], &[], "no Node has spec.podCIDRs")]
#[case::of_one_of_two(&["10.96.0.0/16"], vec![node(&["10.244.0.0/24"], &[]), node(&[], &["198.18.0.2"])], &[], "1 of 2 Nodes have no spec.podCIDRs")]
#[case::pods_elsewhere(&["10.96.0.0/16"], vec![node(&["10.244.0.0/24"], &[])], &["192.168.3.4"], "192.168.3.4")]
#[case::unreadable(&["10.96.0.0/16"], vec![node(&["ten"], &[])], &[], "\"ten\" is no range")]
fn what_may_be_incomplete_is_not_detected(
    #[case] services: &[&str],
    #[case] nodes: Vec<NodeFacts>,
    #[case] own: &[&str],
    #[case] why: &str,
) {
    let own: Vec<_> = own.iter().map(|own| own.parse().unwrap()).collect();
    let detection = detect(&strings(services), &nodes, &own);
    assert!(detection.as_ref().unwrap_err().contains(why), "{detection:?}");
    let never = AIWorkflowClassStatus::default();
    assert_eq!(after(never.clone(), &detection), never);
    let (status, reason, message) = cluster_condition(&class(&json!({}), None), Some(&detection)).unwrap();
    assert_eq!((status, reason), (ConditionStatus::False, Reason::NotDetected));
    assert!(
        message.contains(why) && message.contains("spec.cluster.clusterCIDRs"),
        "{message}"
    );
}

/// A Node that gets no range for a while says nothing of those that have one.
#[test]
fn what_was_detected_last_closes_still_and_opens_nothing() {
    let knows = |status: &AIWorkflowClassStatus, cluster: Value| {
        let mut class = class(&cluster, None);
        class.status = Some(status.clone());
        let closed: Vec<_> = cluster_ranges(&class).iter().map(ToString::to_string).collect();
        (closed, knows_cluster(&class))
    };
    let failed: Detection = Err("1 of 2 Nodes have no spec.podCIDRs".to_owned());
    let services = strings(&["25.0.0.0/8"]);
    let mut status = after(AIWorkflowClassStatus::default(), &detect(&services, &[], &[]));
    let (closed, is_known) = knows(&status, json!({}));
    assert!(is_known && closed.contains(&"25.0.0.0/8".to_owned()), "{closed:?}");
    // Whatever fails next, and however often.
    for _ in 0..2 {
        status = after(status, &failed);
        assert_eq!(knows(&status, json!({})), (strings(&["25.0.0.0/8"]), false));
    }
    let declared = knows(&status, json!({"clusterCIDRs": ["26.0.0.0/8"]}));
    assert!(
        declared.1 && !declared.0.contains(&"25.0.0.0/8".to_owned()),
        "{declared:?}"
    );
    status = after(status, &detect(&strings(&["27.0.0.0/8"]), &[], &[]));
    assert_eq!(status.last_known_ranges, [""; 0]);
    let (closed, is_known) = knows(&status, json!({}));
    assert!(is_known && !closed.contains(&"25.0.0.0/8".to_owned()), "{closed:?}");
}

/// No node, no pod: the first one brings its range along. One that goes brings none any more.
#[test]
fn a_cluster_that_is_growing_or_shrinking_is_detected() {
    let services = strings(&["10.96.0.0/16"]);
    assert_eq!(said(&detect(&services, &[], &[])), ["10.96.0.0/16"]);
    let own = ["10.244.0.7".parse().unwrap()];
    let leaving = NodeFacts {
        excused: true,
        ..node(&[], &["198.18.0.2"])
    };
    let nodes = [node(&["10.244.0.0/24"], &[]), leaving];
    assert_eq!(said(&detect(&services, &nodes, &own)).len(), 3);
}

#[test]
fn more_ranges_than_fit_are_not_detected() {
    let addresses: Vec<_> = (0..600)
        .map(|n| format!("198.18.{}.{}", n / 100, n % 100 * 2))
        .collect();
    let many = |count: usize| {
        node(
            &["10.244.0.0/24"],
            &addresses[..count].iter().map(String::as_str).collect::<Vec<_>>(),
        )
    };
    let services = strings(&["10.96.0.0/16"]);
    assert_eq!(said(&detect(&services, &[many(510)], &[])).len(), 512);
    let detection = detect(&services, &[many(511)], &[]);
    assert!(detection.unwrap_err().contains("have 513 ranges"));
}

#[rstest]
#[case::detected(json!({}), Some(&["10.96.0.0/16"][..]), "203.0.113.0/24", true)]
#[case::declared_instead(json!({"clusterCIDRs": ["203.0.113.0/24"]}), Some(&["10.96.0.0/16"][..]), "10.96.0.0/16", true)]
#[case::not_known(json!({}), None, "203.0.113.0/24", false)]
#[case::declared_unreadable(json!({"clusterCIDRs": ["10.0.0.0/8", "10.0.0.1/8"]}), Some(&["10.96.0.0/16"][..]), "203.0.113.0/24", false)]
#[case::declared_nothing(json!({"clusterCIDRs": []}), Some(&["10.96.0.0/16"][..]), "203.0.113.0/24", false)]
#[case::detected_unreadable(json!({}), Some(&["10.96.0.0/16", "x"][..]), "203.0.113.0/24", false)]
fn what_the_class_says_comes_first_and_what_nobody_knows_stays_closed(
    #[case] cluster: Value,
    #[case] detected: Option<&[&str]>,
    #[case] net: &str,
    #[case] open: bool,
) {
    let ranges = Ranges::of(&class(&cluster, detected));
    assert_eq!(
        (ranges.known(), ranges.carve(&net.parse().unwrap(), &[]).is_some()),
        (open, open)
    );
}

const CLUSTER: [&str; 4] = ["10.96.0.0/16", "10.244.0.0/16", "198.18.0.7/32", "fd00:244::/56"];

#[rstest]
#[case::lower_half("0.0.0.0/1", &[], Some("10.96.0.0/16 10.244.0.0/16 100.80.80.80/32 100.96.0.96/32 100.100.100.200/32"))]
#[case::upper_half("128.0.0.0/1", &[], Some("168.63.129.16/32 169.254.0.23/32 169.254.42.42/32 169.254.169.252/32 169.254.169.254/32 169.254.170.2/32 169.254.170.23/32 192.0.0.192/32 198.18.0.7/32"))]
#[case::around("10.0.0.0/8", &["10.96.0.0/12", "10.244.7.0/24"], Some("10.96.0.0/12 10.244.0.0/16"))]
#[case::elsewhere("203.0.113.0/24", &["203.0.113.7/32", "198.51.100.0/24"], Some("203.0.113.7/32"))]
#[case::six("fd00::/16", &[], Some("fd00:42::42/128 fd00:c1::a9fe:a9fe/128 fd00:100::100:200/128 fd00:244::/56 fd00:ec2::23/128 fd00:ec2::254/128 fd00:a9fe:a9fe::1/128"))]
#[case::whole("10.96.0.0/16", &[], None)]
#[case::part("10.244.3.0/24", &[], None)]
#[case::node("198.18.0.7/32", &[], None)]
#[case::part_of_six("fd00:244:0:3::/64", &[], None)]
#[case::through_nat64("64:ff9b::/96", &[], Some(
    "64:ff9b::a60:0/112 64:ff9b::af4:0/112 64:ff9b::6450:5050/128 64:ff9b::6460:60/128 64:ff9b::6464:64c8/128 64:ff9b::a83f:8110/128 64:ff9b::a9fe:17/128 \
     64:ff9b::a9fe:2a2a/128 64:ff9b::a9fe:a9fc/128 64:ff9b::a9fe:a9fe/128 64:ff9b::a9fe:aa02/128 64:ff9b::a9fe:aa17/128 \
     64:ff9b::c000:c0/128 64:ff9b::c612:7/128"))]
#[case::inside_through_nat64("64:ff9b::a60:100/120", &[], None)]
#[case::joined_to_all_of_it("198.18.0.6/31", &["198.18.0.6/32"], None)]
fn the_clusters_own_ranges_are_taken_out(#[case] net: &str, #[case] except: &[&str], #[case] expected: Option<&str>) {
    let ranges = Ranges::of(&class(&json!({}), Some(&CLUSTER)));
    let net: IpNet = net.parse().unwrap();
    let carved = ranges.carve(&net, &strings(except));
    let shown = carved
        .as_ref()
        .map(|taken| taken.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    assert_eq!(shown.as_deref(), expected);
    // What the API server demands of ipBlock.except.
    assert!(
        carved
            .iter()
            .flatten()
            .all(|taken| net.contains(taken) && *taken != net)
    );
}

#[test]
fn two_halves_of_everything_leave_what_everything_leaves() {
    let ranges = Ranges::of(&class(&json!({}), Some(&CLUSTER)));
    let carved = |net: &str| ranges.carve(&net.parse().unwrap(), &[]).unwrap();
    assert_eq!(
        [carved("0.0.0.0/1"), carved("128.0.0.0/1")].concat(),
        carved("0.0.0.0/0")
    );
    assert_eq!([carved("::/1"), carved("8000::/1")].concat(), carved("::/0"));
}

#[test]
fn what_does_not_fit_into_one_policy_is_found() {
    let detected: Vec<_> = (0..500)
        .map(|n| format!("198.18.{}.{}/32", n / 100, n % 100 * 2))
        .collect();
    let detected: Vec<_> = detected.iter().map(String::as_str).collect();
    let ranges = Ranges::of(&class(&json!({}), Some(&detected)));
    let rules = |count: usize| -> Network {
        let rule = json!({"name": "x", "to": {"cidrs": ["0.0.0.0/0"]}, "ports": [{"port": 1}]});
        serde_json::from_value(json!({"egress": vec![rule; count]})).unwrap()
    };
    assert!(ranges.fit(&rules(16)));
    assert!(!ranges.fit(&rules(17)));
}

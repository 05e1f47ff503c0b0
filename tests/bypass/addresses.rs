//! Door: a range of addresses that holds more than it seems to, or more than the platform opens.

use anyhow::ensure;
use serde_json::{Value, json};
use support::network::{Pod, Scene, Simulator, open_paths};
use support::{eventually, unique};

use crate::world::{Actor, CLASSES, SOON, World, all, condition, workflow};

/// Outside a class that opens 203.0.113.0/24, and written as it must be.
const OUTSIDE: [&str; 17] = [
    "0.0.0.0/0",
    "0.0.0.0/1",
    "128.0.0.0/1",
    "192.0.0.0/2",
    "203.0.112.0/23",
    "203.0.114.0/24",
    "::/0",
    "0:0:0:0:0:0:0:0/0",
    "::/1",
    "8000::/1",
    "2000::/3",
    // The same addresses as the class opens, by another way.
    "64:ff9b::/96",
    "64:ff9b::cb00:7100/120",
    "2002::/16",
    "::cb00:7100/120",
    "169.254.0.0/16",
    "fe80::/10",
];

/// What can be read in two ways, or in none.
const UNREADABLE: [&str; 19] = [
    "203.0.113.7/24",
    "0.0.0.1/0",
    "::1/0",
    "203.0.113.0/024",
    "203.0.113.0/+24",
    "203.0.113.0/-1",
    "203.0.113.0/33",
    "203.0.113.0",
    "203.0.113/24",
    "0203.0.113.0/24",
    "0xcb.0.113.0/24",
    "3405803776/24",
    "0/0",
    " 203.0.113.0/24",
    "203.0.113.0/24,0.0.0.0/0",
    "::ffff:0:0/96",
    "::ffff:203.0.113.0/120",
    "::ffff:0:0/95",
    "\u{ff12}03.0.113.0/24",
];

/// Where a cloud hands out credentials, in every form in which a packet can carry it.
const METADATA: [&str; 31] = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.169.252",
    "169.254.0.23",
    "169.254.42.42",
    "192.0.0.192",
    "100.96.0.96",
    "100.80.80.80",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "fe80::a9fe:a9fe",
    "fd00:42::42",
    "fd00:a9fe:a9fe::1",
    "fd00:100::100:200",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::a83f:8110",
    "64:ff9b::6464:64c8",
    "64:ff9b::a9fe:aa02",
    "64:ff9b::a9fe:aa17",
    "64:ff9b::a9fe:a9fc",
    "64:ff9b::a9fe:17",
    "64:ff9b::a9fe:2a2a",
    "64:ff9b::c000:c0",
    "64:ff9b::6460:60",
    "64:ff9b::6450:5050",
    "::ffff:169.254.169.254",
];

fn class(cidrs: &[&str]) -> Value {
    json!({
        "images": {"allowed": ["**"]}, "network": {"cidrs": cidrs}, "cluster": {"clusterCIDRs": ["10.0.0.0/8"]},
    })
}

/// A rule for each range.
fn egress(ranges: &[&str]) -> Value {
    let rule = |(index, range): (usize, &&str)| json!({"name": format!("r{index}"), "to": {"cidrs": [range]}, "ports": [{"port": 443}]});
    json!({"network": {"egress": ranges.iter().enumerate().map(rule).collect::<Vec<_>>()}})
}

fn ingress(ranges: &[&str]) -> Value {
    let rule = |(index, range): (usize, &&str)| json!({"name": format!("r{index}"), "from": {"cidrs": [range]}, "ports": [{"port": 443}]});
    json!({"network": {"ingress": ranges.iter().enumerate().map(rule).collect::<Vec<_>>()}})
}

/// Paths from or to pods of these workflows, by the NetworkPolicies that there are.
async fn open(admin: &Actor, ns: &str, workflows: &[&str], addresses: &[&str]) -> Vec<String> {
    let policies = admin.items(&all("NetworkPolicy", ns)).await.unwrap();
    let pods = workflows.iter().enumerate().map(|(index, name)| {
        Pod::new(
            ns,
            name,
            &[("ringfence.dev/workflow", name)],
            &format!("10.0.0.{}", index + 1),
        )
    });
    let scene = Scene::of(pods.collect(), addresses, [443]);
    let matrix = Simulator::start().unwrap().ask(&scene, &policies).unwrap();
    let paths = open_paths(&scene, &matrix).into_iter();
    paths.map(|path| path.replace(&format!("{ns}/"), "")).collect()
}

/// Stored with a warning, since a class may widen, and opened nothing of: not Accepted, and the simulator finds it closed.
///
/// Held by: `accepted-declaration`, `operator`, `NetworkPolicy`
#[tokio::test]
async fn a_tenant_declares_ranges_that_the_class_does_not_open() {
    let world = World::shared().await;
    let class = world.class(&class(&["203.0.113.0/24"])).await;
    let ns = &world.namespace("wide", &json!({"ringfence.dev/enforce": class})).await;
    let (_, edith) = world.person(ns, "edit").await;
    let ranges: Vec<&str> = OUTSIDE.into_iter().chain(["203.0.113.0/25"]).collect();
    for (attacker, name, spec) in [
        (&world.tess, "out", egress(&ranges)),
        (&edith, "into", ingress(&ranges)),
    ] {
        let answer = attacker.post(&all("AIWorkflow", ns), &workflow(name, &spec)).await;
        let warned = answer.warnings.join(" ");
        assert!(
            warned.contains("[accepted-declaration]"),
            "{name} is warned of: {warned}"
        );
        answer.ok();
        let said = world.condition(ns, name, "Accepted", "False", "OutsideClass").await;
        let message = condition(&said, "Accepted")["message"].to_string();
        for (index, range) in OUTSIDE.iter().enumerate() {
            assert!(
                message.contains(&format!("[{index}]")),
                "{range} is not named: {message}"
            );
        }
        assert!(
            !message.contains(&format!("[{}]", OUTSIDE.len())),
            "what the class opens is: {message}"
        );
    }
    let addresses = [
        "203.0.113.7",
        "203.0.114.7",
        "198.51.100.1",
        "1.1.1.1",
        "2001:db8::1",
        "64:ff9b::cb00:7107",
        "169.254.169.254",
    ];
    // Of each stands what the class opens.
    eventually(SOON, || async {
        let found = open(&world.admin, ns, &["out", "into"], &addresses).await;
        ensure!(
            found == ["203.0.113.7 -> into:443/TCP", "out -> 203.0.113.7:443/TCP"],
            "{found:?}"
        );
        Ok(())
    })
    .await;
}

/// Held by: `valid-declaration`, `definition`
#[tokio::test]
async fn a_tenant_declares_ranges_that_are_read_in_two_ways() {
    let world = World::shared().await;
    let class = world.class(&class(&["203.0.113.0/24", "0.0.0.0/0", "::/0"])).await;
    let ns = &world
        .namespace("twofold", &json!({"ringfence.dev/enforce": class}))
        .await;
    let (_, edith) = world.person(ns, "edit").await;
    let refused = async |attacker: &Actor, what: &str, spec: &Value| {
        let answer = attacker
            .post(&all("AIWorkflow", ns), &workflow(&unique("x"), spec))
            .await;
        let by_definition = answer.code == 422 && answer.message().contains("spec.network");
        if !by_definition {
            let message = answer.refused_by("valid-declaration");
            assert!(message.contains("spec.network"), "{what}: {message}");
        }
    };
    for range in UNREADABLE {
        refused(&world.tess, range, &egress(&[range])).await;
        refused(&edith, range, &ingress(&["203.0.113.0/24", range])).await;
    }
    // A metadata service by its own address opens nothing, and says so at once; nor does what may lead to any address of IPv4.
    for address in [
        "169.254.169.254/32",
        "fd00:ec2::254/128",
        "64:ff9b::a9fe:a9fe/128",
        "64:ff9b:1::/48",
    ] {
        refused(&world.tess, address, &egress(&[address])).await;
    }
    // What is taken out of a range lies in it, and is not it.
    for except in [
        "203.0.113.0/24",
        "0.0.0.0/0",
        "203.0.113.7/25",
        "198.51.100.0/24",
        "::/0",
        "::ffff:203.0.113.0/121",
        "x",
    ] {
        let mut spec = egress(&["203.0.113.0/24"]);
        spec["network"]["egress"][0]["to"]["except"] = json!([except]);
        refused(&world.tess, except, &spec).await;
    }
    let mut plain = egress(&["203.0.113.0/24"]);
    plain["network"]["egress"][0]["to"]["except"] = json!(["203.0.113.64/26"]);
    world.ready(ns, "plain", &plain).await;
    let found = open(&world.admin, ns, &["plain"], &["203.0.113.7", "203.0.113.65"]).await;
    assert_eq!(found, ["plain -> 203.0.113.7:443/TCP"]);
}

/// However wide the class is, and however the range is cut.
///
/// Held by: `operator`, `NetworkPolicy`
#[tokio::test]
async fn a_tenant_asks_for_a_clouds_credentials_by_a_wide_range() {
    let world = World::shared().await;
    let class = world.class(&class(&["0.0.0.0/0", "::/0"])).await;
    let ns = &world
        .namespace("metadata", &json!({"ringfence.dev/enforce": class}))
        .await;
    let whole = egress(&["0.0.0.0/0", "::/0"]);
    let halves = egress(&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]);
    let near = egress(&[
        "169.254.0.0/16",
        "168.63.129.0/24",
        "100.100.100.192/26",
        "fd00::/8",
        "fe80::/10",
        "64:ff9b::/96",
    ]);
    let mut cut = egress(&["169.254.169.0/24"]);
    cut["network"]["egress"][0]["to"]["except"] = json!(["169.254.169.0/25"]);
    let workflows = [("whole", whole), ("halves", halves), ("near", near), ("cut", cut)];
    for (name, spec) in &workflows {
        world.ready(ns, name, spec).await;
    }
    let names = workflows.map(|(name, _)| name);
    let addresses: Vec<&str> = METADATA
        .into_iter()
        .chain(["169.254.169.253", "203.0.113.7", "2001:db8::1"])
        .collect();
    let found = open(&world.admin, ns, &names, &addresses).await;
    for path in &found {
        let (_, to) = path.split_once(" -> ").unwrap();
        let address = to.strip_suffix(":443/TCP").unwrap();
        assert!(!METADATA.contains(&address), "{path} is open");
    }
    for path in [
        "whole -> 203.0.113.7:443/TCP",
        "halves -> 2001:db8::1:443/TCP",
        "near -> 169.254.169.253:443/TCP",
        "cut -> 169.254.169.253:443/TCP",
    ] {
        assert!(found.contains(&path.to_owned()), "{path} is not open: {found:?}");
    }
}

/// A class that is the platform's own mistake opens nothing by it.
///
/// Held by: `RBAC`, `valid-declaration`
#[tokio::test]
async fn a_class_is_written_that_opens_more_than_it_says() {
    let world = World::shared().await;
    let ns = &world.enforced("classes").await;
    let (_, ada) = world.person(ns, "admin").await;
    for range in ["10.0.0.1/8", "010.0.0.0/8", "::ffff:0:0/96", "0/0"] {
        let object = json!({
            "apiVersion": "ringfence.dev/v1alpha1", "kind": "AIWorkflowClass", "metadata": {"name": unique("class")},
            "spec": class(&[range]),
        });
        let answer = world.admin.post(CLASSES, &object).await;
        let message = answer.refused_by("valid-declaration");
        assert!(message.contains("spec.network.cidrs[0]"), "{range}: {message}");
        for attacker in [&world.tess, &ada] {
            let answer = attacker.post(CLASSES, &object).await;
            assert_eq!(answer.code, 403, "{}", answer.body);
            assert!(
                !answer.message().contains("ringfence refused"),
                "by RBAC: {}",
                answer.message()
            );
        }
    }
    world.class(&class(&["203.0.113.0/24"])).await;
}

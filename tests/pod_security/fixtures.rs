//! The pods of the standard's own tests, as they lie in its source: each with the verdict that it is there for, from the standard
//! and from us.

use crate::compared::{As, Sample, VERSIONS, compare};
use support::pod_security::PodSecurity;

#[test]
fn each_has_the_verdict_of_the_standard() {
    let mut standard = PodSecurity::start().expect("the checks start");
    let mut samples = Vec::new();
    let mut as_meant = 0;
    for fixture in standard.fixtures().expect("the fixtures") {
        if !VERSIONS.contains(&fixture.version.as_str()) {
            continue;
        }
        let verdicts = standard
            .ask(&fixture.pod, &[&fixture.version])
            .expect("an answer")
            .expect("a pod");
        let passes = if fixture.level == "baseline" {
            verdicts[0].baseline
        } else {
            verdicts[0].restricted
        };
        let what = format!("{} {} {}", fixture.level, fixture.version, fixture.name);
        assert_eq!(passes, fixture.allowed, "{what}");
        as_meant += 1;
        samples.push(Sample {
            what,
            pod: fixture.pod,
            stricter: None,
        });
    }
    let tally = compare(&samples, As::Pod, &VERSIONS);
    println!(
        "{as_meant} fixtures, {} verdicts compared, {} refuse",
        tally.compared, tally.refused
    );
    tally.none_differ();
    assert!(as_meant > 600, "only {as_meant} fixtures");
}

//! The kernel made to match plans, and what packets then do.

mod lab;

use std::time::Instant;

use isthmus_agent::{Pass, reconcile};
use isthmus_fabric::{internet, vpc};
use isthmus_hostplan::VpcPlan;
use lab::{Lab, must, pings};

fn make(lab: &Lab, plan: &VpcPlan) -> Pass {
    reconcile(&vpc(&lab.realm, &lab.uplink(), plan), || {}).unwrap()
}

fn make_internet(lab: &Lab) -> Pass {
    reconcile(&internet(&lab.realm, &lab.uplink()), || {}).unwrap()
}

#[test]
fn instances_reach_each_other_and_the_internet() {
    let lab = Lab::new();
    let plan = lab::vpc(1);
    assert!(make_internet(&lab).is_converged());
    let began = Instant::now();
    let first = make(&lab, &plan);
    println!("made {} kernel objects in {:?}", first.changes, began.elapsed());
    assert!(first.is_converged(), "{first:?}");
    let began = Instant::now();
    let second = make(&lab, &plan);
    println!("second pass {:?}", began.elapsed());
    assert_eq!(second, Pass::default());
    assert_eq!(make_internet(&lab), Pass::default());
    for from in &plan.ports {
        let namespace = lab.instance(from);
        for to in &plan.ports {
            assert!(
                pings(&namespace, to.address),
                "{} to {}",
                from.address,
                to.address
            );
        }
        assert!(pings(&namespace, lab::ROUTER), "{} to the internet", from.address);
    }
    println!("{}", must(&lab.router(&plan), "nft list counters"));
}

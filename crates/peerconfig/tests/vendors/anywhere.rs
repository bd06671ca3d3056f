//! What a peer without a fixed address is told.

use isthmus_hostplan::PeerEndpoint;
use isthmus_peerconfig::Vendor;
use isthmus_types::IkeVersion;

use crate::{assert_has, assert_lacks, printed};

const MUST_BEGIN: &str = "This end must begin: the gateway waits for it";

#[test]
fn a_peer_without_an_address_is_told_to_begin_and_who_it_is() {
    for vendor in Vendor::ALL {
        let text = printed(vendor, IkeVersion::V2, |peering| {
            peering.plan.peer = PeerEndpoint::Anywhere;
        })
        .unwrap();
        let mark = if vendor == Vendor::CiscoIos { "! " } else { "# " };
        assert!(
            text.starts_with(&format!("{mark}{MUST_BEGIN}")),
            "{}:\n{text}",
            vendor.word()
        );
        assert_has(&text, &["berlin.example"]);
        // What was its address.
        assert_lacks(&text, &["203.0.113.2"]);
        let fixed = printed(vendor, IkeVersion::V2, |_| ()).unwrap();
        assert_lacks(&fixed, &[MUST_BEGIN]);
    }
}

#[test]
fn a_device_that_takes_an_address_takes_any_and_begins_by_itself() {
    let text = |vendor| {
        printed(vendor, IkeVersion::V2, |peering| {
            peering.plan.peer = PeerEndpoint::Anywhere;
        })
        .unwrap()
    };
    assert_has(
        &text(Vendor::StrongSwan),
        &["local_addrs = %any\n", "start_action = start\n"],
    );
    assert_has(
        &text(Vendor::Libreswan),
        &["left=%defaultroute\n", "auto=start\n"],
    );
    assert_has(&text(Vendor::Junos), &["establish-tunnels immediately\n"]);
    assert_has(&text(Vendor::FortiOs), &["set auto-negotiate enable\n"]);
    assert_has(&text(Vendor::PfSense), &["Automatically ping host"]);
}

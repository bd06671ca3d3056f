//! Entity tags (RFC 9110 section 8.8.3): versions of resources as clients see them.
//!
//! Tags are given as weak ones and compared weakly, since one version has several looks.

/// The tag of a version.
pub(crate) fn text(version: u64) -> String {
    format!("W/\"{version}\"")
}

/// The versions that the lines of `If-Match` (RFC 9110 section 13.1.1) accept, none for any version.
///
/// A tag that [`text`] never gave, and what is no tag at all, match nothing and leave the others in force.
pub(crate) fn accepted<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u64>> {
    let mut versions = Vec::new();
    for line in lines {
        if line.trim_ascii() == b"*" {
            return None;
        }
        versions.extend(members(line).filter_map(version));
    }
    Some(versions)
}

// The members of a list; a comma inside quotes belongs to a tag.
fn members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

fn version(tag: &[u8]) -> Option<u64> {
    let opaque = tag
        .strip_prefix(b"W/")
        .unwrap_or(tag)
        .strip_prefix(b"\"")?
        .strip_suffix(b"\"")?;
    let digits = std::str::from_utf8(opaque).ok()?;
    let version: u64 = digits.parse().ok()?;
    // Other spellings of the number are not tags of ours.
    (version.to_string() == digits).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Option<Vec<u64>> {
        accepted(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn a_tag_that_was_given_is_accepted_back() {
        for version in [1, 17, u64::MAX] {
            assert_eq!(of(&[&text(version)]), Some(vec![version]));
        }
    }

    #[test]
    fn a_list_accepts_each_of_its_tags() {
        assert_eq!(of(&["W/\"1\", \"2\",W/\"3\""]), Some(vec![1, 2, 3]));
        assert_eq!(of(&["\"1\"", " , \"2\" ,"]), Some(vec![1, 2]));
        assert_eq!(of(&["\"a,b\", \"2\""]), Some(vec![2]));
        assert_eq!(of(&["\"1\"", " * "]), None);
    }

    #[test]
    fn what_was_never_given_accepts_nothing() {
        for line in [
            "", ",", "17", "\"+17\"", "\"017\"", "\"17", "W/17", "\"1,2\"", "w/\"17\"", "\"",
        ] {
            assert_eq!(of(&[line]), Some(vec![]), "{line}");
        }
        assert_eq!(accepted([&b"\"\xff\", \"4\""[..]].into_iter()), Some(vec![4]));
    }
}

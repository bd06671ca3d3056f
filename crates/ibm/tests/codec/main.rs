//! The codec from outside: requests in, operations out; outcomes in, answers out.

#![expect(clippy::unwrap_used, reason = "the shared samples are part of the tests")]
#![expect(clippy::wildcard_enum_match_arm, reason = "any other variant fails the test")]

mod anything;
mod bad_input;
mod looks;
mod meaning;
mod samples;

//! The IBM dialect over HTTP, on a real store.

#![expect(clippy::unwrap_used, reason = "every function here is part of a test")]
#![expect(clippy::print_stdout, reason = "tests say what they counted")]

mod authorization;
mod bad_input;
mod capacity;
mod curl;
mod dates;
mod facts;
mod options;
mod paging;
mod parallel;
mod references;
mod reset;
mod sdk;
mod secrets;
mod transport;
mod vpn;

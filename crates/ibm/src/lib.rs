//! The IBM Cloud VPC REST API as a codec: request → [`Operation`] or [`Query`], outcome or error → answer.
//!
//! The codec knows the provider's paths, properties, defaults, ids, dates and error codes. It must not know the model,
//! the store, credentials or any HTTP server, and it holds no state: the time, the account and the server's own
//! address are passed in.
//!
//! How to drive it: [`find_route`] finds the [`Route`] of a method and an undecoded path; the server then checks who
//! asks; [`decode`] reads the rest of the request into a [`Decoded`]; the server carries out [`Ask`] and gives the
//! result with the [`Render`] to [`encode()`]. A [`Fault`] of any step becomes an answer by [`Fault::response`].
//!
//! One object is shown differently at different `version` dates ([`ApiDate`]); the date never changes what is stored.
//!
//! One property is our own: `primary_network_interface.attachment` of an instance says what stands at the workload's
//! end, `{"kind": "namespace"}` (default), `{"kind": "tap", "interface": NAME}` or `{"kind": "hand_over",
//! "namespace": NAME, "interface": NAME}`.

mod body;
mod call;
mod date;
mod encode;
mod entity_tag;
mod fault;
mod id;
mod refusal;
mod render;
mod resource;
mod route;
mod scalar;

use http::HeaderMap;
use isthmus_ops::{IfMatch, Operation, Query};
use isthmus_types::{AccountId, RegionName, Timestamp};

pub use date::ApiDate;
pub use encode::encode;
pub use fault::{Fault, Target, TargetKind};
pub use render::Render;
pub use route::{Matched, Route, find_route, routes};

/// The entity tag of a version, as this API gives it.
pub fn entity_tag(version: u64) -> String {
    entity_tag::text(version)
}

/// The versions that `If-Match` names; none for `*` and without that header: any version will do.
pub fn if_match(headers: &HeaderMap) -> IfMatch {
    let mut lines = headers.get_all(http::header::IF_MATCH).iter().peekable();
    lines.peek()?;
    entity_tag::accepted(lines.map(http::HeaderValue::as_bytes))
}

/// Where and for whom a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Scheme and authority under which the client reaches us, without a slash at the end.
    pub base_url: String,
    /// The region that we are.
    pub region: RegionName,
    /// The account of the caller.
    pub account: AccountId,
    /// The time of the request.
    pub now: Timestamp,
    /// Identifies the request; errors show it as `trace`.
    pub trace: String,
}

/// A request whose route is known.
pub struct Request<'a> {
    /// What [`find_route`] found.
    pub matched: &'a Matched<'a>,
    /// The query string, undecoded, without the question mark.
    pub query: &'a str,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The body; read as JSON whatever its content type.
    pub body: &'a [u8],
    /// Where and for whom.
    pub scene: Scene,
}

/// What a request asks of the server.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Nothing: the codec knows the answer.
    Answer(Box<http::Response<Vec<u8>>>),
    /// To change the model.
    Operation(Box<Operation>),
    /// To read the model.
    Query(Box<Query>),
}

/// A decoded request.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// What to do.
    pub ask: Ask,
    /// How to show the result.
    pub render: Render,
}

/// Reads a request.
///
/// Checks in this order: `version`, `generation`, ids in the path, query, body.
///
/// # Errors
/// The [`Fault`] to answer with.
pub fn decode(request: &Request<'_>) -> Result<Decoded, Fault> {
    let call = call::Call::new(request)?;
    let plan = (request.matched.route.decode)(&call)?;
    Ok(Decoded {
        ask: plan.ask,
        render: call.into_render(plan.success, plan.shape),
    })
}

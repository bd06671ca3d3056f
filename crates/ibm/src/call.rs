//! One request while it is being decoded.

use std::num::NonZeroU32;

use form_urlencoded as form;
use http::StatusCode;
use isthmus_ops::{GroupFilter, IfMatch, OpError, Operation, Page, Query, ResourceKind};
use isthmus_types::{ResourceBits, ResourceName};
use serde_json::Value;

use crate::body::parse_object;
use crate::date::ApiDate;
use crate::fault::{Fault, Target};
use crate::id::IdKind;
use crate::refusal;
use crate::render::{Render, Shape};
use crate::{Ask, Request, scalar};

/// What a handler makes of a request.
pub(crate) struct Plan {
    pub ask: Ask,
    pub success: StatusCode,
    pub shape: Shape,
}

impl Plan {
    /// Answers a question with 200.
    pub fn query(query: Query, shape: Shape) -> Self {
        Self {
            ask: Ask::Query(Box::new(query)),
            success: StatusCode::OK,
            shape,
        }
    }

    /// Carries out an operation and shows its outcome.
    pub fn operation(operation: Operation, success: StatusCode) -> Self {
        Self {
            ask: Ask::Operation(Box::new(operation)),
            success,
            shape: Shape::Whole,
        }
    }

    /// Carries out an operation and shows nothing.
    pub fn silent(operation: Operation, success: StatusCode) -> Self {
        Self {
            ask: Ask::Operation(Box::new(operation)),
            success,
            shape: Shape::Empty,
        }
    }
}

/// One request: its route, date, path variables and query.
pub(crate) struct Call<'a> {
    pub request: &'a Request<'a>,
    pub date: ApiDate,
    query: Vec<(String, String)>,
}

const LARGEST_PAGE: u32 = 100;
const DEFAULT_PAGE: NonZeroU32 = NonZeroU32::new(50).expect("fifty is not zero");

impl<'a> Call<'a> {
    /// Checks the parameters that every request must have.
    pub fn new(request: &'a Request<'a>) -> Result<Self, Fault> {
        let query: Vec<(String, String)> = form::parse(request.query.as_bytes())
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let first = |wanted: &str| {
            query
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, v)| v.as_str())
        };
        let date = ApiDate::from_parameter(first("version"), request.scene.now)?;
        match first("generation") {
            Some("2") => {}
            Some(other) => {
                return Err(Fault::bad("invalid_generation_parameter", "generation must be 2")
                    .at(Target::parameter("generation").with_value(other)));
            }
            None => {
                return Err(Fault::bad(
                    "missing_generation_parameter",
                    "the query parameter generation is missing; it must be 2",
                )
                .at(Target::parameter("generation").with_value("")));
            }
        }
        Ok(Self { request, date, query })
    }

    /// The render that goes with the call.
    pub fn into_render(self, success: StatusCode, shape: Shape) -> Render {
        let repeated = self
            .query
            .into_iter()
            .filter(|(name, _)| {
                !matches!(
                    name.as_str(),
                    "version" | "generation" | "maturity" | "limit" | "start"
                )
            })
            .collect();
        Render {
            scene: self.request.scene.clone(),
            date: self.date,
            subject: self.request.matched.route.subject,
            success,
            shape,
            path: self.request.matched.path.to_owned(),
            repeated,
        }
    }

    /// A render for a handler that answers by itself.
    pub fn render(&self) -> Render {
        Self {
            request: self.request,
            date: self.date,
            query: self.query.clone(),
        }
        .into_render(StatusCode::OK, Shape::Whole)
    }

    /// The kind of resource that the route is about.
    pub const fn subject(&self) -> ResourceKind {
        self.request.matched.route.subject
    }

    /// A variable of the path, decoded.
    pub fn variable(&self, index: usize) -> &str {
        self.request
            .matched
            .variables
            .get(index)
            .map_or("", String::as_str)
    }

    /// An id in the path.
    pub fn id<I: From<ResourceBits>>(&self, index: usize, kind: &IdKind) -> Result<I, Fault> {
        let text = self.variable(index);
        kind.bits(text).map(I::from).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            let error = OpError::not_found(kind.resource, shown);
            refusal::fault(&error, self.subject(), self.date)
        })
    }

    /// The body, an object.
    pub fn body(&self) -> Result<Value, Fault> {
        parse_object(self.request.body)
    }

    /// A query parameter; empty counts as missing.
    pub fn parameter(&self, wanted: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The page asked for by `limit` and `start`.
    pub fn page(&self) -> Result<Page, Fault> {
        let limit = match self.parameter("limit") {
            None => DEFAULT_PAGE,
            Some(text) => {
                let fault = |code, why: &str| {
                    Fault::bad(code, format!("limit {why}")).at(Target::parameter("limit").with_value(text))
                };
                let number: i64 = text
                    .parse()
                    .map_err(|_| fault("validation_invalid_field_type", "must be an integer"))?;
                if number > i64::from(LARGEST_PAGE) {
                    return Err(fault("validation_max_value", "must not be more than 100"));
                }
                u32::try_from(number)
                    .ok()
                    .and_then(NonZeroU32::new)
                    .ok_or_else(|| fault("validation_min_value", "must not be less than 1"))?
            }
        };
        Ok(Page {
            limit,
            start: self.parameter("start").map(str::to_owned),
        })
    }

    /// The page of a list that the codec itself knows wholly: its limit and the number of its first item.
    pub fn slice(&self) -> Result<(u32, usize), Fault> {
        let page = self.page()?;
        let start = match page.start {
            None => 0,
            Some(text) => text.parse().map_err(|_| {
                Fault::bad("invalid_id_format", "start is not one that a page gave")
                    .at(Target::parameter("start").with_value(&text))
            })?,
        };
        Ok((page.limit.get(), start))
    }

    /// The versions that `If-Match` names. `*` and no header match any.
    pub fn if_match(&self) -> IfMatch {
        crate::if_match(self.request.headers)
    }

    /// Refuses a change of arrays by a client that does not say which state it has seen.
    pub fn require_if_match(&self, array: &str) -> Result<(), Fault> {
        if self.request.headers.contains_key(http::header::IF_MATCH) {
            return Ok(());
        }
        Err(Fault::new(
            StatusCode::PRECONDITION_REQUIRED,
            "missing_header",
            format!("a change of {array} needs the header If-Match"),
        )
        .at(Target::header("If-Match")))
    }

    /// The filter `resource_group.id`.
    pub fn group_filter(&self) -> Option<GroupFilter> {
        let id = self.parameter("resource_group.id")?;
        Some(scalar::known_group(self, id).map_or(GroupFilter::Default, GroupFilter::Labelled))
    }

    /// A filter that is a resource's name. A text that no resource can have as its name is an error.
    pub fn name_filter(&self, parameter: &str) -> Result<Option<ResourceName>, Fault> {
        let Some(text) = self.parameter(parameter) else {
            return Ok(None);
        };
        ResourceName::new(text).map(Some).map_err(|error| {
            Fault::bad("validation_invalid_name", format!("{parameter} {error}"))
                .at(Target::parameter(parameter).with_value(text))
        })
    }

    /// A filter that is a resource's id, or its CRN under another parameter name.
    pub fn id_filter<I: From<ResourceBits>>(
        &self,
        id: &str,
        crn: &str,
        kind: &IdKind,
    ) -> Result<Option<I>, Fault> {
        let (parameter, text, bits) = match (self.parameter(id), self.parameter(crn)) {
            (Some(text), _) => (id, text, kind.bits(text)),
            (None, Some(text)) => (crn, text, kind.bits_of_crn(text)),
            (None, None) => return Ok(None),
        };
        bits.map(|bits| Some(I::from(bits))).ok_or_else(|| {
            Fault::bad(
                "invalid_id_format",
                format!("{parameter} is not the id of a {}", kind.resource.words()),
            )
            .at(Target::parameter(parameter).with_value(text))
        })
    }
}

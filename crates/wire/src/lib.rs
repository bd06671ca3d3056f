//! isthmus-wire

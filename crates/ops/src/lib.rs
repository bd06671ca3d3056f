//! isthmus-ops

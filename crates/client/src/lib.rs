//! isthmus-client

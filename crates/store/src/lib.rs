//! isthmus-store
